"""Rules that choose the granularity map, by rate and distortion or by entropy."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.granularity import COARSE, FINE, MEDIUM, Levels

CODES_PER_CELL = (0.25, 1.0, 4.0)
"""Codes that an 8x8 cell takes at each level."""


def allocate(cell_distortion: Tensor, code_bits: Tensor, lambda_: Tensor) -> Tensor:
    """The map that minimises distortion + lambda x bits, block by block.

    cell_distortion: (B, 3, H/8, W/8), distortion of each 8x8 cell, summed over its
        pixels, if sent coarse, medium, fine.
    code_bits: (3,) or (B, 3, H/8, W/8), bits of the codes of a cell at each level; a
        coarse code counts a quarter in each of its four cells.
    lambda_: (B,), distortion per bit.
    Returns levels, (B, H/8, W/8) int64. Since finer never costs less, the maps of
    falling lambdas are nested: no block gets coarser (as in BFOS tree pruning).
    """
    # In doubles, since the rounding of single ones can undo the nesting where levels tie.
    cell_distortion, code_bits = cell_distortion.double(), code_bits.double()
    bits = code_bits.view(3, 1, 1) if code_bits.ndim == 1 else code_bits
    bits = bits.expand_as(cell_distortion)
    medium_bits = bits[:, MEDIUM].maximum(bits[:, COARSE])
    fine_bits = bits[:, FINE].maximum(medium_bits)
    rate = lambda_.view(-1, 1, 1)
    medium = cell_distortion[:, MEDIUM] + rate * medium_bits
    fine = cell_distortion[:, FINE] + rate * fine_bits
    coarse = cell_distortion[:, COARSE] + rate * bits[:, COARSE]
    split_wins = block_sum(torch.minimum(medium, fine)) < block_sum(coarse)
    cells = torch.where(fine < medium, FINE, MEDIUM)
    split_wins = split_wins.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return torch.where(split_wins, cells, COARSE)


def block_sum(cells: Tensor) -> Tensor:
    """(B, H/8, W/8) -> (B, H/16, W/16)."""
    return F.avg_pool2d(cells[:, None], 2)[:, 0] * 4


def allocate_by_entropy(grey: NDArray[np.uint8], ratios: tuple[float, float, float]) -> Levels:
    """Control-GIC's rule (arXiv 2406.00758, section 3.2): blocks of 16x16 ranked by the
    entropy of their grey histogram; the shares `ratios` (fine, medium, coarse) set the cuts.

    grey: (H, W), sides multiples of 16.
    ratios: three shares of 1 (`rate.check_choices`).
    Returns levels, (H/8, W/8).
    Blocks as dull as the first one beyond a cut stay
    beyond it, so that ties never get finer: a flat image is all coarse, unless coarse
    has no share.
    """
    rows = range(0, len(grey), 16)
    entropy = np.array([block_entropies(grey[top : top + 16]) for top in rows])  # (H/16, W/16)
    ranked = np.sort(entropy, None)[::-1]
    levels = np.full(entropy.shape, COARSE, np.uint8)
    for level, part in ((MEDIUM, ratios[0] + ratios[1]), (FINE, ratios[0])):
        count = round(part * entropy.size)
        if count >= entropy.size:  # shares may add up to a little more than 1
            levels[:] = level
        elif count:
            levels[entropy > ranked[count]] = level
    return levels.repeat(2, 0).repeat(2, 1)


def block_entropies(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(16, W) -> (W / 16,), in bits, of the histogram of each block."""
    blocks = grey.shape[1] // 16
    place = 256 * (np.arange(grey.shape[1]) // 16) + grey
    share = np.bincount(place.ravel(), minlength=256 * blocks).reshape(blocks, 256) / 256
    entropy: NDArray[np.float64] = -(share * np.log2(np.maximum(share, 1e-12))).sum(1)
    return entropy
