"""From counts to the integer frequencies that a model ships with."""

import heapq

import numpy as np
from numpy.typing import NDArray

from benchmarks.photos import Photo
from hvqcodec.entropy.map_coding import MAP_TABLE_SUM, flag_counts
from hvqcodec.entropy.tables import STATIC_BITS, STATIC_MAX
from hvqcodec.models.model import Model
from training.survey import scenes

MAP_SETS = 8
MAP_ROUNDS = 3


def to_frequencies(counts: NDArray[np.int64], total: int) -> NDArray[np.int32]:
    """Positive integers in proportion to the counts along the last axis, summing to total."""
    share = (counts + 1e-3) / (counts + 1e-3).sum(-1, keepdims=True)
    spare = total - counts.shape[-1]
    frequencies = np.floor(share * spare).astype(np.int64) + 1
    missing = total - frequencies.sum(-1, keepdims=True)
    largest = counts.argmax(-1)[..., None]
    np.put_along_axis(
        frequencies, largest, np.take_along_axis(frequencies, largest, -1) + missing, -1
    )
    return frequencies.astype(np.int32)


def static_tables(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """(3, K) counts to frequencies, none above `STATIC_MAX`: as much of a level as must be
    is taken from its commonest index and spread evenly."""
    tables = to_frequencies(counts, 1 << STATIC_BITS)
    codes = tables.shape[1]
    for level in range(len(tables)):
        while (excess := int(tables[level].max()) - STATIC_MAX) > 0:
            tables[level, tables[level].argmax()] -= excess
            tables[level] += excess // codes
            tables[level, : excess % codes] += 1
    return tables


def map_table_sets(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """(maps, CONTEXTS, 2) -> (MAP_SETS, CONTEXTS, 2): k-means in code length."""
    order = np.argsort(counts[:, :, 1].sum(1) / np.maximum(counts.sum((1, 2)), 1))
    assigned = np.empty(len(counts), np.int64)
    assigned[order] = np.arange(len(counts)) * MAP_SETS // len(counts)
    for _ in range(20):
        sums = np.stack([counts[assigned == s].sum(0) for s in range(MAP_SETS)]) + 1
        tables = to_frequencies(sums, MAP_TABLE_SUM)
        bits = -np.log2(tables / MAP_TABLE_SUM)
        assigned = np.einsum("mcf,scf->ms", counts, bits).argmin(1)
    return tables


def huffman_lengths(frequencies: NDArray[np.int32]) -> NDArray[np.int64]:
    """(K,) -> (K,), bits of each symbol in a Huffman code."""
    lengths = np.zeros(len(frequencies), np.int64)
    heap = [(int(f), k, [k]) for k, f in enumerate(frequencies)]
    heapq.heapify(heap)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        lengths[a[2] + b[2]] += 1
        heapq.heappush(heap, (a[0] + b[0], a[1], a[2] + b[2]))
    return lengths


def fit_map_tables(
    networks: Model, photos: list[Photo], lambdas: tuple[float, ...]
) -> NDArray[np.int32]:
    """(MAP_SETS, CONTEXTS, 2). The encoder chooses maps that are cheap under the tables, and
    the tables are counted on the maps that it chooses: a few rounds of both."""
    plain = [
        (scene, lambda_, scene.allocate(lambda_))
        for scene in scenes(networks, photos)
        for lambda_ in lambdas
    ]
    chosen = [levels for _, _, levels in plain]
    for _ in range(MAP_ROUNDS):
        tables = map_table_sets(np.stack([flag_counts(levels) for levels in chosen]))
        chosen = [scene.refine(levels, lambda_, tables) for scene, lambda_, levels in plain]
    return map_table_sets(np.stack([flag_counts(levels) for levels in chosen]))
