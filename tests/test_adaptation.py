"""Tables that learn from a file's own symbols: exact, bounded, and worth it."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from benchmarks import adaptation as adaptation_benchmark
from hvqcodec import Codec
from hvqcodec.arrays import Floats
from hvqcodec.bitstream import Bitstream, Scope
from hvqcodec.entropy.adaptation import (
    CELL_MAX,
    COUNT_ONE,
    GAIN_MAX,
    GAIN_MIN,
    PIECE_MAX,
    Adaptation,
    FileAdaptation,
    PlaceAdaptation,
    Places,
)
from hvqcodec.entropy.context import turns
from hvqcodec.entropy.symbol_coding import adaptation_of, index_frequencies, index_maps
from hvqcodec.entropy.tables import IndexTables
from tests.helpers import TINY, Pixels, assert_same_symbols, recoded, symbols_of

Cell = tuple[int, int]


class ByThePage:
    """Counts and gains of all the file in plain integers, from docs/format.md."""

    def __init__(self, codes: int) -> None:
        self.seen, self.expected = [0] * codes, [0] * codes

    def gains(self) -> list[int]:
        return [
            min(max((s + 2**17) * 2**12 // (e + 2**17), 2**9), 2**16)
            for s, e in zip(self.seen, self.expected, strict=True)
        ]

    def gains_at(self, cell: Cell) -> list[int]:
        return self.gains()

    def learn(self, index: list[int], likelihoods: list[list[int]], cells: list[Cell]) -> None:
        self.add(index, expectations(likelihoods))

    def add(self, index: list[int], expected: list[int]) -> None:
        for k, more in enumerate(expected):
            self.seen[k] += 2**16 * index.count(k) - (self.seen[k] >> 8)
            self.expected[k] += more - (self.expected[k] >> 8)


class PlacesByThePage(ByThePage):
    """The same with counts of each cell beside them."""

    def __init__(self, codes: int) -> None:
        super().__init__(codes)
        self.near: dict[Cell, tuple[list[int], list[int]]] = {}
        self.none = [0] * codes, [0] * codes

    def gains_at(self, cell: Cell) -> list[int]:
        sums = [[0] * len(self.seen) for _ in range(2)]
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            weight = (2 - abs(dy)) * (2 - abs(dx))
            counts = self.near.get((cell[0] + dy, cell[1] + dx), self.none)
            for total, count in zip(sums, counts, strict=True):
                total[:] = [t + weight * c for t, c in zip(total, count, strict=True)]
        return [
            min(max((2**12 * s + 2**18 * g) // (e + 2**18), 2**9), 2**16)
            for s, e, g in zip(*sums, self.gains(), strict=True)
        ]

    def learn(self, index: list[int], likelihoods: list[list[int]], cells: list[Cell]) -> None:
        total = [0] * len(self.seen)
        for cell in set(cells):
            own = [n for n, c in enumerate(cells) if c == cell]
            came, expected = [index[n] for n in own], expectations([likelihoods[n] for n in own])
            total = [t + e for t, e in zip(total, expected, strict=True)]
            before = self.near.get(cell, self.none)
            self.near[cell] = (
                [s + 2**16 * came.count(k) for k, s in enumerate(before[0])],
                [e + x for e, x in zip(before[1], expected, strict=True)],
            )
        self.add(index, total)


def expectations(likelihoods: list[list[int]]) -> list[int]:
    whole = [2**47 // sum(row) for row in likelihoods]
    weighted = ([w * t for t in row] for w, row in zip(whole, likelihoods, strict=True))
    return [sum(column) >> 31 for column in zip(*weighted, strict=True)]


@pytest.fixture(scope="module")
def tables(codec: Codec) -> IndexTables:
    return codec.model.normative.index_tables


@dataclass
class Piece:
    level: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    index: NDArray[np.int64]
    likelihoods: Floats

    def cells(self, side: int) -> list[Cell]:
        """Of so many pixels."""
        blocks = side >> (4 - self.level)
        return list(zip(self.rows // blocks, self.columns // blocks, strict=True))

    def ordered(self, adaptation: FileAdaptation) -> "Piece":
        """As it would come."""
        order = np.argsort(adaptation.cells(self.level, self.rows, self.columns), kind="stable")
        columns = self.rows, self.columns, self.index, self.likelihoods
        return Piece(self.level, *(column[order] for column in columns))


def random_pieces(
    rng: np.random.Generator, codes: int, height: int, width: int, count: int
) -> Iterator[Piece]:
    """Flat and sharp tables, and indices that are not those that they expect, in runs along a
    row and anywhere."""
    for _ in range(count):
        size, level = int(rng.integers(1, PIECE_MAX + 1)), int(rng.integers(3))
        block = 16 >> level
        likelihoods = np.floor(2.0**30 * rng.random((size, codes)) ** rng.choice([0.01, 1, 60]))
        likelihoods[:, rng.integers(codes)] = 2**30
        index = np.minimum(rng.geometric(0.3, size), codes - 1)
        rows = rng.integers(height // block, size=1 if rng.random() < 0.5 else size)
        columns = rng.integers(width // block, size=size)
        yield Piece(level, np.broadcast_to(rows, size), columns, index, likelihoods)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["file", "places", "larger places"]))
def test_equals_the_page_in_plain_integers(tables: IndexTables, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    codes = tables.entries.shape[0]
    height, width = rng.choice([16, 96, 208, 400], 2).tolist()
    slow = ByThePage(codes) if kind == "file" else PlacesByThePage(codes)
    side = 64
    if kind == "file":
        adaptation = FileAdaptation(codes)
    elif kind == "places":
        adaptation = PlaceAdaptation(codes, height, width)
    else:  # all pieces lie in a corner of it
        adaptation, side = PlaceAdaptation(codes, 16_400, 16_400), 128
    static = tables.static[1].tolist()
    for drawn in random_pieces(rng, codes, height, width, 12):
        piece = drawn.ordered(adaptation)
        rows, cells = piece.likelihoods.astype(np.int64).tolist(), piece.cells(side)
        numbers = adaptation.cells(piece.level, piece.rows, piece.columns).tolist()
        slow_gains = [slow.gains_at(cell) for cell in cells]
        ones = np.full_like(piece.likelihoods, 2.0**12)
        assert adaptation.adapted(numbers, ones).tolist() == slow_gains
        adapted = [
            [t * g >> 12 for t, g in zip(row, gained, strict=True)]
            for row, gained in zip(rows, slow_gains, strict=True)
        ]
        expected = [
            [a + s * (sum(row) >> 24) for a, s in zip(row, static, strict=True)] for row in adapted
        ]
        found = tables.frequencies(1, adaptation.adapted(numbers, piece.likelihoods))
        assert found.tolist() == expected
        adaptation.learn(piece.index, piece.likelihoods)
        slow.learn(piece.index.tolist(), rows, cells)
    assert adaptation.whole.counts.tolist() == [slow.seen, slow.expected]


@pytest.mark.parametrize(
    ("codes", "height", "width", "side"),
    [
        (1024, 16, 16, 6),
        (1024, 4096, 4096, 6),
        (1024, 4096, 4112, 7),
        (256, 8192, 8192, 6),
        (1 << 16, 512, 512, 6),
        (1 << 16, 512, 528, 7),
        (1024, 16, 1 << 24, 12),
    ],
)
def test_counts_of_cells_are_bounded(codes: int, height: int, width: int, side: int) -> None:
    assert PlaceAdaptation(codes, height, width).side == side


def test_the_largest_cell_is_exact(tables: IndexTables) -> None:
    """With all codes of nine cells of 4096 pixels the same, and each all but certain."""
    codes = len(tables.entries)
    adaptation = PlaceAdaptation(codes, 1 << 15, 1 << 24)
    assert adaptation.side == CELL_MAX
    filled = 2.0**20 * 2**16  # fine codes in a cell
    rows, columns = np.divmod(np.arange(9), 3)
    nine = adaptation.cells(2, 1024 * rows, 1024 * columns)
    adaptation.near[nine, 0, 7] = 4 * filled
    adaptation.near[nine, 1, 7] = 4 * filled - 1
    adaptation.near[nine, 0, 8] = 4 * filled
    adaptation.whole.counts[0, 7] = 2**40
    gains = adaptation.adapted(nine[4:5].tolist(), np.full((1, codes), 2.0**12))[0]
    near = 16 * 2**36
    assert (near << 12) + (2**16 << 18) < 2**53
    assert gains[7] == ((near << 12) + (2**16 << 18)) // (near - 4 + 2**18)
    assert gains[8] == GAIN_MAX


@pytest.mark.parametrize("codes", [2, 1024, 1 << 16])
def test_counts_stay_in_bounds_however_long_a_file_is(codes: int) -> None:
    """One symbol comes for ever while another is expected, and then the reverse."""
    adaptation = Adaptation(codes)
    piece = np.zeros((2, codes))
    piece[1, 1] = PIECE_MAX << 16
    for symbol in (0, 1):
        piece[0] = PIECE_MAX * COUNT_ONE * (np.arange(codes) == symbol)
        for _ in range(4000):
            adaptation.learn(piece)
            gains = adaptation.gains()
            assert gains.min() >= GAIN_MIN
            assert gains.max() <= GAIN_MAX
        assert adaptation.counts.max() <= 2**30
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
    flat = np.full((PIECE_MAX, codes), 2.0**30)
    adaptation = FileAdaptation(codes)
    adaptation.whole.counts[0] = 2**29
    assert (adaptation.whole.gains() == GAIN_MAX).all()
    anywhere = [0] * PIECE_MAX
    frequencies = wide.frequencies(0, adaptation.adapted(anywhere, flat))
    exact = 2**34 * codes + codes * (2**34 * codes >> 24)
    assert exact < 2**53
    assert frequencies.sum(1).tolist() == [exact] * len(flat)

    alone = np.full((1, codes), 16.0)
    alone[0, 7] = 2**30
    for tables_, row in ((wide, alone), (tables, alone[:, : len(tables.entries)])):
        small = FileAdaptation(row.shape[1])
        small.whole.counts[1, 7] = 2**29
        assert small.whole.gains()[7] == GAIN_MIN
        found = tables_.frequencies(0, small.adapted(anywhere[:1], row))
        assert np.log2(found.sum() / found.max()) >= 1 / 1024


def test_a_file_is_smaller_for_it(shipped: Codec, astronaut: Pixels, coffee: Pixels) -> None:
    """Than those of earlier releases, and those are than those before; z as it comes from the
    network."""
    for photo in (astronaut, coffee):
        data = shipped.compress(photo, quality=50, effort="fast")
        files = [recoded(shipped.model, data, scope) for scope in Scope]
        assert files[Scope.GROWING] == data
        for latest in (data, files[Scope.PLACE]):
            assert len(latest) < 0.995 * len(files[Scope.FILE]) < 0.98 * len(files[Scope.NONE])
        assert len(data) < 1.002 * len(files[Scope.PLACE])
        for before in files:
            assert_same_symbols(symbols_of(shipped.model, data), symbols_of(shipped.model, before))
            np.testing.assert_array_equal(shipped.decompress(data), shipped.decompress(before))
        none, _, place, growing = (shipped.inspect(file)["index_bits"] for file in files)
        assert max(place, growing) < 0.98 * none
        assert growing < 1.002 * place
        not_growing = files[: Scope.GROWING]
        pairs = [*itertools.pairwise(reversed(not_growing)), (data, files[Scope.FILE])]
        for later, earlier in pairs:
            now, then = shipped.inspect(later), shipped.inspect(earlier)
            assert now["index_bits"] < 0.995 * then["index_bits"]
            assert now["z_bits"] < then["z_bits"]
            assert now["map_bits"] == then["map_bits"]
            assert (shipped.maps(later)[1] != shipped.maps(earlier)[1]).any()


def test_what_comes_later_changes_nothing_before(codec: Codec, astronaut: Pixels) -> None:
    """Else no decoder could follow: each table rests on the symbols before its piece alone."""
    symbols = symbols_of(codec.model, codec.compress(astronaut[:128, 128:320], quality=90))
    masks = [torch.from_numpy(mask) for mask in symbols.masks()]

    def fine_tables(maps: list[torch.Tensor]) -> list[tuple[Places, Places, Floats]]:
        """Of the first five pieces, with the maps as they are at each one's turn."""
        adaptation = adaptation_of(codec.model.normative, symbols.levels, Scope.GROWING)
        made = index_frequencies(
            codec.model.normative, 2, symbols.latents[2], masks, maps, adaptation
        )
        return list(itertools.islice(made, 5))

    maps = index_maps(symbols)
    before = fine_tables(maps)
    rows, columns, _ = before[3]
    changed = [m.clone() for m in maps]
    changed[2][rows[0], columns[0]] ^= 1
    after = fine_tables(changed)
    same = [(a[2] == b[2]).all() for a, b in zip(before, after, strict=True)]
    assert same == [True] * 4 + [False]


