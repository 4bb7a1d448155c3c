import struct
from collections.abc import Iterator
from contextlib import nullcontext

import constriction
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from hvqcodec import BitstreamError, Codec
from hvqcodec.arrays import Floats, Ints
from hvqcodec.entropy.range_coding import Decoder, Encoder, fixed_model
from tests import reference_decoder as reference

SKEWED = [[1.0, 2, 3, 4], [1000, 1, 1, 1], [5, 0, 0, 7], [2**20, 3, 2**30, 9], [1, 1, 1, 1]]
WORDS = [
    ([0, 1, 1, 0, 1, 1, 1, 0], [[1.0, 3]] * 8, [0x21340000]),
    ([3, 0, 1, 2, 0], SKEWED, [0xC4239812]),
    ([], np.zeros((0, 3)), []),
]
"""Symbols, frequencies and the words that they must always give."""

MU = [[0, 0, 0, 0], [4096, -2048, 1000, -1], [-8192, 8192, -3000, 77], [512, 512, -512, -512]]
STEP = [[40, 40, 40, 40], [10, 20, 30, 0], [0, 63, 5, 12], [33, 2, 18, 50]]
INDICES = [0, 63, 17, 5, 40, 41, 2, 33, 8, 21, 60, 11]
INDEX_WORDS = [0x1FF, 0xFEFA0034, 0x79E74386, 0xD38ACF95, 0x87241D53, 0xBDB98E9B]


class CountedWords:
    """Counts those beyond the end, which read as 0, too."""

    def __init__(self, words: Iterator[int]) -> None:
        self.words, self.used = words, 2

    def __next__(self) -> int:
        self.used += 1
        return next(self.words)


class CountingDecoder(reference.RangeDecoder):
    """The decoder of the page, which tells how many words it has used."""

    def __init__(self, payload: bytes) -> None:
        super().__init__({reference.PAYLOAD: payload})
        self.words = CountedWords(self.words)


def encode(symbols: list[int] | Ints, frequencies: list[list[float]] | Floats) -> bytes:
    encoder = Encoder()
    encoder.encode(np.array(symbols, np.int32), np.array(frequencies))
    return encoder.payload()


