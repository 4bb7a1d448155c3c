"""Tiles against the whole image, with the shipped model."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hvqcodec import Codec
from hvqcodec.decoding import synthesise
from hvqcodec.encoding import Scene, analyse
from hvqcodec.granularity import BLOCK
from hvqcodec.pixels import to_blocks, to_signal
from hvqcodec.tiling import SIDE, UNTILED, Tile, tiles
from tests.helpers import Pixels

GRID = 160
"""A side that gives 3x3 tiles of the photo below."""


@pytest.fixture(scope="module")
def photo(astronaut: Pixels) -> Pixels:
    """Of 480 x 464 pixels."""
    return to_blocks(astronaut[:470, :464])


@pytest.fixture(scope="module")
def scene(shipped: Codec, photo: Pixels) -> Scene:
    return analyse(shipped.model.networks, photo)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 90),
    st.one_of(st.none(), st.integers(1, 700)),
)
def test_tiles_cover_every_pixel_once(
    rows: int, columns: int, reach: int, side: int | None
) -> None:
    height, width = 16 * rows, 16 * columns
    seen = np.zeros((height, width), int)
    for tile in tiles(height, width, reach, side):
        seen[tile.inner(1)] += 1
        outer = np.zeros_like(seen)
        outer[tile.outer(1)] = 1
        shape = outer[tile.outer(1)][tile.within(1)].shape
        assert shape == seen[tile.inner(1)].shape
        for span, length in ((tile.rows, height), (tile.columns, width)):
            assert span.start - span.outer_start >= min(reach, span.start)
            assert span.outer_stop - span.stop >= min(reach, length - span.stop)
            assert not any(value % 16 for value in (span.start, span.outer_start))
    assert (seen == 1).all()


def test_small_images_are_whole_and_large_ones_are_not() -> None:
    assert len(list(tiles(2048, 2048, 208))) == 1
    large = list(tiles(6000, 8000, 208))
    assert len(large) == 4 * 6
    assert max(t.rows.stop - t.rows.start for t in large) <= SIDE
    assert UNTILED == 2048 * 2048


def test_a_tile_has_a_side(codec: Codec, photo: Pixels) -> None:
    for side in (0, -16):
        with pytest.raises(ValueError, match="the side of a tile must be positive"):
            codec.compress(photo[:32, :32], tile=side)


@pytest.mark.parametrize("side", [112, GRID])
def test_indices_and_prices_do_not_depend_on_tiles(
    shipped: Codec, photo: Pixels, scene: Scene, side: int
) -> None:
    networks = shipped.model.networks
    tiled = analyse(networks, photo, side=side)
    torch.testing.assert_close(tiled.cell_distortion, scene.cell_distortion, rtol=1e-3, atol=1e-3)
    # What bears on prices reaches further than a halo, but hardly ever bears on them.
    assert ((tiled.cell_bits - scene.cell_bits).abs() > 0.02).float().mean() < 0.01
    entries = networks.codebook.entries()
    for y, index, other in zip(scene.embeddings, scene.indices, tiled.indices, strict=True):
        distances = torch.cdist(y[0].flatten(1).t(), entries).topk(2, largest=False).values
        clear = (distances[:, 1] - distances[:, 0] > 1e-4).view(index.shape)
        assert clear.float().mean() > 0.99
        assert torch.equal(index[clear], other[clear])


@pytest.mark.parametrize("lambda_", [4.0, 0.5])
def test_pixels_do_not_depend_on_tiles(shipped: Codec, scene: Scene, lambda_: float) -> None:
    symbols = scene.symbols(scene.allocate(lambda_))
    networks = shipped.model.networks
    whole, tiled = synthesise(networks, symbols), synthesise(networks, symbols, GRID)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def error_of_tiles(
    run: Callable[[Tile | None], Any],
    last: nn.Module,
    size: tuple[int, int],
    reach: int,
    block: int,
) -> float:
    """Largest difference between tiles and the whole in what the layer `last` puts out, one
    value per block of so many pixels. run: on a tile, or on everything."""
    outputs: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    run(None)
    error = 0.0
    for tile in tiles(*size, reach, GRID):
        run(tile)
        part, whole = outputs.pop()[(..., *tile.within(block))], outputs[0]
        error = max(error, (part - whole[(..., *tile.inner(block))]).abs().max().item())
    hook.remove()
    return error


@torch.inference_mode()
def test_the_halo_of_the_analysis_is_as_wide_as_it_must_be(shipped: Codec, photo: Pixels) -> None:
    """In doubles, where rounding hides nothing of what a halo lacks."""
    networks = deepcopy(shipped.model.networks).double()
    signal = to_signal(photo).double()

    def run(tile: Tile | None) -> None:
        part = signal[(..., *tile.outer(1))] if tile else signal
        networks.distortion_head(networks.analysis(part).features)

    reach = networks.analysis.reach + networks.distortion_head.reach
    last, size = networks.distortion_head.out[-1], photo.shape[:2]
    assert error_of_tiles(run, last, size, reach, 8) < 1e-12
    assert error_of_tiles(run, last, size, reach - 16, 8) > 1e-12


@torch.inference_mode()
def test_the_halo_of_the_synthesis_is_as_wide_as_it_must_be(
    shipped: Codec, photo: Pixels, scene: Scene
) -> None:
    networks = deepcopy(shipped.model.networks).double()
    levels = torch.from_numpy(scene.allocate(1.0))[None]
    embeddings = [y.double() for y in scene.embeddings]

    def run(tile: Tile | None) -> None:
        if tile is None:
            networks.synthesis(tuple(embeddings), levels)
            return
        parts = [y[(..., *tile.outer(block))] for y, block in zip(embeddings, BLOCK, strict=True)]
        networks.synthesis(tuple(parts), levels[(..., *tile.outer(8))])

    reach, last, size = networks.synthesis.reach, networks.synthesis.to_rgb, photo.shape[:2]
    assert error_of_tiles(run, last, size, reach, 1) < 1e-12
    assert error_of_tiles(run, last, size, reach - 16, 1) > 1e-12


def test_a_tiled_file_decodes_like_any_other(shipped: Codec, astronaut: Pixels) -> None:
    data = shipped.compress(astronaut, bpp=0.15, tile=GRID)
    whole, tiled = (shipped.decompress(data, "numpy", tile=t).astype(int) for t in (None, GRID))
    assert np.abs(whole - tiled).max() <= 1
    assert abs(len(data) - len(shipped.compress(astronaut, bpp=0.15))) <= 0.01 * len(data) + 16
