"""A second decoder to the symbols, written from docs/format.md in plain integers.

Slow, and no line in common with the package: where the two differ, one of them or the
page is wrong. The tensors are the model's normative ones as numpy arrays.
"""

import math
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Tensors = Mapping[str, NDArray[np.generic]]


class RangeDecoder:
    """Section 2; `read` counts the words that decoding took, zeros beyond the end included."""

    def __init__(self, payload: bytes) -> None:
        self.words = struct.unpack(f"<{len(payload) // 4}I", payload)
        self.read = 0
        self.lower, self.range = 0, 2**64 - 1
        self.point = self.word() << 32
        self.point += self.word()

    def word(self) -> int:
        self.read += 1
        return self.words[self.read - 1] if self.read <= len(self.words) else 0

    def decode(self, frequencies: Sequence[int]) -> int:
        left = intervals(frequencies)
        unit = self.range >> 24
        quantile = ((self.point - self.lower) % 2**64) // unit
        assert quantile < 2**24, "damaged"
        symbol = next(k for k in range(len(frequencies)) if quantile < left[k + 1])
        self.lower = (self.lower + unit * left[symbol]) % 2**64
        self.range = unit * (left[symbol + 1] - left[symbol])
        if self.range < 2**32:
            self.lower = (self.lower << 32) % 2**64
            self.range <<= 32
            self.point = ((self.point << 32) + self.word()) % 2**64
        return symbol


def intervals(frequencies: Sequence[int]) -> list[int]:
    """left_0 ... left_K."""
    scale = float(2**24 - len(frequencies)) / float(sum(frequencies))
    left, total = [], 0
    for k, frequency in enumerate(frequencies):
        left.append(math.floor(float(total) * scale) + k)
        total += frequency
    return [*left, 2**24]


def decode_map(decoder: RangeDecoder, rows: int, columns: int, tensors: Tensors) -> Ints:
    """Section 4."""
    tables = tensors["map_tables"]
    chosen = tables[decoder.decode([1] * len(tables))].tolist()
    levels = np.zeros((2 * rows, 2 * columns), np.int64)

    def level(y: int, x: int) -> int:
        return int(levels[y, x]) if y >= 0 and x >= 0 else 0

    for y in range(0, 2 * rows, 2):
        for x in range(0, 2 * columns, 2):
            if not decoder.decode(chosen[(level(y, x - 1) > 0) + 2 * (level(y - 1, x) > 0)]):
                continue
            for v, u in ((y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)):
                fine = decoder.decode(chosen[4 + level(v, u - 1) + 3 * level(v - 1, u)])
                levels[v, u] = 1 + fine
    return levels


def sent_masks(levels: Ints) -> list[NDArray[np.bool_]]:
    """Where each level's codes are sent, on its own grid."""
    fine = (levels == 2).repeat(2, 0).repeat(2, 1)
    return [levels[::2, ::2] == 0, levels == 1, fine]


