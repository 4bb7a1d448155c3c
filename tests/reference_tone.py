"""Reference decoder of the tone of `.hvq` files, written from format.md alone."""

import struct
import zlib

import numpy as np

from tests.reference_decoder import PLAIN, ByteReader, RangeDecoder, parse, require

TONE = 132
Plane = tuple[int, int, np.ndarray] | None  # of the tone: s, step, values; None if missing


def tone_bytes(planes: list[Plane]) -> bytes:
    """Return the planes as bytes: s, step and values of each, a zero byte for a missing one."""
    return b"".join(bytes(p[:2]) + np.int8(p[2]).tobytes() if p else b"\0" for p in planes)


def tone(data: bytes) -> list[Plane] | None:
    """Return the planes Y, Co and Cg of the tone, None if the file has no such section."""
    header, sections = parse(data)
    if TONE not in sections:
        return None
    reader = ByteReader(sections[TONE])
    synthesis, checksum = reader.take(2), reader.take(4)
    rest = sections[TONE][6:]
    require(struct.pack("<I", zlib.crc32(synthesis + rest)) == checksum, "wrong tone checksum")
    heads = [(head := reader.take(1)[0], reader.take(1)[0] if head else 0) for _ in range(3)]
    require(any(head for head, _ in heads), "a tone without planes")
    in_range = all(4 <= head >> 4 <= 8 and 1 <= r <= 63 for head, r in heads if head)
    words = reader.data[reader.position :]
    require(in_range and len(words) % 4 == 0, "damaged tone: bounds or length")
    decoder, planes = RangeDecoder({PLAIN: words}), [None, None, None]
    for i, (head, r) in enumerate(heads):
        if head:
            s, frequencies = head >> 4, [2**40]
            for _ in range(31):  # from 0 outwards
                frequencies = [outer := (frequencies[0] * r) >> 6, *frequencies, outer]
            rows, columns = (-(-header[side] // 2**s) for side in ("height", "width"))
            values = [decoder.decode(frequencies) - 31 for _ in range(rows * columns)]
            planes[i] = s, head % 16 + 1, np.array(values, np.int8).reshape(rows, columns)
    require(not list(decoder.words) and decoder.offset < 2**33 - 1, "damaged tone: its end")
    return planes


def add_tone(pixels: np.ndarray, planes: list[Plane]) -> np.ndarray:
    """Add the tone to pixels (height, width, 3), whose sides are multiples of 16."""
    tones = np.zeros((3, *pixels.shape[:2]), np.int64)
    for i, (s, step, values) in ((i, plane) for i, plane in enumerate(planes) if plane):
        d = step * values.astype(np.int64)
        for side in pixels.shape[:2]:  # the rows, then the columns: each time d is transposed
            node, p = np.divmod(2 * np.arange(side) + 1 - 2**s, 2 ** (s + 1))
            first, second = (d[np.clip(k, 0, len(d) - 1)].T for k in (node, node + 1))
            d = (2 ** (s + 1) - p) * first + p * second
        tones[i] = (d + 2 ** (2 * s - 3)) >> (2 * s - 2)
    rgb = np.einsum("cp,pyx->yxc", [[1, 1, -1], [1, 0, 1], [1, -1, -1]], tones)
    return np.clip(pixels + ((rgb + 8) >> 4), 0, 255).astype(np.uint8)
