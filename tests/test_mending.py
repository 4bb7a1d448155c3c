"""Training with residuals: what they add to a batch, and where their constants come from."""

import re
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvqcodec.correction import add
from hvqcodec.entropy.residual_tables import MAGNITUDES
from hvqcodec.residual import ResidualFitter
from tests.helpers import TINY, Pixels
from training import precision
from training.mending import residual_of
from training.precision import fast_dtype


@pytest.fixture
def pair(astronaut: Pixels) -> tuple[Pixels, Pixels]:
    """A photo, and the same with a stain and noise."""
    original = astronaut[:96, 100:228]
    wrong = original + np.random.default_rng(0).normal(0, 5, original.shape)
    wrong[20:60, 30:80] += (30, 0, -20)
    return original, wrong.round().clip(0, 255).astype(np.uint8)


def batch_of(*pictures: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def test_a_batch_gets_what_the_encoder_sends(pair: tuple[Pixels, Pixels]) -> None:
    original, decoded = pair
    shown = batch_of(decoded, original, decoded).requires_grad_()
    added = residual_of(shown, batch_of(*[original] * 3), torch.tensor([0.4, 0.4, 1e6]))
    assert not added.requires_grad
    assert not added[1:].any(), "neither where nothing is missed nor where bits are too dear"
    residual = ResidualFitter(original, decoded, b"ab")(0.4)
    assert residual
    mended = decoded.copy()
    add(mended, residual.grids())
    found = (255 * (shown + added)[0]).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, mended)


def test_menders_share_a_batch_out(pair: tuple[Pixels, Pixels]) -> None:
    original, decoded = pair
    shown = batch_of(decoded, original, decoded[::-1])
    image, lambdas = batch_of(original, original, original[::-1]), torch.tensor([0.4, 0.4, 0.8])
    with get_context("spawn").Pool(2) as pool:
        shared = residual_of(shown, image, lambdas, pool)
    alone = residual_of(shown, image, lambdas)
    assert alone[0].any()
    assert alone[2].any()
    assert torch.equal(shared, alone)
    assert shared.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("fastest", [torch.float32, torch.bfloat16])
def test_processors_train_in_what_they_multiply_faster(
    fastest: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "seconds_of_product", lambda dtype: 1 + (dtype != fastest))
    fast_dtype.cache_clear()
    assert fast_dtype("cpu") == fastest
    assert fast_dtype("cuda") == torch.bfloat16
    fast_dtype.cache_clear()


def test_constants_are_fitted_to_photos(tmp_path: Path, astronaut: Pixels, cat: Pixels) -> None:
    for name, photo in (("a", astronaut[:256, :256]), ("b", cat[:240, :320])):
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    output = tmp_path / "tables.py"
    run = [sys.executable, "-m", "training.residual_tables", str(TINY), "--photos", str(tmp_path)]
    done = subprocess.run([*run, "--output", str(output)], check=True, capture_output=True)
    sizes = [float(size) for size in re.findall(r"([\d.]+) bytes a residual", done.stdout.decode())]
    assert len(sizes) == 2
    assert 20 < sizes[1] < sizes[0] < 1000
    names: dict[str, object] = {}
    exec(output.read_text(), names)
    tables = np.array(names["MAGNITUDES"])
    assert tables.shape == np.shape(MAGNITUDES)
    assert tables.min() >= 1
    assert np.shape(names["ACTIVITY_WEIGHTS"]) == (2, 5, 2, 4)
