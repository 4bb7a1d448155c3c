"""NORMATIVE: the granularity map, which block is sent at 16x16, 8x8 or 4x4 pixels per code."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.entropy.constants import LATENT_STRIDE

Levels = NDArray[np.uint8]
"""A granularity map: the level of every 8x8 cell, (H/8, W/8); the four cells of a 16x16 block
are all coarse or none is."""

COARSE, MEDIUM, FINE = 0, 1, 2
"""Levels, in the order in which they are sent."""

BLOCK = (16, 8, 4)
"""Side in pixels of the block that one code of a level stands for."""

LATENT_GRID = BLOCK[COARSE] * LATENT_STRIDE
"""Side in pixels of what one position of z of the coarse level stands for."""


def level_masks(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each level's codes are sent.

    levels: (B, H/8, W/8), the level of every 8x8 cell; the four cells of a
        16x16 block are all coarse or none is.
    Returns booleans, coarse to fine: (B, 1, H/16, W/16), (B, 1, H/8, W/8), (B, 1, H/4, W/4).
    """
    coarse = levels[:, ::2, ::2] == COARSE
    medium = levels == MEDIUM
    fine = (levels == FINE).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return coarse[:, None], medium[:, None], fine[:, None]


def latent_support(mask: Tensor) -> Tensor:
    """(B, 1, h, w) -> (B, 1, ceil(h/4), ceil(w/4)): 1 where any of the blocks is sent;
    elsewhere z is not sent and counts as 0."""
    h, w = mask.shape[-2:]
    padded = F.pad(mask.float(), (0, -w % LATENT_STRIDE, 0, -h % LATENT_STRIDE))
    return F.max_pool2d(padded, LATENT_STRIDE)


def repeat(x: Tensor, times: int) -> Tensor:
    """(B, C, h, w) -> (B, C, h * times, w * times), each value a square."""
    return F.interpolate(x, scale_factor=times, mode="nearest")
