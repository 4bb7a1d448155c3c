"""The benchmark of the codes' grid: pictures with and without a weave, and a real run."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import grid
from hvqcodec import Codec
from hvqcodec.metrics import to_tensor
from hvqcodec.metrics.perceptual import load_perceptual
from tests.helpers import TINY, Pixels


@pytest.mark.parametrize("axis", [0, 1])
def test_a_pattern_of_four_pixels_is_a_weave(rocket: Pixels, axis: int) -> None:
    """The sky of a photo, along its columns and along its rows; noise is none, nor is a pattern
    of five pixels."""
    noise = np.random.default_rng(0).normal(0, 2, rocket.shape[:2])
    place = np.indices(rocket.shape[:2])[axis]

    def seen(period: int) -> float:
        pattern = 2 * np.cos(2 * np.pi * place / period) if period else 0
        error = (noise + pattern)[..., None]
        return grid.weave([np.clip(rocket + error, 0, 255).round().astype(np.uint8)], [rocket])

    assert 0.8 < seen(0) < 1.2
    assert seen(4) > 3
    assert seen(5) < 1.2


def test_a_pattern_of_sixteen_pixels_is_of_tiles(rocket: Pixels) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 2, rocket.shape[:2])

    def seen(period: int) -> float:
        tile = random.normal(0, 2, (period, period))
        copies = [-(-side // period) for side in rocket.shape[:2]]
        height, width = rocket.shape[:2]
        error = (noise + np.tile(tile, copies)[:height, :width])[..., None]
        return grid.tiles([np.clip(rocket + error, 0, 255).round().astype(np.uint8)], [rocket])

    assert 0.8 < seen(512) < 1.2
    assert 6 < seen(16) < 11  # half of the power
    assert seen(15) < 1.5


def test_nothing_flat_tells_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert math.isnan(grid.weave([noise], [noise]))
    assert math.isnan(grid.tiles([noise], [noise]))


def test_a_run_gives_a_row_for_each_model_and_rate(
    networks: Path, tmp_path: Path, rocket: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = rocket[:128, :192]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    given = [str(tmp_path), "--models", str(TINY), str(TINY), "--rates", "0.05,0.07"]
    grid.main([*given, "--perceptual", str(networks)])
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert head[:4] == ["model", "bpp", "weave", "tiles"]
    assert head[4:] == ["LPIPS", "LPIPS beside", "DLP", "DLP beside"]
    assert [row[:2] for row in rows] == 2 * [[str(TINY), "0.05"], [str(TINY), "0.07"]]
    assert rows[:2] == rows[2:]
    codec = Codec.load(TINY)
    decoded = codec.decompress(codec.compress(photo, bpp=0.07), output="numpy")
    lpips, _ = load_perceptual(networks)
    assert lpips is not None
    expected = [lpips(to_tensor(decoded[s:, s:]), to_tensor(photo[s:, s:])).item() for s in (0, 2)]
    assert [float(figure) for figure in rows[1][4:6]] == pytest.approx(expected, abs=1e-4)
    assert expected[0] != pytest.approx(expected[1], abs=1e-4)
