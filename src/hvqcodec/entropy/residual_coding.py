"""NORMATIVE: the residual, what the synthesis misses at low frequencies, to bytes and back.

Three planes, Y, Co and Cg, each of means over square cells, as a 5/3 wavelet of `LEVELS` levels.
A coefficient's magnitude is coded under one of a few fixed tables; which, follows from the
magnitudes around it in what is known by then: the coarser level, the bands of its own level that
come before and the planes that come before. Bands are coded as a whole, and no coefficient waits
for another of its band.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hvqcodec.arrays import Floats, Ints
from hvqcodec.correction import Grid
from hvqcodec.entropy.corrections import RATIO_ONE, geometric, heads_of, sealed, unsealed
from hvqcodec.entropy.range_coding import Decoder, Encoder
from hvqcodec.entropy.residual_tables import ACTIVITY_EDGES, ACTIVITY_WEIGHTS, MAGNITUDES
from hvqcodec.errors import BitstreamError
from hvqcodec.wavelet import Bands, Shape, inverse, sizes

LEVELS = 5
CELLS = range(2, 7)
"""Of which a side may be the logarithm: 4 to 64 pixels."""
VALUE_MAX, LOW_MAX = 31, 255
"""Of a magnitude in the bands, and in what is left at the coarsest."""
STEPS = range(1, 96)
"""A step's code; 0 stands for a plane that is missing."""
STEP_ONE = 16
"""Steps are in units of 1/16 of a level of 255."""
BAND_WEIGHTS = ((64, 92), (42, 72), (23, 42), (12, 22), (6, 11))
"""Of the step, in units of 1/64, by level, the finest first: in the bands of detail along one
side and along both. About the inverse of how much of an error in them comes back."""
LOW_WEIGHT = 3
WEIGHT_ONE = 64


def step_of(code: int) -> int:
    """About 2^(code / 8 + 3), in units of 1/16 of a level."""
    return (8 + (code & 7)) << (code >> 3)


def units(band: int, level: int) -> int:
    """What a value of a band counts, of its plane's step, in units of 1/64."""
    return BAND_WEIGHTS[level][band == 2]


def band_frequencies() -> Floats:
    """(classes, 2 * VALUE_MAX + 1), of the values from the lowest on."""
    tables = []
    for listed in MAGNITUDES:
        half = list(listed)
        while len(half) <= VALUE_MAX:
            half.append(half[-1] + 1 >> 1)
        tables.append([*half[:0:-1], 2 * half[0], *half[1:]])
    return np.array(tables, np.float64)


BAND_FREQUENCIES = band_frequencies()


@dataclass(frozen=True)
class ResidualPlane:
    """Of one channel."""

    step: int
    """Its code."""
    low: Ints
    """Values at the coarsest, -255 ... 255, (h, w)."""
    bands: Sequence[Sequence[Ints]]
    """Three of each level, the finest first, -31 ... 31."""

    @property
    def is_empty(self) -> bool:
        """Whether it adds nothing."""
        return not (self.low.any() or any(v.any() for three in self.bands for v in three))

    def cells(self) -> Ints:
        """Means over the cells, in units of 1/16 of a level, (rows, columns)."""
        step = step_of(self.step) / WEIGHT_ONE  # a dyadic fraction, as all that follows
        bands: list[Bands] = []
        for level, three in enumerate(self.bands):
            right, down, both = (
                step * units(number, level) * values.astype(np.float64)
                for number, values in enumerate(three)
            )
            bands.append((right, down, both))
        means = inverse(step * LOW_WEIGHT * self.low.astype(np.float64), bands)
        rounded: Ints = np.floor(means + 0.5).astype(np.int32)
        return rounded


