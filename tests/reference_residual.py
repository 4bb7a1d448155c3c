"""Reference decoder of the residual of `.hvq` files, written from format.md alone."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np

from tests.reference_decoder import PLAIN, ByteReader, RangeDecoder, parse, require, windows

RESIDUAL = 133
Plane = tuple[int, np.ndarray, list] | None  # step code, rest, bands[level - 1][band]
PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")


def table(pattern: str, *shape: int) -> np.ndarray:
    """Read an array of section 10: the group of each line of it that the pattern matches."""
    section = PAGE.split("\n## 10. Residual\n")[1].split("\n## ")[0]
    numbers = " ".join(re.findall(f"^{pattern}$", section, re.MULTILINE)).replace("|", " ").split()
    return np.array(numbers, np.int64).reshape(shape)


EDGES = table(r" {4}((?:\d+ )+\d+)", 13)
WEIGHTS = table(r"\| (?:Y|Co, Cg) \| \d \| ([\d |]+) \|", 2, 5, 2, 4)  # Y or not, level, band, w
FREQUENCIES = table(r" +\d+: ([\d ]+)", 14, 16)
HALVES = -(-FREQUENCIES[:, 15:] >> np.arange(1, 17))  # halving and rounding up n times is this
TABLES = np.hstack([2 * FREQUENCIES[:, :1], FREQUENCIES[:, 1:], HALVES])[:, abs(np.arange(-31, 32))]
UNITS = table(r"\| \d \| (\d+ \| \d+) \|", 5, 2)[:, [0, 0, 1]]  # level, band
REST_UNIT = table(r"(?:.* )?v \* step \* (\d+)\b.*", 1)[0]


def around(grids: list[np.ndarray], shape: tuple[int, int], shift: int) -> np.ndarray:
    """Sum the magnitudes of all grids about (y >> shift, x >> shift), for all (y, x) of shape."""
    total, places = np.zeros(shape, np.int64), np.ix_(*(np.arange(side) >> shift for side in shape))
    for grid in grids:  # its sides may be one short of what is asked for
        total += windows(np.pad(abs(grid), (0, 1))[None], 3).sum(axis=(0, 1, 2))[places]
    return total


def decode(body: bytes, height: int, width: int) -> tuple[int, list[Plane]]:
    """Decode the body of the section, given the sides of the image in whole blocks."""
    reader = ByteReader(body)
    synthesis, checksum = reader.take(2), reader.take(4)
    require(struct.pack("<I", zlib.crc32(synthesis + body[6:])) == checksum, "another checksum")
    c = reader.take(1)[0]
    heads = [(code := reader.take(1)[0], reader.take(1)[0] if code else 0) for _ in range(3)]
    there = [i for i, (code, _) in enumerate(heads) if code]
    in_range = 2 <= c <= 6 and all(heads[i][0] <= 95 and 1 <= heads[i][1] <= 63 for i in there)
    require(in_range and there != [], "bounds, or no planes")
    words = body[reader.position :]
    require(len(words) % 4 == 0, "not a sequence of 32-bit words")
    decoder, rests = RangeDecoder({PLAIN: words}), {}
    known: dict[tuple[int, int, int], np.ndarray] = {}  # the bands by plane, level, band
    sides = [(-(-height // 2**n), -(-width // 2**n)) for n in range(c, c + 6)]  # 5: of the rest
    for i in there:
        frequencies = [2**40]
        for _ in range(255):  # from 0 outwards
            frequencies = [outer := (frequencies[0] * heads[i][1]) >> 6, *frequencies, outer]
        rests[i] = np.zeros(sides[5], np.int64)
        for place in range(rests[i].size):
            rests[i].flat[place] = decoder.decode(np.array(frequencies)) - 255
    order = [(i, level, b) for level in range(5, 0, -1) for i in there for b in range(3)]
    for i, level, b in order:
        h, w = sides[level - 1]
        shape = (h + (b == 0)) // 2, (w + (b == 1)) // 2
        parent = around([known[i, level + 1, b]] if level < 5 else [], shape, 1)
        siblings = around([known[i, level, before] for before in range(b)], shape, 0)
        others = around([known[j, level, b] for j in there if j < i], shape, 0)
        w0, w1, w2, w3 = WEIGHTS[min(i, 1), level - 1, b // 2]
        activity = w0 + w1 * parent + w2 * siblings + w3 * others
        classes = np.searchsorted(EDGES, activity, side="right")
        known[i, level, b] = np.zeros(shape, np.int64)
        for place in np.argsort(classes, axis=None, kind="stable"):
            known[i, level, b].flat[place] = decoder.decode(TABLES[classes.flat[place]]) - 31
    require(not list(decoder.words) and decoder.offset < 2**33 - 1, "its end")
    bands = [[[known.get((i, n, b)) for b in range(3)] for n in range(1, 6)] for i in range(3)]
    return c, [(heads[i][0], rests[i], bands[i]) if i in there else None for i in range(3)]


def residual(data: bytes) -> tuple[int, list[Plane]] | None:
    """Return c and the planes Y, Co and Cg of a file, None if it has no such section."""
    header, sections = parse(data)
    try:
        body = sections.get(RESIDUAL)
        height, width = (-(-header[side] // 16) * 16 for side in ("height", "width"))
        return None if body is None else decode(body, height, width)
    except ValueError as error:
        raise ValueError(f"damaged residual: {error}") from error


def residual_bytes(c: int, planes: list[Plane]) -> bytes:
    """Return c, then step code, rest and bands of each plane, a zero byte for a missing one."""
    parts = [bytes([c])]
    for code, rest, bands in (plane or (0, np.zeros(0), []) for plane in planes):
        parts += [bytes([code]), rest.astype("<i2").tobytes()]
        parts += [grid.astype(np.int8).tobytes() for level in bands for grid in level]
    return b"".join(parts)


def join(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Join low and high along the first axis, of n places."""
    n, i = len(low) + len(high), np.arange(len(low))
    if not len(high):
        return low
    padded = np.concatenate([high[:1], high, high[-1:]])  # padded[i] is high(i - 1)
    even = low - (padded[i] + padded[i + 1]) / 4
    odd = padded[i + 1] + (even + even[np.minimum(i + 1, len(low) - 1)]) / 2
    return np.stack([even, odd], axis=1).reshape(2 * len(low), *low.shape[1:])[:n]


