"""Granularity maps of every kind for training: the codec must do well on all of them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.granularity import COARSE, FINE, MEDIUM


def random_maps(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """Maps (batch, height, width) of 8x8 cells: of one level, scattered, or clustered,
    with random ratios."""
    return torch.stack([random_map(height, width) for _ in range(batch)]).to(device)


def random_map(height: int, width: int) -> Tensor:
    kind = torch.rand(()).item()
    if kind < 0.3:
        level = (COARSE, MEDIUM, FINE, FINE)[int(torch.randint(4, ()))]
        return torch.full((height, width), level)
    smooth = 0 if kind < 0.6 else int(torch.randint(1, 4, ()))
    split = field(height // 2, width // 2, smooth)
    fine = field(height, width, 2 * smooth)
    cells = torch.where(fine, FINE, MEDIUM)
    return torch.where(split.repeat_interleave(2, 0).repeat_interleave(2, 1), cells, COARSE)


def field(height: int, width: int, smooth: int) -> Tensor:
    """Booleans, of which a random share is true, in clusters of about `smooth` cells."""
    noise = torch.randn(1, 1, height, width)
    if smooth:
        noise = F.avg_pool2d(F.pad(noise, (smooth,) * 4, "replicate"), 2 * smooth + 1, 1)
    flat = noise.flatten()
    return (noise >= torch.quantile(flat, torch.rand(()))).view(height, width)


def random_lambdas(batch: int, low: float = 0.2, high: float = 10.0) -> Tensor:
    """(batch,), evenly spread in the logarithm."""
    return torch.empty(batch).uniform_(math.log(low), math.log(high)).exp()
