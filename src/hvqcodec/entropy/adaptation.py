"""NORMATIVE: tables that learn from a file's own symbols as they come.

What a model expects of all photos is seldom just what one photo has, nor what one place of it
has. So each symbol's probability is multiplied by how often the symbol has come so far over how
often it was expected: by the mean of a rate that is Gamma distributed beforehand, and has been
seen to make Poisson counts. Of the whole file that rate has mean 1 beforehand, near a place the
mean that it has in the file. All values are integers in float64.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hvqcodec.arrays import Floats

Places = NDArray[np.int64]

COUNT_ONE = 1 << 16
"""Counts are in units of 2^-16."""
PRIOR = 2 * COUNT_ONE
FORGETTING = 8
"""Of what has been counted, 2^-8 is forgotten at each piece: old symbols are far away."""
LATENT_FORGETTING = 3
"""Of those of z 2^-3, where indices learn from places."""
GAIN_ONE = 1 << 12
"""Gains are in units of 2^-12."""
GAIN_MIN, GAIN_MAX = 1 << 9, 1 << 16
"""1/8 and 16. What the static share of `tables` loses by rounding is at most a ninth above the
first, so that an index still costs 1 / 1024 bit; sums are exact below the second."""
PIECE, LATENT_PIECE = 32, 8
"""Codes, and positions of z, under the same counts."""
PIECE_MIN, PIECE_MAX = 8, 64
"""Codes, where pieces grow with the file: a sixteenth to a 32nd of what it has brought so far."""
EXPECTED_ONE = 1 << 47
"""What the expectations of one code sum to, all but a little: those of a piece are exact."""

NEAR_PRIOR = 4 * COUNT_ONE
"""One symbol of a cell's own: these count fourfold, those of the cells around twice or once."""
CELL_MIN, CELL_MAX = 6, 12
"""Cells have sides of 2^6 to 2^12 pixels: below 2^53 are all counts then."""
CELL_COUNTS = 1 << 22
"""Cells are as small as leaves at most so many counts: 64 MiB."""


class Adaptation:
    """How often each symbol has come, and how often it was expected."""

    def __init__(self, *shape: int, forgetting: int = FORGETTING) -> None:
        """shape: of the tables; along the last axis stand the symbols."""
        self.counts = np.zeros((2, *shape))
        """Seen and expected, in units of 2^-16."""
        self._kept = 2.0**-forgetting

    def gains(self) -> Floats:
        """What to multiply probabilities by, in units of 2^-12."""
        gains, expected = self.counts + PRIOR
        gains *= GAIN_ONE
        gains /= expected
        return bounded(gains)

    def learn(self, counts: Floats) -> None:
        """counts: of a piece, seen and expected."""
        self.counts += counts - np.floor(self.counts * self._kept)


def bounded(gains: Floats) -> Floats:
    """Rounded down, within `GAIN_MIN` and `GAIN_MAX`; in place."""
    np.floor(gains, out=gains)
    np.maximum(gains, GAIN_MIN, out=gains)
    return np.minimum(gains, GAIN_MAX, out=gains)


class FileAdaptation:
    """Of the indices of a file, wherever they are."""

    def __init__(self, codes: int) -> None:
        self.whole = Adaptation(codes)

    @property
    def piece(self) -> int:
        """So many codes come under the same counts."""
        return PIECE

    def cells(self, level: int, rows: Places, columns: Places) -> Places:
        """Which cell the codes at these places of their level's grid are in. Those of a turn,
        given in raster order, come cell by cell."""
        return np.zeros_like(rows)

    def adapted(self, cells: Sequence[int], likelihoods: Floats) -> Floats:
        """likelihoods (n, K) times their gains, rounded down: of the codes of a piece, in cells
        that rise."""
        found: Floats = likelihoods * (self.whole.gains() / GAIN_ONE)
        return np.floor(found, out=found)

    def learn(self, index: Places, likelihoods: Floats) -> None:
        """From the piece that was adapted to last: its indices (n,), and what they were drawn
        from, (n, K)."""
        self.whole.learn(counted(index, likelihoods, [slice(None)])[0])