def cells(code: int, rest: np.ndarray, bands: list) -> np.ndarray:
    """Undo the wavelet of a plane; return its cells, in units of 1/16 of a level of 255."""
    step = np.float64((8 + (code & 7)) << (code >> 3))
    x = rest * step * REST_UNIT
    for units, grids in zip(UNITS[::-1], bands[::-1], strict=True):
        b0, b1, b2 = (grid * step * unit for grid, unit in zip(grids, units, strict=True))
        x = join(join(x, b1).T, join(b0, b2).T).T
    return np.floor(x / 64 + 0.5).astype(np.int64)


def add_residual(pixels: np.ndarray, c: int, planes: list[Plane]) -> np.ndarray:
    """Add the residual to pixels (height, width, 3), whose sides are multiples of 16."""
    residuals = np.zeros((3, *pixels.shape[:2]), np.int64)
    for i, plane in ((i, plane) for i, plane in enumerate(planes) if plane):
        d = cells(*plane)
        for side in pixels.shape[:2]:  # the rows, then the columns: each time d is transposed
            node, p = np.divmod(2 * np.arange(side) + 1 - 2**c, 2 ** (c + 1))
            first, second = (d[np.clip(k, 0, len(d) - 1)].T for k in (node, node + 1))
            d = (2 ** (c + 1) - p) * first + p * second
        residuals[i] = (d + 2 ** (2 * c + 1)) >> (2 * c + 2)
    rgb = np.einsum("cp,pyx->yxc", [[1, 1, -1], [1, 0, 1], [1, -1, -1]], residuals)
    return np.clip(pixels + ((rgb + 8) >> 4), 0, 255).astype(np.uint8)
