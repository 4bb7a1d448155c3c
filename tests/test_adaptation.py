"""Tables that learn from a file's own symbols: exact, bounded, and worth it."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import adaptation as adaptation_benchmark
from hvqcodec import Codec
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.entropy.adaptation import GAIN_MAX, GAIN_MIN, PIECE, Adaptation
from hvqcodec.entropy.range_coding import Floats, Ints
from hvqcodec.entropy.symbol_coding import adaptation_of, index_frequencies, index_maps
from hvqcodec.entropy.tables import IndexTables, expected_counts
from tests.helpers import TINY, Pixels, assert_same_symbols, plain, symbols_of


class ByThePage:
    """Counts and gains in plain integers, from docs/format.md."""

    def __init__(self, codes: int) -> None:
        self.seen, self.expected = [0] * codes, [0] * codes

    def gains(self) -> list[int]:
        return [
            min(max((s + 2**17) * 2**12 // (e + 2**17), 2**9), 2**16)
            for s, e in zip(self.seen, self.expected, strict=True)
        ]

    def learn(self, index: list[int], likelihoods: list[list[int]]) -> None:
        whole = [2**47 // sum(row) for row in likelihoods]
        for k in range(len(self.seen)):
            came = sum(w * row[k] for w, row in zip(whole, likelihoods, strict=True)) >> 31
            self.seen[k] += 2**16 * index.count(k) - (self.seen[k] >> 8)
            self.expected[k] += came - (self.expected[k] >> 8)


@pytest.fixture(scope="module")
def tables(codec: Codec) -> IndexTables:
    return codec.model.normative.index_tables


def codes_in_pieces(rng: np.random.Generator, codes: int, pieces: int) -> list[tuple[Ints, Floats]]:
    """Flat and sharp tables, and indices that are not those that they expect."""
    found = []
    for _ in range(pieces):
        count = int(rng.integers(1, PIECE + 1))
        likelihoods = np.floor(2.0**30 * rng.random((count, codes)) ** rng.choice([0.01, 1, 60]))
        likelihoods[:, rng.integers(codes)] = 2**30
        index = np.minimum(rng.geometric(0.3, count), codes - 1).astype(np.int32)
        found.append((index, likelihoods))
    return found


@given(st.integers(0, 2**32 - 1))
def test_equals_the_page_in_plain_integers(tables: IndexTables, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = tables.entries.shape[0]
    adaptation, slow = Adaptation(codes), ByThePage(codes)
    for index, likelihoods in codes_in_pieces(rng, codes, 12):
        assert adaptation.gains().tolist() == slow.gains()
        gains = slow.gains()
        rows = likelihoods.astype(np.int64).tolist()
        adapted = [[t * g >> 12 for t, g in zip(row, gains, strict=True)] for row in rows]
        static = tables.static[1].tolist()
        expected = [
            [a + s * (sum(row) >> 24) for a, s in zip(row, static, strict=True)] for row in adapted
        ]
        assert tables.frequencies(1, likelihoods, adaptation).tolist() == expected
        adaptation.learn(np.bincount(index, minlength=codes), expected_counts(likelihoods))
        slow.learn(index.tolist(), rows)
    assert adaptation.seen.tolist() == slow.seen
    assert adaptation.expected.tolist() == slow.expected


@pytest.mark.parametrize("codes", [2, 1024, 1 << 16])
def test_counts_stay_in_bounds_however_long_a_file_is(codes: int) -> None:
    """One symbol comes for ever while another is expected, and then the reverse."""
    adaptation = Adaptation(codes)
    sure = np.zeros(codes)
    sure[1] = PIECE << 16
    for symbol in (0, 1):
        for _ in range(4000):
            adaptation.learn(np.bincount([symbol] * PIECE, minlength=codes), sure)
            gains = adaptation.gains()
            assert gains.min() >= GAIN_MIN
            assert gains.max() <= GAIN_MAX
        assert max(adaptation.seen.max(), adaptation.expected.max()) < 2**30
        if symbol == 0:
            assert (gains[0], gains[1]) == (GAIN_MAX, GAIN_MIN)
        else:
            assert abs(gains[1] / 2**12 - 1) < 0.01


def test_sums_are_exact_and_an_index_never_comes_for_nothing(tables: IndexTables) -> None:
    """With the largest codebook, the flattest tables and the largest gains, and where all but
    one index have the least likelihood and that one the least gain: the length of a payload
    bounds the number of blocks."""
    codes = 1 << 16
    static = np.ones((3, codes), np.int32)
    wide = IndexTables(
        torch.zeros(codes, 8, dtype=torch.int16),
        tables.inverse_variance,
        torch.zeros(3, codes, dtype=torch.int64),
        tables.exponential,
        torch.from_numpy(static),
    )
    flat = np.full((PIECE, codes), 2.0**30)
    adaptation = Adaptation(codes)
    adaptation.seen[:] = 2**29
    assert (adaptation.gains() == GAIN_MAX).all()
    frequencies = wide.frequencies(0, flat, adaptation)
    exact = 2**34 * codes + codes * (2**34 * codes >> 24)
    assert exact < 2**53
    assert frequencies.sum(1).tolist() == [exact] * PIECE

    alone = np.full((1, codes), 16.0)
    alone[0, 7] = 2**30
    adaptation = Adaptation(codes)
    adaptation.expected[7] = 2**29
    assert adaptation.gains()[7] == GAIN_MIN
    for tables_, row in ((wide, alone), (tables, alone[:, : len(tables.entries)])):
        small = Adaptation(row.shape[1])
        small.expected[7] = 2**29
        found = tables_.frequencies(0, row, small)
        assert np.log2(found.sum() / found.max()) >= 1 / 1024


def test_a_file_is_smaller_for_it(shipped: Codec, astronaut: Pixels, coffee: Pixels) -> None:
    for photo in (astronaut, coffee):
        data = shipped.compress(photo, quality=50)
        before = plain(shipped.model, data)
        assert len(data) < 0.98 * len(before)
        assert_same_symbols(symbols_of(shipped.model, data), symbols_of(shipped.model, before))
        now, then = shipped.inspect(data), shipped.inspect(before)
        assert now["index_bits"] < 0.98 * then["index_bits"]
        assert now["z_bits"] < then["z_bits"]
        assert now["map_bits"] == then["map_bits"]
        assert (shipped.maps(data)[1] != shipped.maps(before)[1]).any()
        np.testing.assert_array_equal(shipped.decompress(data), shipped.decompress(before))


def test_what_comes_later_changes_nothing_before(codec: Codec, astronaut: Pixels) -> None:
    """Else no decoder could follow: each table rests on the symbols before its piece alone."""
    symbols = symbols_of(codec.model, codec.compress(astronaut[:128, 128:320], quality=90))
    masks = [torch.from_numpy(mask) for mask in symbols.masks()]

    def fine_tables(maps: list[torch.Tensor], pieces: int) -> list[bytes]:
        """Of the first pieces, with the maps as they are at each one's turn."""
        adaptation = adaptation_of(codec.model.normative, True)
        made = index_frequencies(
            codec.model.normative, 2, symbols.latents[2], masks, maps, adaptation
        )
        return [frequencies.tobytes() for _, _, frequencies in islice(made, pieces)]

    maps = index_maps(symbols)
    order = index_frequencies(codec.model.normative, 2, symbols.latents[2], masks, maps)
    rows, columns, _ = next(order)
    changed = [m.clone() for m in maps]
    changed[2][rows[3 * PIECE], columns[3 * PIECE]] ^= 1
    before, after = fine_tables(maps, 5), fine_tables(changed, 5)
    assert before[:4] == after[:4]
    assert before[4] != after[4]


def test_a_plain_payload_is_read_as_such(codec: Codec, cat: Pixels) -> None:
    data = codec.compress(cat[:64, :96])
    stream = Bitstream.from_bytes(data)
    assert stream.adaptive
    assert Section.PLAIN_PAYLOAD not in stream.sections
    old = plain(codec.model, data)
    assert not Bitstream.from_bytes(old).adaptive
    np.testing.assert_array_equal(codec.decompress(old), codec.decompress(data))


def test_the_benchmark_weighs_one_against_the_other(
    codec: Codec, tmp_path: Path, coffee: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = coffee[:128, :192]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    adaptation_benchmark.main([str(tmp_path), "--models", str(TINY), "--rates", "0.07"])
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")]
    data = codec.compress(photo, bpp=0.07)
    streams = [Bitstream.from_bytes(d) for d in (plain(codec.model, data), data)]
    sizes = [len(stream.payload) for stream in streams]
    assert row[:4] == [str(TINY), "0.07", str(sizes[0]), str(sizes[1])]
    assert row[4] == f"{1 - sizes[1] / sizes[0]:.2%}"
    assert min(map(float, row[5:])) > 0
