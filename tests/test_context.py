from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hvqcodec import Codec
from hvqcodec.encoding import Scene, analyse, hyperprior
from hvqcodec.entropy.constants import ONE, SIGMA_STEPS
from hvqcodec.entropy.context import FLAGS, TURNS, around, known_planes, turns
from hvqcodec.entropy.fixed_point import MU_LIMIT
from hvqcodec.entropy.symbol_coding import Symbols, index_frequencies, index_maps
from hvqcodec.granularity import COARSE, FINE, MEDIUM
from hvqcodec.pixels import to_blocks
from tests.helpers import CONTEXT, Pixels, maps


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(CONTEXT)


@pytest.fixture(scope="module")
def scene(codec: Codec, cat: Pixels) -> Scene:
    static = codec.model.normative.index_tables.static
    return analyse(codec.model.networks, to_blocks(cat[64:192, 128:288]), static)


@pytest.fixture(scope="module")
def symbols(scene: Scene) -> Symbols:
    """On a map of every level."""
    levels = np.full((16, 20), COARSE, np.uint8)
    levels[:10, 4:], levels[:6, 4:16] = MEDIUM, FINE
    return scene.symbols(levels)


def frequencies_of(codec: Codec, symbols: Symbols, level: int) -> dict[tuple[int, int], bytes]:
    """By row and column."""
    masks = [torch.from_numpy(mask) for mask in symbols.masks()]
    pieces = index_frequencies(
        codec.model.normative, level, symbols.latents[level], masks, index_maps(symbols)
    )
    return {
        (int(row), int(column)): f.tobytes()
        for rows, columns, table in pieces
        for row, column, f in zip(rows, columns, table, strict=True)
    }


@given(maps())
def test_every_code_has_one_turn(levels: np.ndarray) -> None:
    for mask in Symbols(levels, (), ()).masks():
        for in_turns in (False, True):
            visited = np.zeros(mask.shape, int)
            for rows, columns in turns(torch.from_numpy(mask), in_turns):
                order = rows * mask.shape[1] + columns
                assert (order.diff() > 0).all()
                np.add.at(visited, (rows.numpy(), columns.numpy()), 1)
            np.testing.assert_array_equal(visited, mask)


