import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvqcodec import BitstreamError, Codec
from hvqcodec.allocation import allocate_by_entropy
from hvqcodec.entropy.map_coding import (
    CONTEXTS,
    FINE_CONTEXTS,
    MAP_TABLE_SUM,
    SPLIT_CONTEXTS,
    decode_map,
    encode_map,
    map_costs,
    map_flags,
    walk,
)
from hvqcodec.entropy.range_coding import Decoder, Encoder, fixed_model
from hvqcodec.granularity import Levels
from tests import reference_decoder as reference
from tests.helpers import Pixels, maps

Tables = NDArray[np.int32]


@pytest.fixture(scope="module")
def tables(codec: Codec) -> Tables:
    return codec.model.normative.map_tables


@pytest.fixture(scope="module")
def photo_map(camera: Pixels) -> Levels:
    """(64, 64) cells, all levels in one part or another."""
    fine_or_medium = allocate_by_entropy(camera, (0.3, 0.4, 0.3))
    cells = camera.reshape(64, 8, 64, 8).mean((1, 3))
    levels = np.where(fine_or_medium == 1, 1 + (cells > 120), fine_or_medium).astype(np.uint8)
    assert np.bincount(levels.ravel()).min() > 500
    return levels


def payload_of(levels: Levels, tables: Tables) -> bytes:
    encoder = Encoder()
    encode_map(encoder, levels, tables)
    return encoder.payload()


@given(maps(max_side=9))
def test_round_trip(codec: Codec, levels: Levels) -> None:
    tables = codec.model.normative.map_tables
    decoder = Decoder(payload_of(levels, tables))
    rows, columns = levels.shape[0] // 2, levels.shape[1] // 2
    decoded = decode_map(decoder, rows, columns, tables)
    decoder.finish()
    np.testing.assert_array_equal(decoded, levels, strict=True)


@given(maps())
def test_agrees_with_the_decoder_of_the_page(codec: Codec, levels: Levels) -> None:
    tables = codec.model.normative.map_tables
    decoder = reference.RangeDecoder({reference.PAYLOAD: payload_of(levels, tables)})
    rows, columns = levels.shape[0] // 2, levels.shape[1] // 2
    decoded = reference.decode_map({"map_tables": tables}, decoder, rows, columns)
    np.testing.assert_array_equal(decoded, levels)


@given(maps())
def test_flags_count_every_decision_once(levels: Levels) -> None:
    contexts, flags = map_flags(levels)
    of_split = contexts < SPLIT_CONTEXTS
    split_blocks = (levels[::2, ::2] > 0).sum()
    assert of_split.sum() == levels.size // 4
    assert flags[of_split].sum() == split_blocks
    assert (~of_split).sum() == 4 * split_blocks
    assert flags[~of_split].sum() == (levels == 2).sum()


def test_contexts_by_example() -> None:
    """Block 1 fine and medium, block 2 coarse, block 3 split: flags and contexts by hand."""
    levels = np.array([[2, 1, 0, 0, 1, 1], [1, 2, 0, 0, 2, 1]], np.uint8)
    split, cell = 0, SPLIT_CONTEXTS
    expected = [
        (split, 1),
        *((cell, 1), (cell + 2, 0), (cell + 3 * 2, 0), (cell + 1 + 3 * 1, 1)),
        (split + 1, 0),
        (split, 1),
        *((cell, 0), (cell + 1, 0), (cell + 3 * 1, 1), (cell + 2 + 3 * 1, 0)),
    ]
    contexts, flags = map_flags(levels)
    assert list(zip(contexts.tolist(), flags.tolist(), strict=True)) == expected
    assert cell + FINE_CONTEXTS == CONTEXTS


def test_one_by_one_equals_all_at_once(tables: Tables, photo_map: Levels) -> None:
    contexts, flags = map_flags(photo_map)
    chosen = int(map_costs(photo_map, tables).argmin())
    encoder = Encoder()
    encoder.encode(np.array([chosen], np.int32), np.ones((1, len(tables))))
    for context, flag in zip(contexts, flags, strict=True):
        encoder.encode(np.array([flag], np.int32), tables[chosen][context][None].astype(np.float64))
    payload = payload_of(photo_map, tables)
    assert encoder.payload() == payload

    single, whole = Decoder(payload), Decoder(payload)
    number = np.ones((1, len(tables)))
    assert single.decode(number) == whole.decode(number) == [chosen]
    models = [fixed_model(pair.astype(np.float64)) for pair in tables[chosen]]
    assert [single.decode_one(models[context]) for context in contexts] == flags.tolist()
    assert whole.decode(tables[chosen][contexts].astype(np.float64)).tolist() == flags.tolist()


def test_costs_are_those_of_the_payload(tables: Tables, photo_map: Levels) -> None:
    costs = map_costs(photo_map, tables)
    sizes = []
    for number, table in enumerate(tables):
        size = 8 * len(payload_of(photo_map, np.stack([table, table])))
        assert costs[number] <= size <= costs[number] + 64
        sizes.append(size)
    assert max(sizes) > min(sizes) + 64
    assert 8 * len(payload_of(photo_map, tables)) <= min(sizes) + 64


def test_costs_of_even_tables_count_the_flags(photo_map: Levels) -> None:
    even = np.full((1, CONTEXTS, 2), MAP_TABLE_SUM // 2, np.int32)
    _, flags = map_flags(photo_map)
    assert map_costs(photo_map, even).tolist() == [len(flags)]


@given(st.binary(max_size=64), st.integers(1, 6), st.integers(1, 6))
def test_garbage_gives_a_valid_map_or_a_bitstream_error(
    codec: Codec, garbage: bytes, rows: int, columns: int
) -> None:
    decoder = Decoder(garbage[: len(garbage) // 4 * 4])
    try:
        levels = decode_map(decoder, rows, columns, codec.model.normative.map_tables)
    except BitstreamError:
        return
    assert levels.shape == (2 * rows, 2 * columns)
    coarse = (levels == 0).reshape(rows, 2, columns, 2).sum((1, 3))
    assert np.isin(coarse, (0, 4)).all()
    assert levels.max() <= 2


def test_an_empty_map_has_no_flags() -> None:
    def never(*_: int) -> int:
        raise AssertionError("there is no flag to ask for")

    assert walk(0, 0, never).shape == (0, 0)