class PlaceAdaptation(FileAdaptation):
    """Of the indices of a file, and of each place of the image: square cells of pixels."""

    def __init__(self, codes: int, height: int, width: int, *, growing: bool = True) -> None:
        """height, width: in pixels. growing: whether pieces grow with the file."""
        super().__init__(codes)
        self._growing, self._learned = growing, 0
        self.side = CELL_MIN
        while self.side < CELL_MAX and codes * math.prod(self._grid(height, width)) > CELL_COUNTS:
            self.side += 1
        rows, columns = self._grid(height, width)
        # A border of one cell, so that each has eight around it.
        self._width = columns + 2
        self.near = np.zeros(((rows + 2) * self._width, 2, codes))
        """Seen and expected in each cell, row by row; those to its left and right counted in."""

    @property
    def piece(self) -> int:
        if not self._growing:
            return PIECE
        grown: int = 1 << max(self._learned.bit_length() - 5, 0)
        return min(max(grown, PIECE_MIN), PIECE_MAX)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        return -(-height >> self.side), -(-width >> self.side)

    def cells(self, level: int, rows: Places, columns: Places) -> Places:
        shift = self.side - 4 + level  # a block has a side of 2^(4 - level)
        return ((rows >> shift) + 1) * self._width + (columns >> shift) + 1

    def adapted(self, cells: Sequence[int], likelihoods: Floats) -> Floats:
        # Of a piece two or three cells, one by one and in place: less memory is touched.
        self._cells, self._runs = runs_of(cells)
        near = np.empty((len(self._cells), *self.near.shape[1:]))
        for number, cell in enumerate(self._cells):
            np.add(self.near[cell], self.near[cell], out=near[number])
            near[number] += self.near[cell - self._width]
            near[number] += self.near[cell + self._width]
        gains, expected = near[:, 0], near[:, 1]
        gains *= GAIN_ONE
        gains += self.whole.gains() * NEAR_PRIOR
        expected += NEAR_PRIOR
        gains /= expected
        bounded(gains)
        gains /= GAIN_ONE
        found = np.empty_like(likelihoods)
        for run, gain in zip(self._runs, gains, strict=True):
            np.multiply(likelihoods[run], gain, out=found[run])
        return np.floor(found, out=found)

    def learn(self, index: Places, likelihoods: Floats) -> None:
        counts = counted(index, likelihoods, self._runs)
        self._learned += len(index)
        self.whole.learn(counts.sum(0))
        for cell, once, twice in zip(self._cells, counts, 2 * counts, strict=True):
            self.near[cell - 1] += once
            self.near[cell + 1] += once
            self.near[cell] += twice


def runs_of(cells: Sequence[int]) -> tuple[list[int], list[slice]]:
    """Each cell of a piece, and which of its codes are in it."""
    found: list[int] = []
    runs: list[slice] = []
    first = 0
    for cell, same in itertools.groupby(cells):
        last = first + sum(1 for _ in same)
        found.append(cell)
        runs.append(slice(first, last))
        first = last
    return found, runs


def counted(index: Places, likelihoods: Floats, runs: Sequence[slice]) -> Floats:
    """How often each index came in each run of codes, and how often it was expected, in units of
    2^-16: (runs, 2, K).

    index: (n,). likelihoods: (n, K), what the indices were drawn from.
    """
    shares = np.floor(EXPECTED_ONE / row_sums(likelihoods)) * (COUNT_ONE / EXPECTED_ONE)
    counts = np.zeros((len(runs), 2, likelihoods.shape[1]))
    for run, (seen, expected) in zip(runs, counts, strict=True):
        np.add.at(seen, index[run], float(COUNT_ONE))
        np.dot(shares[run], likelihoods[run], out=expected)
    np.floor(counts[:, 1], out=counts[:, 1])
    return counts


def row_sums(values: Floats) -> Floats:
    """(n, K) -> (n,): as exact as any sum of integers below 2^53, and quicker as a product."""
    sums: Floats = values @ ones(values.shape[1])
    return sums


@cache
def ones(count: int) -> Floats:
    return np.ones(count)
