"""z that is looked for: fewer bits, and nothing else of a file changes."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hvqcodec import Codec, latent_refinement
from hvqcodec.bitstream import Scope
from hvqcodec.encoding import Scene, analyse
from hvqcodec.entropy.budget import bit_budget, code_lengths
from hvqcodec.entropy.constants import LATENT_MAX
from hvqcodec.entropy.symbol_coding import (
    Symbols,
    coded_after_map,
    encode_symbols,
    index_maps,
    sent_positions,
)
from hvqcodec.granularity import COARSE, FINE, MEDIUM
from hvqcodec.latent_refinement import REACH, Codes, cost, latent_prices, refine_latents
from hvqcodec.pixels import to_blocks
from tests.helpers import CONTEXT, TINY, Pixels, symbols_of


@pytest.fixture(scope="module", params=["tiny", "context", "shipped"])
def codec(request: pytest.FixtureRequest) -> Codec:
    kinds = {"tiny": TINY, "context": CONTEXT}
    return Codec.load(*([kinds[request.param]] if request.param in kinds else []))


@pytest.fixture(scope="module")
def scene(codec: Codec, cat: Pixels) -> Scene:
    static = codec.model.normative.index_tables.static
    return analyse(codec.model.networks, to_blocks(cat[40:280, 60:412]), static)


@pytest.fixture(scope="module")
def symbols(scene: Scene) -> Symbols:
    """On a map of every level, with sides that are no multiples of what z stands for."""
    rows, columns = scene.cell_bits.shape[2:]
    levels = np.full((rows, columns), COARSE, np.uint8)
    levels[: rows - 10, 4:], levels[: rows - 16, 8:-10] = MEDIUM, FINE
    return scene.symbols(levels)


def refined(codec: Codec, symbols: Symbols) -> Symbols:
    return refine_latents(codec.model.networks, codec.model.normative, symbols, rounds=8)


def codes_of(codec: Codec, symbols: Symbols, level: int) -> Codes:
    masks = [torch.from_numpy(mask) for mask in symbols.masks()]
    return Codes(codec.model.networks, masks[: level + 1], index_maps(symbols)[: level + 1])


def spent(codec: Codec, symbols: Symbols) -> float:
    budget = bit_budget(codec.model.normative, symbols)
    return budget["index_bits"] + budget["z_bits"]


def test_bits_are_saved_and_nothing_but_z_changes(
    codec: Codec, symbols: Symbols, request: pytest.FixtureRequest
) -> None:
    """Of the small models hardly any: these have learned little of z."""
    found = refined(codec, symbols)
    share = 0.995 if "shipped" in request.node.name else 0.9995
    assert spent(codec, found) < share * spent(codec, symbols)
    assert (found.levels == symbols.levels).all()
    assert any((a != b).any() for a, b in zip(found.latents, symbols.latents, strict=True))
    for level, mask in enumerate(symbols.masks()):
        assert (found.indices[level] == symbols.indices[level]).all()
        z = found.latents[level]
        assert z.dtype == np.int8
        assert np.abs(z.astype(int)).max() <= LATENT_MAX
        assert (z[:, ~sent_positions(mask)] == 0).all()


def test_bits_are_those_of_the_tables(codec: Codec, symbols: Symbols) -> None:
    """But for rounding, the static share, and what the tables learn from the file."""
    real = [0.0, 0.0, 0.0]
    parts = coded_after_map(codec.model.normative, symbols, Scope.NONE)
    for part, level, piece, frequencies in parts:
        real[level] += code_lengths(piece, frequencies).sum() if part == "index" else 0
    for level, z in enumerate(symbols.latents):
        found = codes_of(codec, symbols, level).bits(torch.from_numpy(z).float())
        assert found.shape == z.shape[1:]
        # The small models are too sure of themselves here and there: the static share helps.
        assert found.sum() > 0.99 * real[level]
        if len(codec.model.normative.index_tables.entries) == 1024:
            assert found.sum() == pytest.approx(real[level], rel=0.01)


def test_prices_are_those_of_the_file(codec: Codec, symbols: Symbols) -> None:
    """As long as nothing else changes; what cannot be sent has none."""
    for level, (z, mask) in enumerate(zip(symbols.latents, symbols.masks(), strict=True)):
        prices = latent_prices(codec.model.normative, level, z, mask)
        real = 0.0
        for part, at, piece, frequencies in coded_after_map(
            codec.model.normative, symbols, Scope.GROWING
        ):
            if (part, at) == ("z", level):
                real += code_lengths(piece, frequencies).sum()
        assert cost(torch.from_numpy(z), prices).sum() == pytest.approx(real, rel=1e-4)
        assert prices[[0, -1]].isposinf().all()
        unsent = prices[:, :, torch.from_numpy(~sent_positions(mask))]
        assert (unsent[LATENT_MAX + 1] == 0).all()
        assert unsent.isfinite().sum() == unsent[0].numel()


@pytest.mark.parametrize("level", [COARSE, MEDIUM, FINE])
def test_the_gradient_is_that_of_the_bits(codec: Codec, symbols: Symbols, level: int) -> None:
    codes = codes_of(codec, symbols, level)
    z = torch.from_numpy(symbols.latents[level]).float()
    bits, gradient = codes.bits_and_gradient(z)
    torch.testing.assert_close(codes.bits(z), bits, rtol=1e-4, atol=1e-3)
    length = gradient.norm()
    ahead, behind = (codes.bits(z + sign * 0.01 * gradient / length) for sign in (1, -1))
    slope = (ahead.double().sum() - behind.double().sum()) / 0.02
    assert slope == pytest.approx(float(length), rel=0.05)


@pytest.mark.parametrize("level", [MEDIUM, FINE])
def test_what_one_position_bears_on(codec: Codec, scene: Scene, level: int) -> None:
    symbols = scene.symbols(np.full(tuple(scene.cell_bits.shape[2:]), level, np.uint8))
    codes = codes_of(codec, symbols, level)
    z = torch.from_numpy(symbols.latents[level]).float()
    y, x = z.shape[1] // 2, z.shape[2] // 2
    changed = z.clone()
    changed[:, y, x] += 5
    rows, columns = (codes.bits(changed) != codes.bits(z)).nonzero(as_tuple=True)
    for places, middle in ((rows, y), (columns, x)):
        assert (places.min(), places.max()) == (middle - REACH, middle + REACH)


def test_large_images_are_refined_piece_by_piece(
    shipped: Codec, cat: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beyond a piece is seen, and left as it is."""
    symbols = symbols_of(shipped.model, shipped.compress(cat, quality=70, effort="fast"))
    whole = refined(shipped, symbols)
    monkeypatch.setattr(latent_refinement, "TILE", 3)
    pieces = refined(shipped, symbols)
    spared = [spent(shipped, symbols) - spent(shipped, found) for found in (whole, pieces)]
    assert spared[1] > 0.9 * spared[0] > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_where_a_caller_wants_none(
    symbols: Symbols, codec: Codec, mode: type[torch.no_grad]
) -> None:
    expected = refined(codec, symbols)
    with mode():
        found = refined(codec, symbols)
    for one, other in zip(found.latents, expected.latents, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_was_loaded_without_gradients(cat: Pixels) -> None:
    with torch.inference_mode():
        codec = Codec.load(CONTEXT)
        data = codec.compress(cat[:64, :96], quality=50)
    assert codec.decompress(data).size == (96, 64)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_model_that_was_copied_without_gradients(
    codec: Codec, cat: Pixels, copied: Callable[[Codec], Codec]
) -> None:
    with torch.inference_mode():
        other = copied(codec)
    assert other.compress(cat[:64, :96]) == codec.compress(cat[:64, :96])


def test_files_are_smaller(shipped: Codec, cat: Pixels) -> None:
    """Of the same codes, with the default effort."""
    ratios = (0.3, 0.4, 0.3)
    files = {e: shipped.compress(cat, ratios=ratios, effort=e) for e in ("fast", "best", "auto")}
    fast, best = (symbols_of(shipped.model, files[effort]) for effort in ("fast", "best"))
    assert (fast.levels == best.levels).all()
    sizes = [len(encode_symbols(shipped.model.normative, symbols)) for symbols in (best, fast)]
    assert sizes[0] < 0.995 * sizes[1]
    assert files["auto"] == files["best"]
