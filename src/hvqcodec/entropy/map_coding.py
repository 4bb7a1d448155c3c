"""NORMATIVE: the granularity map as binary symbols with neighbouring contexts.

Blocks of 16x16 in raster order: one flag, split or not; after the flag of a split
block, its four 8x8 cells in raster order: one flag each, fine or not. Contexts come
from the cells to the left and above; beyond the image all is coarse. One of several
sets of tables, chosen by the encoder, goes first.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvqcodec.entropy.range_coding import Decoder, Encoder, fixed_model
from hvqcodec.granularity import COARSE, FINE, MEDIUM, Levels

SPLIT_CONTEXTS, FINE_CONTEXTS = 4, 9
CONTEXTS = SPLIT_CONTEXTS + FINE_CONTEXTS
MAP_TABLE_SUM = 1 << 12


def walk(rows: int, columns: int, flag: Callable[[int], int]) -> Levels:
    """Build a map of rows x columns blocks; flag(context) gives its flags, in order."""
    # A border of coarse cells stands in for what lies beyond the image.
    cells = [bytearray(2 * columns + 1) for _ in range(2 * rows + 1)]
    for i in range(1, 2 * rows, 2):
        above, upper, lower = cells[i - 1], cells[i], cells[i + 1]
        for j in range(1, 2 * columns, 2):
            context = (upper[j - 1] != COARSE) + 2 * (above[j] != COARSE)
            if not flag(context):
                continue
            for row, over in ((upper, above), (lower, upper)):
                for x in (j, j + 1):
                    context = SPLIT_CONTEXTS + row[x - 1] + 3 * over[x]
                    row[x] = FINE if flag(context) else MEDIUM
    return np.array(cells, np.uint8)[1:, 1:] if rows * columns else np.zeros((0, 0), np.uint8)


def flag_contexts(levels: Levels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the flag of each block, (..., H/16, W/16), and of each cell, (..., H/8, W/8), sent or
    not; levels: (..., H/8, W/8)."""
    around = [(0, 0)] * (levels.ndim - 2) + [(1, 0), (1, 0)]
    padded = np.pad(levels, around, constant_values=COARSE).astype(np.int64)
    left, above = padded[..., 1:, :-1], padded[..., :-1, 1:]
    split = (left[..., ::2, ::2] != COARSE) + 2 * (above[..., ::2, ::2] != COARSE)
    return split, SPLIT_CONTEXTS + left + 3 * above


def map_flags(levels: Levels) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(contexts, flags) of a map, in coding order: what `walk` asks for, all at once."""
    split_contexts, fine_contexts = flag_contexts(levels)
    split = levels[::2, ::2] != COARSE

    def by_block(of_blocks: NDArray[Any], of_cells: NDArray[Any]) -> NDArray[Any]:
        """(H/16, W/16, 5), a block's own value and those of its cells."""
        rows, columns = of_blocks.shape
        cells = of_cells.reshape(rows, 2, columns, 2).transpose(0, 2, 1, 3)
        return np.concatenate([of_blocks[..., None], cells.reshape(rows, columns, 4)], 2)

    sent = by_block(np.ones_like(split), split.repeat(2, 0).repeat(2, 1))
    contexts = by_block(split_contexts, fine_contexts)[sent]
    return contexts, by_block(split, levels == FINE)[sent].astype(np.int32)


def flag_counts(levels: Levels) -> NDArray[np.int64]:
    """(CONTEXTS, 2), how often a map has each flag under each context."""
    contexts, flags = map_flags(levels)
    return np.bincount(2 * contexts + flags, minlength=2 * CONTEXTS).reshape(CONTEXTS, 2)


def map_costs(levels: Levels, tables: NDArray[np.int32]) -> NDArray[np.float64]:
    """Bits of a map under each set of tables (sets, CONTEXTS, 2)."""
    costs: NDArray[np.float64] = -(np.log2(tables / MAP_TABLE_SUM) * flag_counts(levels)).sum(
        (1, 2)
    )
    return costs


def encode_map(encoder: Encoder, levels: Levels, tables: NDArray[np.int32]) -> None:
    """tables: (sets, CONTEXTS, 2) frequencies, each pair summing to 2^12."""
    contexts, flags = map_flags(levels)
    chosen = int(map_costs(levels, tables).argmin())
    encoder.encode(np.array([chosen], np.int32), np.ones((1, len(tables))))
    encoder.encode(flags, tables[chosen][contexts].astype(np.float64))


def decode_map(decoder: Decoder, rows: int, columns: int, tables: NDArray[np.int32]) -> Levels:
    """The map of an image of rows x columns blocks of 16x16."""
    chosen = int(decoder.decode(np.ones((1, len(tables))))[0])
    models = [fixed_model(pair.astype(np.float64)) for pair in tables[chosen]]
    return walk(rows, columns, lambda context: decoder.decode_one(models[context]))
