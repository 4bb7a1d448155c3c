from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvqcodec import BitstreamError, Codec
from hvqcodec.bitstream import Bitstream, Mode, Section
from hvqcodec.encoding import analyse
from hvqcodec.entropy.budget import bit_budget
from hvqcodec.entropy.constants import LATENT_MAX
from hvqcodec.entropy.symbol_coding import (
    Symbols,
    decode_symbols,
    encode_symbols,
    sent_latents,
    sent_positions,
)
from hvqcodec.granularity import Levels
from hvqcodec.pixels import to_blocks
from tests import reference_decoder as reference
from tests.helpers import CONTEXT, TINY, Pixels, assert_same_symbols, maps, threads

LAMBDAS = [0.01, 0.1, 0.8, 5.0, 1e4]


@st.composite
def random_symbols(draw: st.DrawFn) -> Symbols:
    """Any that the tiny model can code: z in -15 ... 15 where it is sent, 64 indices."""
    levels: Levels = draw(maps(max_side=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    latents, indices = [], []
    for mask in Symbols(levels, (), ()).masks():
        support = sent_positions(mask)
        z = rng.integers(-LATENT_MAX, LATENT_MAX + 1, (2, *support.shape))
        latents.append((z * support).astype(np.int8))
        indices.append(rng.integers(0, 64, mask.sum()).astype(np.int32))
    return Symbols(levels, tuple(latents), tuple(indices))


@pytest.fixture(scope="module", params=[TINY, CONTEXT], ids=lambda path: path.stem)
def codec(request: pytest.FixtureRequest) -> Codec:
    """Without and with context."""
    return Codec.load(request.param)


def decode(codec: Codec, payload: bytes, symbols: Symbols) -> Symbols:
    rows, columns = symbols.levels.shape[0] // 2, symbols.levels.shape[1] // 2
    return decode_symbols(codec.model.normative, payload, rows, columns)


@pytest.fixture(scope="module")
def photo_symbols(codec: Codec, coffee: Pixels) -> dict[float, Symbols]:
    """Of one photo at several lambdas."""
    scene = analyse(codec.model.networks, to_blocks(coffee[:250, 100:390]))
    return {lambda_: scene.symbols(scene.allocate(lambda_)) for lambda_ in LAMBDAS}


@pytest.fixture(scope="module")
def mixed(codec: Codec, cat: Pixels) -> Symbols:
    """A photo on a map of every level, with z (of which the tiny model makes little use)
    drawn at random."""
    scene = analyse(codec.model.networks, to_blocks(cat[64:192, 128:256]))
    levels = np.zeros((16, 16), np.uint8)
    levels[:8], levels[:8, 4:10] = 1, 2
    symbols = scene.symbols(levels)
    rng = np.random.default_rng(0)
    latents = tuple(
        (rng.integers(-LATENT_MAX, LATENT_MAX + 1, z.shape) * sent_positions(mask)).astype(np.int8)
        for z, mask in zip(symbols.latents, symbols.masks(), strict=True)
    )
    return replace(symbols, latents=latents)


@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_round_trip_of_a_photo(
    codec: Codec, photo_symbols: dict[float, Symbols], lambda_: float
) -> None:
    symbols = photo_symbols[lambda_]
    payload = encode_symbols(codec.model.normative, symbols)
    decoded = decode(codec, payload, symbols)
    assert_same_symbols(decoded, symbols)
    assert decoded.crc() == symbols.crc()


@given(random_symbols())
def test_round_trip_of_random_symbols(codec: Codec, symbols: Symbols) -> None:
    payload = encode_symbols(codec.model.normative, symbols)
    assert_same_symbols(decode(codec, payload, symbols), symbols)


def test_the_number_of_threads_does_not_matter(
    codec: Codec, photo_symbols: dict[float, Symbols]
) -> None:
    for symbols in photo_symbols.values():
        with threads(1):
            payload = encode_symbols(codec.model.normative, symbols)
        with threads(2):
            assert encode_symbols(codec.model.normative, symbols) == payload
            assert_same_symbols(decode(codec, payload, symbols), symbols)


def test_agrees_with_the_decoder_of_the_page(
    codec: Codec, mixed: Symbols, request: pytest.FixtureRequest
) -> None:
    model = reference.load_model(request.node.callspec.params["codec"])
    payload = encode_symbols(codec.model.normative, mixed)
    sections = {Section.PAYLOAD: payload, Section.SYMBOL_CRC: mixed.crc().to_bytes(4, "little")}
    data = Bitstream(codec.model.fingerprint, 128, 128, Mode.RGB, sections).to_bytes()
    found = reference.decode_symbols(model, data)
    assert_same_symbols(
        Symbols(found["levels"], tuple(found["latents"]), tuple(found["indices"])), mixed
    )


def changed(values: tuple[np.ndarray, ...], level: int, position: int) -> tuple[np.ndarray, ...]:
    copies = [v.copy() for v in values]
    flat = copies[level].reshape(-1)
    flat[position % len(flat)] ^= 1
    return tuple(copies)


def test_the_checksum_sees_every_z_and_index_that_is_sent(mixed: Symbols) -> None:
    crc = mixed.crc()
    for level, mask in enumerate(mixed.masks()):
        for position in range(len(mixed.indices[level])):
            other = replace(mixed, indices=changed(mixed.indices, level, position))
            assert other.crc() != crc
        support = np.broadcast_to(sent_positions(mask), mixed.latents[level].shape)
        for position in np.flatnonzero(support):
            other = replace(mixed, latents=changed(mixed.latents, level, int(position)))
            assert other.crc() != crc


def test_the_checksum_sees_the_map(mixed: Symbols) -> None:
    """Two cells swapped change no count of codes, so only the map itself tells."""
    levels = mixed.levels.copy()
    levels[0, 3:5] = levels[0, 4:2:-1]
    assert (levels != mixed.levels).sum() == 2
    assert replace(mixed, levels=levels).crc() != mixed.crc()


def test_z_that_is_not_sent_does_not_count(mixed: Symbols) -> None:
    finest, support = mixed.latents[2].copy(), sent_positions(mixed.masks()[2])
    assert not support.all()
    finest[:, ~support] = 7
    other = replace(mixed, latents=(*mixed.latents[:2], finest))
    assert other.crc() == mixed.crc()
    assert sent_latents(finest, mixed.masks()[2]).shape == (support.sum(), 2)


def test_sent_positions_of_a_cut_off_grid() -> None:
    mask = np.zeros((5, 9), bool)
    mask[4, 8] = mask[0, 3] = True
    assert sent_positions(mask).tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_the_budget_adds_up_to_the_payload(
    codec: Codec, photo_symbols: dict[float, Symbols], lambda_: float
) -> None:
    symbols = photo_symbols[lambda_]
    budget = bit_budget(codec.model.normative, symbols)
    assert set(budget) == {"map_bits", "z_bits", "index_bits", "static_bits"}
    assert min(budget.values()) > 0
    total = budget["map_bits"] + budget["z_bits"] + budget["index_bits"]
    real = 8 * len(encode_symbols(codec.model.normative, symbols))
    assert abs(real - total) <= 0.01 * total + 64


def test_static_bits_are_those_of_the_static_tables(codec: Codec, mixed: Symbols) -> None:
    static = codec.model.normative.index_tables.static.numpy() / 2**16
    expected = sum(
        -np.log2(static[level][index]).sum() for level, index in enumerate(mixed.indices)
    )
    assert bit_budget(codec.model.normative, mixed)["static_bits"] == pytest.approx(expected)


@given(st.binary(max_size=200), st.integers(1, 4), st.integers(1, 4))
def test_garbage_gives_valid_symbols_or_a_bitstream_error(
    codec: Codec, garbage: bytes, rows: int, columns: int
) -> None:
    try:
        symbols = decode_symbols(codec.model.normative, garbage, rows, columns)
    except BitstreamError:
        return
    assert symbols.levels.shape == (2 * rows, 2 * columns)
    for mask, index in zip(symbols.masks(), symbols.indices, strict=True):
        assert len(index) == mask.sum()


def test_words_after_the_last_symbol_are_refused(codec: Codec, mixed: Symbols) -> None:
    payload = encode_symbols(codec.model.normative, mixed)
    with pytest.raises(BitstreamError, match="left over"):
        decode(codec, payload + bytes(8), mixed)


@pytest.mark.parametrize("length", [0, 4, 400])
def test_more_blocks_than_the_payload_can_hold_are_refused(codec: Codec, length: int) -> None:
    """Before anything is made for them: these maps alone would take terabytes."""
    with pytest.raises(BitstreamError, match="more pixels than its payload can hold"):
        decode_symbols(codec.model.normative, bytes(length), 1 << 20, 1 << 20)
