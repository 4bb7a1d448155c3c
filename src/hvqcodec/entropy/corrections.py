"""NORMATIVE: what tone and residual, the corrections of decoded pixels, have in common."""

import zlib

import numpy as np

from hvqcodec.arrays import Floats
from hvqcodec.errors import BitstreamError

PLANES = 3
"""Y, Co, Cg."""
SYNTHESIS_BYTES = 2
"""They name the weights by which the pixels are made that a correction is to be added to."""
CHECKSUM_BYTES = 4
RATIO_ONE = 64
FREQUENCY_ONE = 1 << 40
"""Of the value 0."""

Head = tuple[int, int] | None
"""The two bytes that stand for a plane ahead of its values; None if it is missing."""


def geometric(ratio: int, largest: int) -> Floats:
    """(2 * largest + 1,), frequencies of the values from the lowest on; ratio: of neighbouring
    ones, in units of 1 / 64."""
    half = [FREQUENCY_ONE]
    for _ in range(largest):
        half.append(half[-1] * ratio // RATIO_ONE)
    return np.array(half[:0:-1] + half, np.float64)


def sealed(synthesis: bytes, rest: bytes) -> bytes:
    """The body: the name of the synthesis, a CRC-32 over that and the rest, and the rest."""
    return synthesis + zlib.crc32(synthesis + rest).to_bytes(CHECKSUM_BYTES, "little") + rest


def unsealed(body: bytes, what: str) -> tuple[bytes, bytes]:
    """The inverse of `sealed`; raises BitstreamError, about what it is."""
    begin = SYNTHESIS_BYTES + CHECKSUM_BYTES
    synthesis, rest = body[:SYNTHESIS_BYTES], body[begin:]
    if body != sealed(synthesis, rest):
        raise BitstreamError(f"the {what} is damaged: its checksum differs")
    return synthesis, rest


def heads_of(rest: bytes, what: str) -> tuple[list[Head], bytes]:
    """Those of the three planes, and what follows; raises BitstreamError."""
    heads: list[Head] = []
    begin = 0
    for _ in range(PLANES):
        pair = rest[begin : begin + 2]
        missing = pair[:1] == b"\0"
        begin += 1 if missing else 2
        heads.append(None if missing else (pair[0], pair[1]) if len(pair) == 2 else (0, 0))
    if begin > len(rest) or not any(heads):
        raise BitstreamError(f"the {what} is damaged: it has no planes")
    return heads, rest[begin:]