@dataclass(frozen=True)
class Residual:
    """Of an image; a plane without values is None."""

    synthesis: bytes
    """2 bytes that name the weights by which the pixels are made that it is to be added to."""
    cell: int
    """Logarithm of a cell's side in pixels."""
    planes: tuple[ResidualPlane | None, ...]
    """Y, Co, Cg."""

    def to_bytes(self) -> bytes:
        head, encoder = bytearray([self.cell]), Encoder()
        for plane in self.planes:
            if plane is None:
                head.append(0)
                continue
            ratio = cheapest_ratio(plane.low)
            head += bytes([plane.step, ratio])
            encoder.encode_alike(plane.low.reshape(-1) + LOW_MAX, geometric(ratio, LOW_MAX))
        sent = {number: plane for number, plane in enumerate(self.planes) if plane is not None}
        known = Known()
        for level, number, band in order(sent):
            values = sent[number].bands[level][band]
            classes = known.classes(number, level, band, values.shape)
            for where, table in placed(classes):
                encoder.encode_alike(values[where] + VALUE_MAX, table)
            known.add(number, level, band, values)
        return sealed(self.synthesis, bytes(head) + encoder.payload())

    @classmethod
    def from_bytes(cls, body: bytes, height: int, width: int) -> "Residual":
        """height, width: of the image in pixels, multiples of 16. Raises BitstreamError."""
        synthesis, rest = unsealed(body, "residual")
        cell = rest[0] if rest else 0
        heads, payload = heads_of(rest[1:], "residual")
        good = all(head[0] in STEPS and 0 < head[1] < RATIO_ONE for head in heads if head)
        if cell not in CELLS or not good:
            raise BitstreamError("the residual is damaged: a cell, step or ratio out of range")
        rows, columns = (-(-side >> cell) for side in (height, width))
        low_shape, shapes = sizes((rows, columns), LEVELS)
        decoder, lows = Decoder(payload), {}
        for number, head in enumerate(heads):
            if head:
                table = geometric(head[1], LOW_MAX)
                symbols = decoder.decode_alike(table, low_shape[0] * low_shape[1])
                lows[number] = (symbols - LOW_MAX).reshape(low_shape)
        known = Known()
        for level, number, band in order(lows):
            shape = shapes[level][band]
            values = np.zeros(shape, np.int32)
            for where, table in placed(known.classes(number, level, band, shape)):
                values[where] = decoder.decode_alike(table, int(where.sum())) - VALUE_MAX
            known.add(number, level, band, values)
        decoder.finish()
        planes = tuple(
            ResidualPlane(head[0], lows[number], known.bands(number)) if head else None
            for number, head in enumerate(heads)
        )
        return cls(synthesis, cell, planes)

    def grids(self) -> list[Grid | None]:
        """What is to be added to the pixels."""
        return [None if plane is None else Grid(self.cell, plane.cells()) for plane in self.planes]


def order(planes: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Level, plane and band of all bands of some planes, as they come."""
    return product(range(LEVELS)[::-1], planes, range(3))


class Known:
    """The coefficients so far."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int, int], Ints] = {}

    def add(self, plane: int, level: int, band: int, values: Ints) -> None:
        self._values[plane, level, band] = values

    def add_plane(self, plane: int, bands: Sequence[Sequence[Ints]]) -> None:
        for level, three in enumerate(bands):
            for band, values in enumerate(three):
                self.add(plane, level, band, values)

    def copy(self) -> "Known":
        other = Known()
        other._values.update(self._values)
        return other

    def bands(self, plane: int) -> list[list[Ints]]:
        return [[self._values[plane, level, band] for band in range(3)] for level in range(LEVELS)]

    def classes(self, plane: int, level: int, band: int, shape: Shape) -> NDArray[np.intp]:
        """The number of the table of each coefficient of a band, from what is around it."""
        rest, *weights = ACTIVITY_WEIGHTS[plane > 0][level][band == 2]
        around = self.around(plane, level, band, shape)
        activity = rest + sum(w * part for w, part in zip(weights, around, strict=True))
        return np.searchsorted(ACTIVITY_EDGES, activity, "right")

    def around(self, plane: int, level: int, band: int, shape: Shape) -> tuple[Ints, Ints, Ints]:
        """Sums of magnitudes in the 3x3 places around each coefficient: of the coarser level, of
        the bands of its level that come before, of the planes that come before."""
        half = shape[0] + 1 >> 1, shape[1] + 1 >> 1
        parent = self._sum([(plane, level + 1, band)], half).repeat(2, 0).repeat(2, 1)
        return (
            parent[: shape[0], : shape[1]],
            self._sum([(plane, level, earlier) for earlier in range(band)], shape),
            self._sum([(earlier, level, band) for earlier in range(plane)], shape),
        )

    def _sum(self, keys: Sequence[tuple[int, int, int]], shape: Shape) -> Ints:
        """(h, w), over some bands."""
        height, width = shape
        plane = np.zeros((height + 2, width + 2), np.int32)
        for values in (self._values[key] for key in keys if key in self._values):
            part = np.abs(values[: height + 1, : width + 1])
            plane[1 : 1 + len(part), 1 : 1 + part.shape[1]] += part
        rows = plane[:-2] + plane[1:-1] + plane[2:]
        total: Ints = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
        return total


def placed(classes: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    """Of each table that comes up in a band, in order: where, and its frequencies."""
    for number in np.unique(classes):
        yield classes == number, BAND_FREQUENCIES[number]


def cheapest_ratio(low: Ints) -> int:
    """1 ... 63, of neighbouring frequencies at the coarsest in units of 1 / 64."""
    ratios = np.arange(1, RATIO_ONE) / RATIO_ONE
    zero = np.log2((1 - ratios) / (1 + ratios))
    bits = -zero * low.size - np.log2(ratios) * int(np.abs(low).sum())
    return int(bits.argmin()) + 1
