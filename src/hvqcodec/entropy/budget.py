"""Where the bits of a file go: ideal code lengths by part."""

import numpy as np

from hvqcodec.entropy.map_coding import map_costs
from hvqcodec.entropy.range_coding import Floats, Ints
from hvqcodec.entropy.symbol_coding import Normative, Symbols, coded_after_map
from hvqcodec.entropy.tables import STATIC_BITS


def code_length(symbols: Ints, frequencies: Floats) -> float:
    """Bits of symbols (N,) under frequencies (N, K)."""
    chosen = np.take_along_axis(frequencies, symbols[:, None].astype(np.int64), 1)[:, 0]
    return float((np.log2(frequencies.sum(1)) - np.log2(np.maximum(chosen, 1e-9))).sum())


def bit_budget(normative: Normative, symbols: Symbols) -> dict[str, float]:
    """Bits by part, and `static_bits`: what the same indices would cost under the
    static frequencies of their level."""
    map_bits = map_costs(symbols.levels, normative.map_tables).min()
    budget = {"map_bits": float(map_bits), "z_bits": 0.0, "index_bits": 0.0, "static_bits": 0.0}
    for part, _, piece, frequencies in coded_after_map(normative, symbols):
        budget[f"{part}_bits"] += code_length(piece, frequencies)
    for static, index in zip(normative.index_tables.static.numpy(), symbols.indices, strict=True):
        bits = STATIC_BITS - np.log2(np.maximum(static, 0.5))
        budget["static_bits"] += float(bits[index].sum())
    return budget
