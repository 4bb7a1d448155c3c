"""NORMATIVE: the granularity map as binary symbols with neighbouring contexts.

Blocks of 16x16 in raster order: one flag, split or not; after the flag of a split
block, its four 8x8 cells in raster order: one flag each, fine or not. Contexts come
from the cells to the left and above; beyond the image all is coarse. One of several
sets of tables, chosen by the encoder, goes first.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hvqcodec.entropy.range_coding import Decoder, Encoder, fixed_model
from hvqcodec.granularity import COARSE, FINE, MEDIUM

SPLIT_CONTEXTS, FINE_CONTEXTS = 4, 9
CONTEXTS = SPLIT_CONTEXTS + FINE_CONTEXTS
MAP_TABLE_SUM = 1 << 12

Levels = NDArray[np.uint8]
"""(H/8, W/8), 0 coarse, 1 medium, 2 fine."""


def walk(rows: int, columns: int, flag: Callable[[int, int, int, int], int]) -> Levels:
    """Visit every flag of a map of rows x columns blocks in order.

    flag(context, i, j, level) gives the flag of the cell (i, j): for the contexts of
    splits, whether its block is split; for those of fine cells, whether it is fine.
    Encoder and decoder both build the map here, so they see the same contexts.
    """
    # A border of coarse cells stands in for what lies beyond the image.
    cells = [bytearray(2 * columns + 1) for _ in range(2 * rows + 1)]
    for i in range(1, 2 * rows, 2):
        above, upper, lower = cells[i - 1], cells[i], cells[i + 1]
        for j in range(1, 2 * columns, 2):
            context = (upper[j - 1] != COARSE) + 2 * (above[j] != COARSE)
            if not flag(context, i - 1, j - 1, MEDIUM):
                continue
            for row, over, y in ((upper, above, i - 1), (lower, upper, i)):
                for x in (j, j + 1):
                    context = SPLIT_CONTEXTS + row[x - 1] + 3 * over[x]
                    row[x] = FINE if flag(context, y, x - 1, FINE) else MEDIUM
    return np.array(cells, np.uint8)[1:, 1:] if rows * columns else np.zeros((0, 0), np.uint8)


def map_flags(levels: Levels) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(contexts, flags) of a map, in coding order."""
    known = levels.tolist()
    contexts: list[int] = []
    flags: list[int] = []

    def flag(context: int, i: int, j: int, level: int) -> int:
        value = int(known[i][j] >= level)
        contexts.append(context)
        flags.append(value)
        return value

    walk(levels.shape[0] // 2, levels.shape[1] // 2, flag)
    return np.array(contexts, np.int64), np.array(flags, np.int32)


def map_costs(
    contexts: NDArray[np.int64], flags: NDArray[np.int32], tables: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Bits of the flags under each set of tables (sets, CONTEXTS, 2)."""
    counts = np.bincount(2 * contexts + flags, minlength=2 * CONTEXTS)
    bits = -np.log2(tables.reshape(len(tables), -1) / MAP_TABLE_SUM)
    costs: NDArray[np.float64] = (bits * counts).sum(1)
    return costs


def encode_map(encoder: Encoder, levels: Levels, tables: NDArray[np.int32]) -> None:
    """tables: (sets, CONTEXTS, 2) frequencies, each pair summing to 2^12."""
    contexts, flags = map_flags(levels)
    chosen = int(map_costs(contexts, flags, tables).argmin())
    encoder.encode(np.array([chosen], np.int32), np.ones((1, len(tables))))
    encoder.encode(flags, tables[chosen][contexts].astype(np.float64))


def decode_map(decoder: Decoder, rows: int, columns: int, tables: NDArray[np.int32]) -> Levels:
    """The map of an image of rows x columns blocks of 16x16."""
    chosen = int(decoder.decode(np.ones((1, len(tables))))[0])
    models = [fixed_model(pair.astype(np.float64)) for pair in tables[chosen]]
    return walk(rows, columns, lambda context, i, j, level: decoder.decode_one(models[context]))
