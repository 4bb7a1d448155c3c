"""What is added to decoded pixels: grids of corrections, smoothly interpolated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvqcodec.arrays import Ints, Pixels

FRACTION = 4
"""Corrections are in units of 2^-4 of a level of 255."""
ROWS = 256
"""Of pixels at a time: bounds the memory."""


@dataclass(frozen=True)
class Grid:
    """Of one channel."""

    cell: int
    """Logarithm of a cell's side in pixels."""
    values: Ints
    """(rows, columns): what is to be added at the middles of the cells."""

    def at(self, rows: slice, width: int) -> Ints:
        """(R, W): what is to be added at some rows of pixels."""
        above, below, down = self._between(rows.start, rows.stop, len(self.values))
        left, right, across = self._between(0, width, self.values.shape[1])
        first, size = above[0], 2 << self.cell
        values = self.values[first : below[-1] + 1].astype(np.int64)
        columns = values[:, left] * (size - across) + values[:, right] * across
        down = down[:, None]
        mixed = columns[above - first] * (size - down) + columns[below - first] * down
        shift = 2 * self.cell + 2
        rounded: Ints = (mixed + (1 << shift - 1) >> shift).astype(np.int32)
        return rounded

    def _between(
        self, start: int, stop: int, cells: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """For each pixel along a side the cells before and behind it, and what the second counts;
        beyond the middles of the outer cells only these count."""
        size = 1 << self.cell
        at = 2 * np.arange(start, stop, dtype=np.int64) + 1 - size
        before = at >> self.cell + 1
        return before.clip(0, cells - 1), (before + 1).clip(0, cells - 1), at & 2 * size - 1


def add(pixels: Pixels, grids: Sequence[Grid | None]) -> None:
    """To pixels, (H, W, 3), in place. grids: of Y, Co and Cg, for sides that are multiples of 16;
    None adds nothing."""
    height, width = pixels.shape[:2]
    for start in range(0, height, ROWS):
        rows = slice(start, min(start + ROWS, height))
        zero = np.zeros((rows.stop - rows.start, width), np.int32)
        y, co, cg = (grid.at(rows, width) if grid else zero for grid in grids)
        half = 1 << FRACTION - 1
        for channel, change in enumerate((y + co - cg, y + cg, y - co - cg)):
            moved = pixels[rows, :, channel] + (change + half >> FRACTION)
            pixels[rows, :, channel] = moved.clip(0, 255)