def decode_latents(
    decoder: RangeDecoder, level: int, mask: NDArray[np.bool_], tensors: Tensors
) -> Ints:
    """Section 5."""
    tables = tensors["latent_tables"][level].tolist()
    height, width = (-(-side // 4) for side in mask.shape)
    z = np.zeros((len(tables), height, width), np.int64)
    for y in range(height):
        for x in range(width):
            if mask[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].any():
                z[:, y, x] = [decoder.decode(table) - 15 for table in tables]
    return z


def convolve(x: Ints, weight: Ints, bias: Ints) -> Ints:
    outputs, _, kernel, _ = weight.shape
    _, height, width = x.shape
    margin = (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    acc = np.zeros((outputs, height, width), np.int64) + bias[:, None, None]
    for i in range(kernel):
        for j in range(kernel):
            window = padded[:, i : i + height, j : j + width]
            acc += np.einsum("oc,cyx->oyx", weight[:, :, i, j], window)
    return acc


def shuffle(x: Ints) -> Ints:
    channels, height, width = x.shape
    out = np.zeros((channels // 4, 2 * height, 2 * width), np.int64)
    for i in range(2):
        for j in range(2):
            out[:, i::2, j::2] = x[2 * i + j :: 4]
    return out


def requantise(acc: Ints, shift: int, low: int, high: int) -> Ints:
    return np.clip((acc + (1 << (shift - 1))) >> shift, low, high)


def hyper_synthesis(
    level: int, z: Ints, mask: NDArray[np.bool_], tensors: Tensors
) -> tuple[Ints, Ints]:
    """Section 6: mu and the number of sigma, (D, h, w) each."""
    s1, s2, s3, s_mu, s_step, one = tensors[f"hyper.{level}.formats"].tolist()

    def conv(number: int, x: Ints) -> Ints:
        name = f"hyper.{level}.conv{number}"
        weight = tensors[f"{name}.weight"].astype(np.int64)
        return convolve(x, weight, tensors[f"{name}.bias"].astype(np.int64))

    height, width = mask.shape
    x = requantise(conv(1, z), s1, 0, 32767)
    x = shuffle(requantise(conv(2, x), s2, 0, 32767))
    whole = np.zeros((2 * x.shape[1], 2 * x.shape[2]), np.int64)
    whole[:height, :width] = mask
    folded = [one * whole[i::2, j::2] for i in range(2) for j in range(2)]
    x = requantise(conv(3, np.concatenate([x, np.stack(folded)])), s3, 0, 32767)
    acc = shuffle(conv(4, x))[:, :height, :width]
    d = len(acc) // 2
    return requantise(acc[:d], s_mu, -8192, 8192), requantise(acc[d:], s_step, 0, 63)


def frequencies(level: int, mu: Sequence[int], step: Sequence[int], tensors: Tensors) -> list[int]:
    """Section 6, 'Frequencies', of one position."""
    variance = tensors["index_tables.inverse_variance"].tolist()
    w = [variance[t] for t in step]
    logits = []
    for b, entry in zip(
        tensors["index_tables.log_prior"][level].tolist(),
        tensors["index_tables.entries"].tolist(),
        strict=True,
    ):
        terms = (2 * wd * md * ed - wd * ed * ed for wd, md, ed in zip(w, mu, entry, strict=True))
        logits.append((b + sum(terms)) >> 25)
    exponential = tensors["index_tables.exponential"]
    table = [int(exponential[min(max(logits) - g, 4608)]) for g in logits]
    share = sum(table) >> 24
    static = tensors["index_tables.static"][level].tolist()
    return [t + share * s for t, s in zip(table, static, strict=True)]


def decode_symbols(
    payload: bytes, rows: int, columns: int, tensors: Tensors
) -> tuple[Ints, list[Ints], list[list[int]]]:
    """Section 3: map, z by level, indices by level."""
    decoder = RangeDecoder(payload)
    levels = decode_map(decoder, rows, columns, tensors)
    masks = sent_masks(levels)
    latents = [decode_latents(decoder, level, mask, tensors) for level, mask in enumerate(masks)]
    indices: list[list[int]] = []
    for level, (z, mask) in enumerate(zip(latents, masks, strict=True)):
        mu, step = hyper_synthesis(level, z, mask, tensors)
        rows_of = zip(mu[:, mask].T.tolist(), step[:, mask].T.tolist(), strict=True)
        indices.append([decoder.decode(frequencies(level, m, s, tensors)) for m, s in rows_of])
    assert len(decoder.words) in (decoder.read, decoder.read - 1), "damaged"
    return levels, latents, indices


def checksum(levels: Ints, latents: Sequence[Ints], indices: Sequence[Sequence[int]]) -> int:
    """Section 6, 'Checksum'."""
    crc = zlib.crc32(levels.astype(np.uint8).tobytes())
    for z, mask in zip(latents, sent_masks(levels), strict=True):
        for y in range(z.shape[1]):
            for x in range(z.shape[2]):
                if mask[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].any():
                    crc = zlib.crc32(z[:, y, x].astype(np.int8).tobytes(), crc)
    for index in indices:
        crc = zlib.crc32(struct.pack(f"<{len(index)}H", *index), crc)
    return crc
