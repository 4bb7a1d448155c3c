"""NORMATIVE: tone, the colour that the synthesis misses over large areas, as hvqcodec 0.8 sent it.

Three planes, each on a grid of its own cells: what is to be added to Y, Co and Cg. Values are
coded in raster order, each under a two-sided geometric distribution, whose ratio is sent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvqcodec.correction import FRACTION, Grid
from hvqcodec.entropy.corrections import RATIO_ONE, geometric, heads_of, unsealed
from hvqcodec.entropy.range_coding import Decoder
from hvqcodec.errors import BitstreamError

VALUE_MAX = 31
CELLS = range(4, 9)
"""Of which a side may be the logarithm: 16 to 256 pixels."""


def cells(side: int, cell: int) -> int:
    """Cells along a side of so many pixels; cell: the logarithm of its own."""
    return -(-side >> cell)


@dataclass(frozen=True)
class TonePlane:
    """Of one channel."""

    cell: int
    """Logarithm of a cell's side in pixels."""
    step: int
    """1 ... 16, of a value, in levels of 255."""
    values: NDArray[np.int32]
    """(rows, columns), -31 ... 31."""

    def grid(self) -> Grid:
        return Grid(self.cell, self.values * (self.step << FRACTION))


@dataclass(frozen=True)
class Tone:
    """Of an image; a plane without values is None."""

    synthesis: bytes
    """2 bytes that name the weights by which the pixels are made that it is to be added to."""
    planes: tuple[TonePlane | None, ...]
    """Y, Co, Cg."""

    @classmethod
    def from_bytes(cls, body: bytes, height: int, width: int) -> "Tone":
        """height, width: of the image in pixels, multiples of 16. Raises BitstreamError."""
        synthesis, rest = unsealed(body, "tone")
        heads, payload = heads_of(rest, "tone")
        decoder = Decoder(payload)
        planes = tuple(head and decode_plane(decoder, head, height, width) for head in heads)
        decoder.finish()
        return cls(synthesis, planes)

    def grids(self) -> list[Grid | None]:
        """What is to be added to the pixels."""
        return [None if plane is None else plane.grid() for plane in self.planes]


def decode_plane(decoder: Decoder, head: tuple[int, int], height: int, width: int) -> TonePlane:
    cell, step, ratio = head[0] >> 4, (head[0] & 15) + 1, head[1]
    if cell not in CELLS or not 0 < ratio < RATIO_ONE:
        raise BitstreamError("the tone is damaged: a grid or ratio out of range")
    shape = cells(height, cell), cells(width, cell)
    symbols = decoder.decode_alike(geometric(ratio, VALUE_MAX), shape[0] * shape[1])
    return TonePlane(cell, step, (symbols - VALUE_MAX).reshape(shape))
