from dataclasses import replace

import numpy as np
import pytest
import torch

from hvqcodec import Codec
from hvqcodec.bitstream import Scope
from hvqcodec.encoding import Scene, analyse, feature_differences, hyperprior, per_cell
from hvqcodec.entropy.budget import bit_budget
from hvqcodec.entropy.constants import ONE
from hvqcodec.granularity import COARSE, FINE, MEDIUM
from hvqcodec.pixels import to_blocks
from tests.helpers import Pixels, psnr


@pytest.fixture(scope="module")
def scene(codec: Codec, coffee: Pixels) -> Scene:
    """Of 192 x 256 pixels."""
    static = codec.model.normative.index_tables.static
    return analyse(codec.model.networks, to_blocks(coffee[100:292, 150:406]), static)


def uniform(scene: Scene, level: int) -> np.ndarray:
    return np.full(scene.cell_bits.shape[2:], level, np.uint8)


@pytest.mark.parametrize("level", [COARSE, MEDIUM, FINE])
def test_the_estimate_is_what_a_map_of_one_level_costs(
    codec: Codec, scene: Scene, level: int
) -> None:
    """The float model beside the integer tables, which do not adapt."""
    levels = uniform(scene, level)
    real = bit_budget(codec.model.normative, scene.symbols(levels), Scope.NONE)["index_bits"]
    assert scene.estimated_bits(levels) == pytest.approx(real, rel=0.02)


def test_finer_levels_are_predicted_to_look_better(scene: Scene) -> None:
    coarse, medium, fine = scene.cell_distortion[0].mean((1, 2)).tolist()
    assert coarse > medium > fine > 0


def test_measuring_changes_distortions_alone_and_keeps_their_mean(
    scene: Scene, coffee: Pixels
) -> None:
    measured = scene.measured(to_blocks(coffee[100:292, 150:406]))
    assert measured.cell_distortion.shape == scene.cell_distortion.shape
    assert (measured.cell_distortion > 0).all()
    assert not torch.allclose(measured.cell_distortion, scene.cell_distortion, rtol=0.05)
    means = [s.cell_distortion.mean().item() for s in (measured, scene)]
    assert means[0] == pytest.approx(means[1], rel=0.2)
    assert replace(measured, cell_distortion=scene.cell_distortion) == scene


def test_differences_of_features_are_those_of_the_places(codec: Codec, coffee: Pixels) -> None:
    """Nowhere where nothing differs, and the same in tiles."""
    original = to_blocks(coffee[100:292, 150:406])
    changed = original.copy()
    changed[64:128, 64:128] = 255 - changed[64:128, 64:128]
    networks = codec.model.networks
    same, found = feature_differences(networks, [original, changed], original, None)
    assert same.shape == (24, 32)
    assert not same.any()
    assert (found[8:16, 8:16] > 0).all()
    reach = -(-networks.analysis.reach // 16) * 2
    assert not found[16 + reach :].any()
    assert not found[:, 16 + reach :].any()
    in_tiles = feature_differences(networks, [original, changed], original, 64)
    torch.testing.assert_close(in_tiles[1], found, atol=1e-4, rtol=1e-4)


def test_measuring_in_tiles_is_measuring(codec: Codec, scene: Scene, coffee: Pixels) -> None:
    blocks = to_blocks(coffee[100:292, 150:406])
    whole, tiled = (scene.measured(blocks, side).cell_distortion for side in (None, 64))
    torch.testing.assert_close(tiled, whole, rtol=0.02, atol=0)


def test_the_best_effort_is_closer_to_the_photos(
    shipped: Codec, astronaut: Pixels, coffee: Pixels, cat: Pixels, rocket: Pixels
) -> None:
    """On the mean: single photos may differ in their last few bytes."""
    gains = []
    for photo in (p[100:292, 100:356] for p in (astronaut, coffee, cat, rocket)):
        fast, best = (shipped.compress(photo, bpp=0.1, effort=e) for e in ("fast", "best"))
        assert len(best) == pytest.approx(len(fast), abs=32)
        decoded = [np.asarray(shipped.decompress(data)) for data in (fast, best)]
        gains.append(psnr(decoded[1], photo) - psnr(decoded[0], photo))
    assert np.mean(gains) > 0.02


def test_a_large_image_is_not_measured_unasked(
    codec: Codec, cat: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = cat[60:252, 100:356]
    auto, fast, best = (codec.compress(photo, effort=e) for e in ("auto", "fast", "best"))
    assert auto == codec.compress(photo) == best != fast
    monkeypatch.setattr("hvqcodec.codec.UNTILED", photo[:, :, 0].size - 1)
    assert codec.compress(photo) == fast
    assert codec.compress(photo, effort="best") == best


@pytest.mark.parametrize("level", [COARSE, MEDIUM, FINE])
def test_indices_are_those_of_the_nearest_entries(codec: Codec, scene: Scene, level: int) -> None:
    symbols = scene.symbols(uniform(scene, level))
    vectors = scene.embeddings[level][0].flatten(1).t()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    distances = torch.cdist(vectors, codec.model.networks.codebook.entries())
    chosen = torch.from_numpy(symbols.indices[level]).long()
    found = distances.gather(1, chosen[:, None])[:, 0]
    torch.testing.assert_close(found, distances.amin(1), atol=1e-5, rtol=0)
    assert [len(index) for index in symbols.indices].count(0) == 2


def test_bits_of_codes_are_shared_out_to_cells() -> None:
    bits = {
        COARSE: torch.tensor([[8.0, 4.0]]),
        MEDIUM: torch.arange(8.0).view(2, 4),
        FINE: torch.arange(32.0).view(4, 8),
    }
    assert per_cell(bits[COARSE], COARSE).tolist() == [[2, 2, 1, 1]] * 2
    assert torch.equal(per_cell(bits[MEDIUM], MEDIUM), bits[MEDIUM])
    assert per_cell(bits[FINE], FINE)[1, 2].item() == 20 + 21 + 28 + 29
    for level, code_bits in bits.items():
        assert per_cell(code_bits, level).shape == (2, 4)
        assert per_cell(code_bits, level).sum() == code_bits.sum()


@pytest.mark.parametrize("level", [COARSE, MEDIUM, FINE])
def test_the_integers_follow_the_float_hyper_synthesis(
    codec: Codec, scene: Scene, level: int
) -> None:
    symbols = scene.symbols(uniform(scene, level))
    rng = np.random.default_rng(level)
    z = torch.from_numpy(rng.integers(-2, 3, symbols.latents[level].shape))
    mask = torch.from_numpy(rng.random(symbols.masks()[level].shape) < 0.7)
    mu, step = codec.model.normative.hyper_syntheses[level](z, mask)
    synthesis = hyperprior(codec.model.networks, level).synthesis
    with torch.inference_mode():
        float_mu, float_step = synthesis(z[None].float(), mask[None, None])
    assert (mu / ONE - float_mu[0]).abs().max() < 0.03
    assert (step - float_step[0]).abs().max() < 1
