"""The encoder's last word on the granularity map: what the map itself costs counts as well.

`allocation.allocate` looks at every block alone. The flags of the map are coded under
contexts, so a block that goes along with its neighbours is cheaper to tell of, and makes them
cheaper. Here block after block takes what is best given those around it, in a few sweeps:
iterated conditional modes (Besag 1986). Not normative, and not nested over lambda.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvqcodec.arrays import Floats
from hvqcodec.entropy.map_coding import (
    MAP_TABLE_SUM,
    flag_contexts,
    map_costs,
)
from hvqcodec.granularity import COARSE, FINE, MEDIUM, Levels

SWEEPS = 4
"""A fifth changes hardly a block."""

MAP_WEIGHT = 3.0
"""What a bit of the map counts, beside one of the codes: more than itself, since z and the
indices are cheaper too where the map is smooth. Chosen on validation photos."""


def refine(levels: Levels, cost: Floats, lambda_: Floats, tables: NDArray[np.int32]) -> Levels:
    """Maps near `levels` of less cost + `MAP_WEIGHT` x lambda x bits of the map.

    levels: (B, H/8, W/8). cost: (B, 3, H/8, W/8), distortion + lambda x bits of the codes of
    each cell at each level. lambda_: (B,), distortion per bit. tables: of the map, (sets,
    CONTEXTS, 2); each sweep counts with the set that suits a map by then.
    """
    bits = -np.log2(tables / MAP_TABLE_SUM)
    split = np.where(cost[:, FINE] < cost[:, MEDIUM], FINE, MEDIUM).astype(np.uint8)
    for _ in range(SWEEPS):
        suited = [map_costs(one, tables).argmin() for one in levels]
        price = MAP_WEIGHT * lambda_[:, None, None] * bits[suited]
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            # Cells two apart have no flag in common that they bear on; nor have such blocks.
            cells = np.zeros_like(levels)
            cells[:, row::2, column::2] = 1
            blocks = spread(cells[:, : levels.shape[1] // 2, : levels.shape[2] // 2], 2)
            other = np.where(levels == MEDIUM, FINE, MEDIUM).astype(np.uint8)
            levels = better(levels, other, (cells > 0) & (levels != COARSE), cost, price, 1)
            other = np.where(levels == COARSE, split, COARSE).astype(np.uint8)
            levels = better(levels, other, blocks > 0, cost, price, 2)
    return levels


def better(
    levels: Levels, other: Levels, where: NDArray[np.bool_], cost: Floats, price: Floats, side: int
) -> Levels:
    """`other` in those of the squares of `side` cells, of which no two adjoin, that gain by it.

    where: the squares, (B, H/8, W/8). price: of the flags, (B, CONTEXTS, 2).
    """
    tried = np.where(where, other, levels)
    flags = square_sums(flag_cost(tried, price) - flag_cost(levels, price), side)
    change = square_sums(level_cost(tried, cost) - level_cost(levels, cost), side) + flags
    # A square bears on its own flags and on those to its right and below.
    change[:, :, :-1] += flags[:, :, 1:]
    change[:, :-1] += flags[:, 1:]
    return np.where(where & spread(change < 0, side), other, levels)


def flag_cost(levels: Levels, price: Floats) -> Floats:
    """(B, H/8, W/8): of each cell's own flag, and of its block's at the top left one."""
    split_contexts, fine_contexts = flag_contexts(levels)
    image = np.arange(len(levels))[:, None, None]
    split, fine = (levels != COARSE).astype(np.intp), (levels == FINE).astype(np.intp)
    cost: Floats = price[image, fine_contexts, fine] * split
    cost[:, ::2, ::2] += price[image, split_contexts, split[:, ::2, ::2]]
    return cost


def level_cost(levels: Levels, cost: Floats) -> Floats:
    """(B, H/8, W/8), of each cell at its level."""
    chosen: Floats = np.take_along_axis(cost, levels[:, None].astype(np.intp), 1)[:, 0]
    return chosen


def square_sums(cells: Floats, side: int) -> Floats:
    """(B, h, w) -> (B, h / side, w / side)."""
    batch, h, w = cells.shape
    sums: Floats = cells.reshape(batch, h // side, side, w // side, side).sum((2, 4))
    return sums


def spread(squares: NDArray[Any], side: int) -> NDArray[Any]:
    """(..., h, w) -> (..., h * side, w * side)."""
    return squares.repeat(side, -2).repeat(side, -1)
