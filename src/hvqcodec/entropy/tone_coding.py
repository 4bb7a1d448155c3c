"""NORMATIVE: tone, the colour that the synthesis misses over large areas, to bytes and back.

Three planes, each on a grid of its own cells: what is to be added to Y, Co and Cg. Values are
coded in raster order, each under a two-sided geometric distribution, whose ratio is sent.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hvqcodec.entropy.range_coding import Decoder, Encoder, Floats
from hvqcodec.errors import BitstreamError

PLANES = 3
VALUE_MAX = 31
CELLS = range(4, 9)
"""Of which a side may be the logarithm: 16 to 256 pixels."""
RATIO_ONE = 64
FREQUENCY_ONE = 1 << 40
"""Of the value 0."""
SYNTHESIS_BYTES = 2
CHECKSUM_BYTES = 4


def grid(side: int, cell: int) -> int:
    """Cells along a side of so many pixels; cell: the logarithm of its own."""
    return -(-side >> cell)


def frequencies(ratio: int) -> Floats:
    """(2 * VALUE_MAX + 1,), of the values from the lowest on."""
    half = [FREQUENCY_ONE]
    for _ in range(VALUE_MAX):
        half.append(half[-1] * ratio // RATIO_ONE)
    return np.array(half[:0:-1] + half, np.float64)


@dataclass(frozen=True)
class TonePlane:
    """Of one channel."""

    cell: int
    """Logarithm of a cell's side in pixels."""
    step: int
    """1 ... 16, of a value, in levels of 255."""
    values: NDArray[np.int32]
    """(rows, columns), -31 ... 31."""

    @cached_property
    def ratio(self) -> int:
        """1 ... 63, of neighbouring frequencies in units of 1 / 64: the cheapest."""
        return int(self._bits.argmin()) + 1

    @property
    def bits(self) -> float:
        """What the values cost."""
        return float(self._bits.min())

    @cached_property
    def _bits(self) -> Floats:
        ratios = np.arange(1, RATIO_ONE) / RATIO_ONE
        total = int(np.abs(self.values).sum())
        zero = np.log2((1 - ratios) / (1 + ratios))
        bits: Floats = -zero * self.values.size - np.log2(ratios) * total
        return bits


@dataclass(frozen=True)
class Tone:
    """Of an image; a plane without values is None."""

    synthesis: bytes
    """2 bytes that name the weights by which the pixels are made that it is to be added to."""
    planes: tuple[TonePlane | None, ...]
    """Y, Co, Cg."""

    def to_bytes(self) -> bytes:
        head, encoder = bytearray(), Encoder()
        for plane in self.planes:
            if plane is None:
                head.append(0)
                continue
            head += bytes([plane.cell << 4 | plane.step - 1, plane.ratio])
            encoder.encode_alike(plane.values.reshape(-1) + VALUE_MAX, frequencies(plane.ratio))
        return sealed(self.synthesis, bytes(head) + encoder.payload())

    @classmethod
    def from_bytes(cls, body: bytes, height: int, width: int) -> "Tone":
        """height, width: of the image in pixels, multiples of 16. Raises BitstreamError."""
        begin = SYNTHESIS_BYTES + CHECKSUM_BYTES
        synthesis, rest = body[:SYNTHESIS_BYTES], body[begin:]
        if body != sealed(synthesis, rest):
            raise BitstreamError("the tone is damaged: its checksum differs")
        heads, begin = [], 0
        for _ in range(PLANES):
            size = 1 if rest[begin : begin + 1] == b"\0" else 2
            heads.append(rest[begin : begin + size])
            begin += size
        if begin > len(rest) or all(len(head) == 1 for head in heads):
            raise BitstreamError("the tone is damaged: it has no planes")
        decoder = Decoder(rest[begin:])
        planes = tuple(
            decode_plane(decoder, head, height, width) if len(head) == 2 else None for head in heads
        )
        decoder.finish()
        return cls(synthesis, planes)


def sealed(synthesis: bytes, rest: bytes) -> bytes:
    """The body: the name of the synthesis, a CRC-32 over that and the rest, and the rest."""
    return synthesis + zlib.crc32(synthesis + rest).to_bytes(CHECKSUM_BYTES, "little") + rest


def decode_plane(decoder: Decoder, head: bytes, height: int, width: int) -> TonePlane:
    """head: the two bytes that `Tone.to_bytes` writes of a plane ahead of the values."""
    cell, step, ratio = head[0] >> 4, (head[0] & 15) + 1, head[1]
    if cell not in CELLS or not 0 < ratio < RATIO_ONE:
        raise BitstreamError("the tone is damaged: a grid or ratio out of range")
    shape = grid(height, cell), grid(width, cell)
    symbols = decoder.decode_alike(frequencies(ratio), shape[0] * shape[1])
    return TonePlane(cell, step, (symbols - VALUE_MAX).reshape(shape))