def sizes_by_the_page(turns_of_levels: list[int]) -> Iterator[int]:
    """Of pieces, by the numbers of positions of all turns."""
    brought = 0
    for positions in turns_of_levels:
        for start in range(0, positions, 512):
            group = min(512, positions - start)
            size = min(max(2 ** (math.floor(math.log2(brought)) - 4), 8), 64) if brought else 8
            yield from [size] * (group // size)
            if group % size:
                yield group % size
            brought += group


@pytest.mark.parametrize("name", ["tiny", "context"])
def test_pieces_grow_with_the_file(name: str, astronaut: Pixels) -> None:
    """Of a model without context and of one with turns."""
    model = Codec.load(TINY.with_name(f"{name}.safetensors")).model
    data = Codec(model).compress(astronaut[:192, 64:320], quality=95, effort="max")
    symbols = symbols_of(model, data)
    masks, maps = [torch.from_numpy(mask) for mask in symbols.masks()], index_maps(symbols)
    for scope in (Scope.PLACE, Scope.GROWING):
        adaptation = adaptation_of(model.normative, symbols.levels, scope)
        found = []
        for level, z in enumerate(symbols.latents):
            made = index_frequencies(model.normative, level, z, masks, maps, adaptation)
            found += [len(rows) for rows, _, _ in made]
        in_turns = bool(model.normative.contexts)
        lengths = [len(rows) for mask in masks for rows, _ in turns(mask, in_turns)]
        assert sum(lengths) > 1200
        if scope == Scope.GROWING:
            assert found == list(sizes_by_the_page(lengths))
            assert {8, 32, 64} <= set(found)
        else:
            assert max(found) == 32
            assert sum(found) == sum(lengths)


def test_the_kind_of_a_payload_is_read_as_such(codec: Codec, cat: Pixels) -> None:
    data = codec.compress(cat[:64, :96])
    kinds = {Scope.NONE: 1, Scope.FILE: 4, Scope.PLACE: 5, Scope.GROWING: 6}
    for scope, kind in kinds.items():
        file = recoded(codec.model, data, scope)
        stream = Bitstream.from_bytes(file)
        assert stream.scope == scope
        assert set(stream.sections) & set(kinds.values()) == {kind}
        np.testing.assert_array_equal(codec.decompress(file), codec.decompress(data))


def test_the_benchmark_weighs_one_against_the_other(
    codec: Codec, tmp_path: Path, coffee: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = coffee[:128, :192]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    adaptation_benchmark.main([str(tmp_path), "--models", str(TINY), "--rates", "0.07"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    data = codec.compress(photo, bpp=0.07)
    files = [recoded(codec.model, data, scope) for scope in Scope]
    sizes = [len(Bitstream.from_bytes(file).payload) for file in files]
    assert len(rows) == len(Scope)
    for row, scope in zip(rows, Scope, strict=True):
        saved = f"{1 - sizes[scope] / sizes[0]:.2%}"
        assert row[:5] == [str(TINY), "0.07", scope.name.lower(), str(sizes[scope]), saved]
        assert float(row[5]) > 0
