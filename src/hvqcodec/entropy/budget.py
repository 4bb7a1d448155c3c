"""Where the bits of a file go: ideal code lengths by part."""

import numpy as np
import torch

from hvqcodec.arrays import Floats, Ints
from hvqcodec.bitstream import WRITTEN, Scope
from hvqcodec.entropy.map_coding import map_costs
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.symbol_coding import (
    Symbols,
    adaptation_of,
    coded_after_map,
    index_frequencies,
    index_maps,
)
from hvqcodec.entropy.tables import STATIC_BITS
from hvqcodec.granularity import COARSE, MEDIUM


def code_lengths(symbols: Ints, frequencies: Floats) -> Floats:
    """Bits (N,) of symbols (N,) under frequencies (N, K)."""
    chosen = np.take_along_axis(frequencies, symbols[:, None].astype(np.int64), 1)[:, 0]
    bits: Floats = np.log2(frequencies.sum(1)) - np.log2(np.maximum(chosen, 1e-9))
    return bits


def bit_budget(normative: Normative, symbols: Symbols, scope: Scope = WRITTEN) -> dict[str, float]:
    """Bits by part, and `static_bits`: what the same indices would cost under the
    static frequencies of their level."""
    tables = normative.map_tables
    map_bits = np.log2(len(tables)) + map_costs(symbols.levels, tables).min()
    budget = {"map_bits": float(map_bits), "z_bits": 0.0, "index_bits": 0.0, "static_bits": 0.0}
    for part, _, piece, frequencies in coded_after_map(normative, symbols, scope):
        budget[f"{part}_bits"] += float(code_lengths(piece, frequencies).sum())
    for static, index in zip(normative.index_tables.static.numpy(), symbols.indices, strict=True):
        bits = STATIC_BITS - np.log2(np.maximum(static, 0.5))
        budget["static_bits"] += float(bits[index].sum())
    return budget


def index_bits_by_cell(normative: Normative, symbols: Symbols, scope: Scope = WRITTEN) -> Floats:
    """Bits of the indices of each 8x8 cell, (2 * rows, 2 * columns); a coarse code counts a
    quarter in each of its four."""
    cells = np.zeros(symbols.levels.shape)
    masks = [torch.from_numpy(mask) for mask in symbols.masks()]
    maps = index_maps(symbols)
    adaptation = adaptation_of(normative, symbols.levels, scope)
    for level, z in enumerate(symbols.latents):
        pieces = index_frequencies(normative, level, z, masks, maps, adaptation)
        for rows, columns, frequencies in pieces:
            index = maps[level].numpy()[rows, columns].astype(np.int32)
            bits = code_lengths(index, frequencies)
            if level == COARSE:
                for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    cells[2 * rows + y, 2 * columns + x] = bits / 4
            elif level == MEDIUM:
                cells[rows, columns] = bits
            else:
                np.add.at(cells, (rows // 2, columns // 2), bits)
    return cells
