"""Codes that are looked for: the picture is closer for its bits, and nothing else of a file
changes."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hvqcodec import Codec, code_refinement
from hvqcodec.choices import Effort
from hvqcodec.code_refinement import (
    FARTHEST,
    FIRST_MOVE,
    LAST_MOVE,
    MOST_BITS,
    TEMPERATURE,
    move,
    moves,
    part_of,
    refine_codes,
)
from hvqcodec.decoding import synthesise
from hvqcodec.encoding import Scene, analyse, hyperprior
from hvqcodec.entropy.symbol_coding import Symbols, index_maps
from hvqcodec.granularity import COARSE, FINE, MEDIUM
from hvqcodec.metrics import ms_ssim, to_tensor
from hvqcodec.pixels import to_blocks
from hvqcodec.tiling import Tile, tiles
from tests.helpers import CONTEXT, TINY, Pixels, psnr

LAMBDA = 1.5
STEPS = 6
RATIOS = 0.3, 0.4, 0.3


@pytest.fixture(scope="module", params=["tiny", "context", "shipped"])
def codec(request: pytest.FixtureRequest) -> Codec:
    kinds = {"tiny": TINY, "context": CONTEXT}
    return Codec.load(*([kinds[request.param]] if request.param in kinds else []))


@pytest.fixture(scope="module")
def blocks(cat: Pixels) -> Pixels:
    """Sides that are no multiples of what z stands for: (176, 208, 3)."""
    return to_blocks(cat[40:216, 60:260])


@pytest.fixture(scope="module")
def scene(codec: Codec, blocks: Pixels) -> Scene:
    return analyse(codec.model.networks, blocks, codec.model.normative.index_tables.static)


@pytest.fixture(scope="module")
def symbols(scene: Scene) -> Symbols:
    """On a map of every level."""
    levels = np.full(scene.cell_bits.shape[2:], COARSE, np.uint8)
    levels[:16, 4:], levels[:12, 8:-10] = MEDIUM, FINE
    return scene.symbols(levels)


@pytest.fixture(scope="module")
def refined(scene: Scene, blocks: Pixels, symbols: Symbols) -> Symbols:
    return refine_codes(scene, blocks, symbols, LAMBDA, STEPS)


def error(scene: Scene, symbols: Symbols, blocks: Pixels) -> float:
    decoded = synthesise(scene.networks, symbols).astype(np.float64)
    return float(np.square(decoded - blocks).mean())


def test_the_picture_is_closer_and_nothing_else_changes(
    scene: Scene, blocks: Pixels, symbols: Symbols, refined: Symbols
) -> None:
    assert error(scene, refined, blocks) < 0.99 * error(scene, symbols, blocks)
    assert np.array_equal(refined.levels, symbols.levels)
    for a, b in zip(refined.latents, symbols.latents, strict=True):
        assert np.array_equal(a, b)
    changed = [np.mean(a != b) for a, b in zip(refined.indices, symbols.indices, strict=True)]
    assert all(0.01 < share < 0.75 for share in changed), changed


def test_an_image_gives_the_same_file_each_time(
    scene: Scene, blocks: Pixels, symbols: Symbols, refined: Symbols
) -> None:
    """In other modes of torch as well, and whatever has been drawn before."""

    def again() -> Symbols:
        return refine_codes(scene, blocks, symbols, LAMBDA, STEPS)

    drawn = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            other = again()
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.crc() == refined.crc()
    with torch.no_grad():
        assert again().crc() == refined.crc()
    assert torch.equal(torch.get_rng_state(), drawn)


def test_networks_copied_in_inference_mode(
    scene: Scene, blocks: Pixels, symbols: Symbols, refined: Symbols
) -> None:
    with torch.inference_mode():
        copied = Scene(
            copy.deepcopy(scene.networks),
            scene.embeddings,
            scene.indices,
            scene.cell_distortion,
            scene.cell_bits,
        )
        assert refine_codes(copied, blocks, symbols, LAMBDA, STEPS).crc() == refined.crc()


def test_a_higher_price_makes_smaller_files(scene: Scene, blocks: Pixels, symbols: Symbols) -> None:
    bits = []
    for lambda_ in (0.0, LAMBDA, 10 * LAMBDA):
        found = refine_codes(scene, blocks, symbols, lambda_, STEPS)
        bits.append(sum(b.sum().item() for b in bits_of(scene, found)))
    assert bits == sorted(bits, reverse=True)
    assert bits[2] < 0.97 * bits[0]


def test_errors_count_where_they_are_said_to(
    scene: Scene, blocks: Pixels, symbols: Symbols
) -> None:
    rows, columns = scene.cell_bits.shape[2:]
    left = torch.full((rows, columns), 1e-3)
    left[:, : columns // 2] = 2
    halves = [np.s_[:, : blocks.shape[1] // 2], np.s_[:, blocks.shape[1] // 2 :]]
    errors = []
    for weights in (left, left.flip(1)):
        decoded = synthesise(
            scene.networks, refine_codes(scene, blocks, symbols, LAMBDA, STEPS, weights)
        ).astype(np.float64)
        errors.append([np.square(decoded - blocks)[half].mean() for half in halves])
    assert errors[0][0] < errors[1][0]
    assert errors[1][1] < errors[0][1]


def test_in_tiles_it_is_as_good(
    scene: Scene,
    blocks: Pixels,
    symbols: Symbols,
    refined: Symbols,
) -> None:
    told: list[float] = []
    found = refine_codes(scene, blocks, symbols, LAMBDA, STEPS, side=128, progress=told.append)
    gains = [error(scene, s, blocks) / error(scene, symbols, blocks) for s in (found, refined)]
    assert gains[0] < 1 - 0.7 * (1 - gains[1])
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) == 4 * STEPS


def test_what_is_around_a_tile_stays(scene: Scene, blocks: Pixels, symbols: Symbols) -> None:
    tile = list(tiles(192, 256, 64, 64, 64))[5]
    part = part_in(scene, blocks, symbols, tile)
    before = [index.clone() for index in part.maps]
    after = part.refined(LAMBDA, moves(STEPS), torch.Generator().manual_seed(0), lambda share: None)
    changed = [a != b for a, b in zip(after, before, strict=True)]
    assert any(where.any() for where in changed)
    for where, block in zip(changed, (16, 8, 4), strict=True):
        where[tile.within(block)] = False
        assert not where.any()


def part_in(scene: Scene, blocks: Pixels, symbols: Symbols, tile: Tile) -> code_refinement.Part:
    masks = [torch.from_numpy(mask) for mask in symbols.masks()]
    return part_of(scene, blocks, symbols, masks, index_maps(symbols), None, False, tile)


def bits_of(scene: Scene, symbols: Symbols) -> list[Tensor]:
    """Of the indices of each level, by the networks as training knows them."""
    masks = [torch.from_numpy(mask)[None] for mask in symbols.masks()]
    maps, found = [index[None] for index in index_maps(symbols)], []
    for level, z in enumerate(symbols.latents):
        pair = scene.networks.gaussians(level, torch.from_numpy(z)[None].float(), masks, maps)
        mu, step = (t[0].permute(1, 2, 0)[masks[level][0]] for t in pair)
        entries = scene.networks.codebook.entries()
        index = maps[level][masks[level]]
        found.append(hyperprior(scene.networks, level).index_bits(mu, step, entries, index))
    return found


def test_prices_are_the_bits_of_the_entries(scene: Scene, blocks: Pixels, symbols: Symbols) -> None:
    (tile,) = tiles(192, 256, 64, 512, 64)
    part = part_in(scene, blocks, symbols, tile)
    for level, expected in enumerate(bits_of(scene, symbols)):
        prices = part.bits(level)
        chosen = torch.from_numpy(symbols.indices[level]).long()
        found = prices.gather(1, chosen[:, None])[:, 0]
        torch.testing.assert_close(found, expected.clamp(max=MOST_BITS), atol=1e-3, rtol=1e-3)


def test_the_gradient_towards_cheap_entries(scene: Scene, blocks: Pixels, symbols: Symbols) -> None:
    (tile,) = tiles(192, 256, 64, 512, 64)
    part, entries = part_in(scene, blocks, symbols, tile), scene.networks.codebook.entries()
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(40, entries.shape[1]), dim=1).requires_grad_()
    costs = 18 * torch.rand(40, len(entries))
    share = torch.softmax(-torch.cdist(unit, entries).square() / TEMPERATURE, 1)
    (gradient,) = torch.autograd.grad((share * costs).sum(), unit)
    found = part.towards_bits(unit.detach(), costs)

    # Along the sphere: across it the distance to entries changes for all alike.
    def along(g: Tensor) -> Tensor:
        return g - (g * unit.detach()).sum(1, keepdim=True) * unit.detach()

    torch.testing.assert_close(along(found), along(gradient), rtol=1e-3, atol=1e-3)


def test_moves_become_shorter() -> None:
    assert moves(1) == [FIRST_MOVE]
    for steps in (2, 4, 12):
        sizes = moves(steps)
        assert (sizes[0], sizes[-1]) == pytest.approx((FIRST_MOVE, LAST_MOVE))
        shares = np.divide(sizes[1:], sizes[:-1])
        assert len(sizes) == steps
        assert shares == pytest.approx(shares[0])


def test_codes_move_as_far_as_their_gradients_say() -> None:
    torch.manual_seed(0)
    gradients = 1e-6 * torch.randn(2000, 8)
    gradients[0] *= 20
    gradients[1] = 0
    start = torch.randn(2000, 8)
    vectors = start.clone()
    move(vectors, gradients, 0.1)
    gone = start - vectors
    lengths = gone.norm(dim=1)
    assert lengths.square().mean().sqrt() == pytest.approx(0.1, rel=0.1)
    assert lengths[0] == pytest.approx(0.1 * FARTHEST, rel=1e-3)
    assert lengths[1] == 0
    factors = gone[2:] / gradients[2:]
    torch.testing.assert_close(factors, factors[0, 0].expand_as(factors), rtol=0.02, atol=0)


def test_what_counts_moves_as_far_as_if_all_did() -> None:
    torch.manual_seed(0)
    gradients = torch.randn(2000, 8)
    weights = torch.full((2000,), 3.0)
    ends = [torch.zeros(2000, 8) for _ in range(3)]
    move(ends[0], gradients, 0.1)
    move(ends[1], gradients * weights[:, None], 0.1, weights)
    torch.testing.assert_close(ends[1], ends[0])
    weights[1000:] = 1e-3
    move(ends[2], gradients * weights[:, None], 0.1, weights)
    torch.testing.assert_close(ends[2][:1000], ends[0][:1000], rtol=0.05, atol=0)
    assert ends[2][1000:].norm() < 1e-3 * ends[0][1000:].norm()


@pytest.mark.parametrize("count", [0, 3])
def test_where_nothing_pulls_nothing_moves(count: int) -> None:
    vectors = torch.ones(count, 8)
    move(vectors, torch.zeros(count, 8), 0.1)
    assert torch.equal(vectors, torch.ones(count, 8))


@pytest.mark.parametrize("effort", ["best", "max"])
def test_better_codes_look_better_at_equal_bytes(
    shipped: Codec, astronaut: Pixels, coffee: Pixels, effort: Effort
) -> None:
    gains = []
    for photo in (astronaut[20:212, 140:332], coffee[100:292, 150:342]):
        fast, better = (shipped.compress(photo, bpp=0.2, effort=e) for e in ("fast", effort))
        assert len(better) == pytest.approx(len(fast), abs=32)
        before, after = (shipped.decompress(data, "numpy") for data in (fast, better))
        assert psnr(after, photo) > psnr(before, photo) + 0.1
        closeness = [ms_ssim(to_tensor(p), to_tensor(photo)).item() for p in (before, after)]
        gains.append(closeness[1] - closeness[0])
    assert min(gains) > 0
    assert np.mean(gains) > 0.001


@pytest.mark.parametrize("effort", ["best", "max"])
def test_an_image_of_one_pixel(codec: Codec, effort: Effort) -> None:
    pixel = np.full((1, 1, 3), 90, np.uint8)
    assert codec.decompress(codec.compress(pixel, effort=effort), "numpy").shape == (1, 1, 3)


@pytest.mark.parametrize("effort", ["best", "max"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_other_modes(shipped: Codec, coffee: Pixels, mode: str, effort: Effort) -> None:
    photo = Image.fromarray(coffee[100:292, 150:342]).convert(mode)
    files = [shipped.compress(photo, bpp=0.2, effort=e) for e in ("fast", effort)]
    fast, better = (shipped.decompress(data) for data in files)
    assert better.mode == mode
    before, after = (psnr(np.asarray(image), np.asarray(photo)) for image in (fast, better))
    assert after > before


def test_shares_of_blocks_stay(shipped: Codec, cat: Pixels) -> None:
    files = [
        shipped.compress(cat[40:216, 60:260], ratios=RATIOS, effort=e) for e in ("fast", "best")
    ]
    levels, refined = (shipped.maps(data)[0] for data in files)
    assert np.array_equal(levels, refined)
    assert files[0] != files[1]