def words(payload: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(payload) // 4}I", payload))


@pytest.fixture(scope="module")
def tiny_frequencies(codec: Codec) -> Floats:
    """(12, 64): the four Gaussians MU, STEP at each of the three levels."""
    mu, step = torch.tensor(MU).double(), torch.tensor(STEP).double()
    tables = codec.model.normative.index_tables
    likelihoods = [tables.likelihoods(level, mu, step) for level in range(3)]
    return np.concatenate(
        [tables.frequencies(level, found) for level, found in enumerate(likelihoods)]
    )


@st.composite
def coded(draw: st.DrawFn, max_symbols: int = 60) -> tuple[Ints, Floats]:
    """Symbols and frequencies of every shape: flat, steep, with zeros."""
    count, codes = draw(st.integers(1, max_symbols)), draw(st.integers(2, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = draw(st.sampled_from([2, 100, 2**16, 2**31]))
    frequencies = np.floor(rng.random((count, codes)) ** draw(st.integers(1, 9)) * top)
    frequencies[np.arange(count), rng.integers(0, codes, count)] += 1
    return rng.integers(0, codes, count).astype(np.int32), frequencies


@pytest.mark.parametrize(("symbols", "frequencies", "expected"), WORDS)
def test_exact_words(
    symbols: list[int], frequencies: list[list[float]], expected: list[int]
) -> None:
    payload = encode(symbols, frequencies)
    assert words(payload) == expected
    assert Decoder(payload).decode(np.array(frequencies)).tolist() == symbols


def test_exact_words_of_index_tables(tiny_frequencies: Floats) -> None:
    payload = encode(INDICES, tiny_frequencies)
    assert words(payload) == INDEX_WORDS
    decoder = Decoder(payload)
    assert decoder.decode(tiny_frequencies).tolist() == INDICES
    decoder.finish()


def test_words_are_little_endian() -> None:
    assert encode(WORDS[1][0], SKEWED) == bytes.fromhex("129823c4")


@given(coded())
def test_round_trip_in_pieces(symbols_and_frequencies: tuple[Ints, Floats]) -> None:
    symbols, frequencies = symbols_and_frequencies
    middle = len(symbols) // 2
    encoder = Encoder()
    encoder.encode(symbols[:middle], frequencies[:middle])
    encoder.encode(symbols[middle:], frequencies[middle:])
    payload = encoder.payload()
    assert payload == encode(symbols, frequencies)
    whole, single = Decoder(payload), Decoder(payload)
    assert whole.decode(frequencies).tolist() == symbols.tolist()
    assert [single.decode_one(fixed_model(f)) for f in frequencies] == symbols.tolist()
    whole.finish()
    single.finish()


@given(coded(max_symbols=25))
def test_agrees_with_the_decoder_of_the_page(symbols_and_frequencies: tuple[Ints, Floats]) -> None:
    symbols, frequencies = symbols_and_frequencies
    payload = encode(symbols, frequencies)
    decoder = CountingDecoder(payload)
    assert [decoder.decode(row) for row in frequencies] == symbols.tolist()
    assert len(payload) // 4 in (decoder.words.used, decoder.words.used - 1)


def test_constriction_itself_takes_float32_for_another_model() -> None:
    """Why the type of the frequencies is forced: it decides the stream."""
    family = constriction.stream.model.Categorical(perfect=False)
    found = []
    for dtype in (np.float64, np.float32):
        coder = constriction.stream.queue.RangeEncoder()
        coder.encode(np.array(WORDS[1][0], np.int32), family, np.array(SKEWED, dtype))
        found.append(coder.get_compressed().tolist())
    assert found[0] == WORDS[1][2]
    assert found[1] != found[0]


def test_float32_frequencies_give_the_stream_of_float64() -> None:
    symbols, _, expected = WORDS[1]
    narrow = np.array(SKEWED, np.float32)
    decoder = Decoder(struct.pack("<I", *expected))
    assert [decoder.decode_one(fixed_model(f)) for f in narrow] == symbols
    encoder = Encoder()
    encoder.encode(np.array(symbols, np.int32), narrow)
    assert words(encoder.payload()) == expected


@given(coded(), st.binary(min_size=1, max_size=40))
def test_garbage_gives_symbols_or_a_bitstream_error(
    symbols_and_frequencies: tuple[Ints, Floats], garbage: bytes
) -> None:
    _, frequencies = symbols_and_frequencies
    payload = garbage[: len(garbage) // 4 * 4]
    for one_by_one in (False, True):
        decoder = Decoder(payload)
        try:
            if one_by_one:
                found = [decoder.decode_one(fixed_model(f)) for f in frequencies]
            else:
                found = decoder.decode(frequencies).tolist()
            decoder.finish()
        except BitstreamError:
            continue
        assert len(found) == len(frequencies)
        assert 0 <= min(found) <= max(found) < frequencies.shape[1]


def test_damage_is_seen_as_impossible_data() -> None:
    """A payload that no encoder writes, for the one as for the other way to decode."""
    flat = np.full((50, 3), 7.0)
    for decode in (lambda d: d.decode(flat), lambda d: d.decode_one(fixed_model(flat[0]))):
        with pytest.raises(BitstreamError, match="no symbol fits"):
            decode(Decoder(b"\xff" * 8))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7])
def test_odd_lengths_are_refused(length: int) -> None:
    with pytest.raises(BitstreamError, match="whole number of words"):
        Decoder(bytes(length))


@given(coded(), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5))
def test_finish_notices_words_that_decoding_has_no_use_for(
    symbols_and_frequencies: tuple[Ints, Floats], extra: list[int]
) -> None:
    symbols, frequencies = symbols_and_frequencies
    payload = encode(symbols, frequencies)
    reader = CountingDecoder(payload)
    for row in frequencies:
        reader.decode(row)
    assume(len(payload) // 4 + len(extra) > reader.words.used)
    decoder = Decoder(payload + struct.pack(f"<{len(extra)}I", *extra))
    assert decoder.decode(frequencies).tolist() == symbols.tolist()
    with pytest.raises(BitstreamError, match="left over"):
        decoder.finish()


def test_finish_notices_symbols_not_asked_for(tiny_frequencies: Floats) -> None:
    decoder = Decoder(encode(INDICES, tiny_frequencies))
    decoder.decode(tiny_frequencies[:4])
    with pytest.raises(BitstreamError, match="left over"):
        decoder.finish()


@pytest.mark.parametrize(("offset", "ends"), [(2**33 - 2, True), (2**33 - 1, False)])
def test_a_payload_ends_near_its_last_symbol(
    tiny_frequencies: Floats, offset: int, ends: bool
) -> None:
    """Where `point - lower` lies after it decides, as the page says."""
    payload = encode(INDICES, tiny_frequencies)
    reader = CountingDecoder(payload)
    for row in tiny_frequencies:
        reader.decode(row)
    assert reader.range > offset
    point = 0
    for word in [*words(payload), 0][: reader.words.used]:
        point = point << 32 | word
    moved = (point + offset - reader.offset).to_bytes(4 * reader.words.used, "big")
    decoder = Decoder(np.frombuffer(moved, ">u4").astype("<u4").tobytes())
    assert decoder.decode(tiny_frequencies).tolist() == INDICES
    with nullcontext() if ends else pytest.raises(BitstreamError, match="left over"):
        decoder.finish()
