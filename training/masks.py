"""Granularity maps of every kind for training: the codec must do well on all of them."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.allocation import CODES_PER_CELL, allocate
from hvqcodec.entropy.map_coding import CONTEXTS, MAP_TABLE_SUM, flag_counts
from hvqcodec.granularity import COARSE, FINE, MEDIUM
from hvqcodec.refinement import refine

LAMBDAS = (0.2, 10.0)


class EncoderMaps:
    """Maps as the encoder makes them, refined under tables that follow what is chosen."""

    def __init__(self, sets: int = 6, memory: float = 0.99) -> None:
        self.memory = memory
        self.counts = np.ones((sets, CONTEXTS, 2))
        """Of flags by span of lambda, fading."""

    def __call__(self, distortion: Tensor, code_bits: Tensor, lambdas: Tensor) -> Tensor:
        """distortion: (B, 3, H/8, W/8), of each cell at each level. code_bits: (3,), of one
        code. lambdas: (B,). Returns (B, H/8, W/8)."""
        cell_bits = code_bits * torch.tensor(CODES_PER_CELL, device=code_bits.device)
        levels = allocate(distortion, cell_bits, lambdas)
        rate = lambdas.view(-1, 1, 1, 1)
        cost = (distortion + rate * cell_bits.view(3, 1, 1)).double().cpu().numpy()
        share = self.counts / self.counts.sum(2, keepdims=True)
        tables = (share * (MAP_TABLE_SUM - 2)).astype(np.int32) + 1
        lambda_ = lambdas.double().cpu().numpy()
        refined = refine(levels.to(torch.uint8).cpu().numpy(), cost, lambda_, tables)
        place = np.log(lambda_ / LAMBDAS[0]) / np.log(LAMBDAS[1] / LAMBDAS[0])
        for one, at in zip(refined, (place * len(tables)).astype(int), strict=True):
            counts = self.counts[min(max(at, 0), len(tables) - 1)]
            counts *= self.memory
            counts += flag_counts(one)
        return torch.from_numpy(refined).long().to(levels.device)


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


def random_lambdas(batch: int, low: float = LAMBDAS[0], high: float = LAMBDAS[1]) -> Tensor:
    """(batch,), evenly spread in the logarithm."""
    return torch.empty(batch).uniform_(math.log(low), math.log(high)).exp()
