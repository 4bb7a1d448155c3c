"""What the residual adds to the pictures of a batch, as the encoder finds it."""

import numpy as np
import torch
from torch import Tensor

from hvqcodec.correction import add
from hvqcodec.entropy.residual_coding import Residual
from hvqcodec.image import Pixels
from hvqcodec.residual import CELL, ResidualFitter


@torch.no_grad()
def residual_of(decoded: Tensor, image: Tensor, lambdas: Tensor) -> Tensor:
    """decoded, image: RGB about [0, 1], (B, 3, H, W), sides multiples of 16. lambdas: (B,).
    Returns what is to be added to the first, (B, 3, H, W); none of it learns."""
    found = []
    for shown, original, lambda_ in zip(decoded, image, lambdas.tolist(), strict=True):
        before = to_pixels(shown)
        planes, _ = ResidualFitter(to_pixels(original), before, b"").planes(lambda_)
        after = before.copy()
        add(after, Residual(b"", CELL, planes).grids())
        found.append(torch.from_numpy((after.astype(np.float32) - before) / 255))
    added = torch.stack(found).permute(0, 3, 1, 2).to(decoded.device, decoded.dtype)
    return added.contiguous(memory_format=torch.channels_last)


def to_pixels(picture: Tensor) -> Pixels:
    """RGB about [0, 1], (3, H, W) -> (H, W, 3)."""
    levels = (255 * picture.detach().float()).round().clamp(0, 255).byte()
    pixels: Pixels = levels.permute(1, 2, 0).cpu().numpy()
    return pixels