def test_planes_show_what_is_known(symbols: Symbols) -> None:
    masks = [torch.from_numpy(mask)[None] for mask in symbols.masks()]
    filled = [index[None] for index in index_maps(symbols)]
    entries = torch.randn(64, 4, dtype=torch.float64)
    for level, side in enumerate((16, 8, 4)):
        for turn in range(4):
            known = masks[: level + 1], filled[: level + 1]
            planes = known_planes(entries, *known, turn, 7.0)[0]
            assert planes.shape[0] == 4 + FLAGS
            for y, x in np.ndindex(*planes.shape[1:]):
                embedding, coarser, own, is_known = torch.zeros(4), False, False, False
                for other in range(level + 1):
                    ratio = (16, 8, 4)[other] // side
                    place = (0, y // ratio, x // ratio)
                    sent = bool(masks[other][place])
                    known_then = other < level or (y % 2, x % 2) in TURNS[:turn]
                    if sent and known_then:
                        embedding = entries[filled[other][place]]
                    if other < level:
                        coarser |= sent
                    else:
                        own, is_known = sent, sent and known_then
                assert planes[:4, y, x].tolist() == embedding.tolist()
                assert planes[4:, y, x].tolist() == [7.0 * coarser, 7.0 * own, 7.0 * is_known]


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3, 5]))
def test_squares_are_those_of_unfold(h: int, w: int, window: int) -> None:
    planes = torch.arange(3 * h * w, dtype=torch.float64).view(3, h, w) + 1
    rows, columns = torch.ones(h, w, dtype=torch.bool).nonzero(as_tuple=True)
    padded = F.pad(planes.permute(1, 2, 0), (0, 0, *(window // 2,) * 4)).contiguous()
    expected = F.unfold(planes[None], window, padding=window // 2)[0]
    found = around(padded, rows, columns, window).view(h * w, window**2, 3)
    assert torch.equal(found.permute(2, 1, 0).flatten(0, 1), expected)


@pytest.mark.parametrize("level", range(3))
def test_integers_follow_the_floats(codec: Codec, symbols: Symbols, level: int) -> None:
    networks, normative = codec.model.networks, codec.model.normative
    masks = [torch.from_numpy(mask)[None] for mask in symbols.masks()]
    known = masks[: level + 1], [index[None] for index in index_maps(symbols)][: level + 1]
    z = torch.from_numpy(symbols.latents[level])
    entries = normative.index_tables.entries.double()
    mu, step = normative.hyper_syntheses[level](z, masks[level][0])
    expected_mu, expected_step = networks.contexts[level](
        entries.float() / ONE, *known, mu[None].float() / ONE, step[None].float()
    )
    context, moved = normative.contexts[level], 0.0
    for turn, (rows, columns) in enumerate(turns(masks[level][0], True)):
        planes = context.pad(known_planes(entries, *known, turn, 1 << 12)[0])
        before = mu[:, rows, columns], step[:, rows, columns]
        found_mu, found_step = context(around(planes, rows, columns, context.window), *before)
        assert found_mu.abs().max() <= MU_LIMIT
        assert 0 <= found_step.min() <= found_step.max() <= SIGMA_STEPS - 1
        error = found_mu / ONE - expected_mu[0, :, rows, columns]
        assert error.abs().max() < 0.01
        assert (found_step - expected_step[0, :, rows, columns]).abs().max() < 1
        moved = max(moved, (found_mu - before[0]).abs().max().item())
    assert moved > 100


@pytest.mark.parametrize("level", range(3))
def test_a_code_moves_those_of_later_turns_around_it_and_no_others(
    codec: Codec, symbols: Symbols, level: int
) -> None:
    before = frequencies_of(codec, symbols, level)
    mask = symbols.masks()[level]
    turn_of = {place: turn for turn, place in enumerate(TURNS)}
    seen_by_turn = set()
    for number in range(0, len(symbols.indices[level]), 7):
        y, x = (int(axis[number]) for axis in mask.nonzero())
        indices = [index.copy() for index in symbols.indices]
        indices[level][number] ^= 33
        after = frequencies_of(codec, replace(symbols, indices=tuple(indices)), level)
        moved = {place for place in before if before[place] != after[place]}
        for row, column in moved:
            assert max(abs(row - y), abs(column - x)) <= codec.model.normative.contexts[0].window
            assert turn_of[row % 2, column % 2] > turn_of[y % 2, x % 2]
            seen_by_turn.add(turn_of[row % 2, column % 2])
    assert seen_by_turn == {1, 2, 3}


def test_a_coarser_code_moves_finer_ones_but_not_the_reverse(
    codec: Codec, symbols: Symbols
) -> None:
    for changed in range(3):
        indices = [index.copy() for index in symbols.indices]
        indices[changed] ^= 21
        other = replace(symbols, indices=tuple(indices))
        for level in range(3):
            moved = frequencies_of(codec, symbols, level) != frequencies_of(codec, other, level)
            assert moved == (changed <= level)


def test_the_estimate_follows_the_context(codec: Codec, scene: Scene) -> None:
    """The encoder's bits are those of the tables if all blocks are of one level."""
    networks = codec.model.networks
    for level in range(3):
        levels = np.full(tuple(scene.cell_bits.shape[2:]), level, np.uint8)
        symbols = scene.symbols(levels)
        maps_ = index_maps(symbols)
        real = 0.0
        masks = [torch.from_numpy(mask) for mask in symbols.masks()]
        for r, c, f in index_frequencies(
            codec.model.normative, level, symbols.latents[level], masks, maps_
        ):
            chosen = np.take_along_axis(f, maps_[level].numpy()[r, c][:, None], 1)[:, 0]
            real -= np.log2(chosen / f.sum(1)).sum()
        assert hyperprior(networks, level) is not None
        assert scene.estimated_bits(levels) == pytest.approx(real, rel=0.02)
