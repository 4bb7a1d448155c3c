"""The benchmark of the codes' grid: pictures with and without a weave, and a real run."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import grid
from tests.helpers import TINY, Pixels


def test_a_pattern_of_four_pixels_is_a_weave(rocket: Pixels) -> None:
    """The sky of a photo; noise is none, nor is a pattern of five pixels."""
    noise = np.random.default_rng(0).normal(0, 2, rocket.shape[:2])

    def seen(period: int) -> float:
        pattern = 2 * np.cos(2 * np.pi * np.arange(rocket.shape[1]) / period) if period else 0
        error = (noise + pattern)[..., None]
        return grid.weave([np.clip(rocket + error, 0, 255).round().astype(np.uint8)], [rocket])

    assert 0.8 < seen(0) < 1.2
    assert seen(4) > 3
    assert seen(5) < 1.2


def test_nothing_flat_tells_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert math.isnan(grid.weave([noise], [noise]))


def test_a_run_gives_a_row_for_each_model_and_rate(
    tmp_path: Path, rocket: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(rocket[:128, :192]).save(tmp_path / "photo.png")
    grid.main([str(tmp_path), "--models", str(TINY), str(TINY), "--rates", "0.05,0.1"])
    rows = re.findall(r"^\| (\S+) \| ([\d.]+) \| ([\d.]+) \|$", capsys.readouterr().out, re.M)
    assert [(model, rate) for model, rate, _ in rows] == 2 * [
        (str(TINY), "0.05"),
        (str(TINY), "0.1"),
    ]
    assert rows[:2] == rows[2:]
