"""The Fréchet distance of features, with a network of random weights, and a real run."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks import frechet
from hvqcodec.metrics.perceptual import LPIPS, load_perceptual
from tests.helpers import TINY, Pixels

SHAPES = {1: (64, 3, 11), 2: (192, 64, 5), 3: (384, 192, 3), 4: (256, 384, 3), 5: (256, 256, 3)}
"""Of AlexNet's convolutions: outputs, inputs, side."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an AlexNet that knows nothing."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    tensors = {}
    for layer, (outputs, inputs, side) in SHAPES.items():
        tensors[f"conv{layer}.weight"] = torch.randn(outputs, inputs, side, side) / side
        tensors[f"conv{layer}.bias"] = torch.zeros(outputs)
        tensors[f"lin{layer - 1}.weight"] = torch.ones(1, outputs, 1, 1)
    save_file(tensors, folder / "lpips_alex.safetensors")
    return folder


@pytest.fixture(scope="module")
def network(networks: Path) -> LPIPS:
    lpips, _ = load_perceptual(networks)
    assert lpips is not None
    return lpips


def blurred(photo: Pixels, by: int) -> Pixels:
    small = Image.fromarray(photo).reduce(by)
    return np.asarray(small.resize((photo.shape[1], photo.shape[0]), Image.Resampling.BICUBIC))


def test_it_is_that_of_two_gaussians() -> None:
    """By its formula, where the covariances commute."""
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    means, spreads = torch.randn(2, 6, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)

    class Known(frechet.Crowd):
        def __init__(self, number: int) -> None:
            self.number = number

        def mean(self) -> torch.Tensor:
            return means[self.number]

        def covariance(self) -> torch.Tensor:
            return basis @ spreads[self.number].diag() @ basis.t()

    roots = spreads.sqrt()
    expected = (means[0] - means[1]).square().sum() + (roots[0] - roots[1]).square().sum()
    assert frechet.frechet_distance(Known(0), Known(1)) == pytest.approx(expected.item())


def test_moments_are_those_of_all_features(
    network: LPIPS, astronaut: Pixels, coffee: Pixels
) -> None:
    crowd = frechet.crowd_of([astronaut, coffee], network)
    with torch.no_grad():
        found = [
            network.features(frechet.to_tensor(photo))[frechet.TAP][0].flatten(1)
            for photo in (astronaut, coffee)
        ]
    features = torch.cat(found, 1).double()
    assert torch.allclose(crowd.mean(), features.mean(1))
    assert torch.allclose(crowd.covariance(), torch.cov(features, correction=0))


def test_blur_stands_out_and_a_crowd_equals_itself(network: LPIPS, astronaut: Pixels) -> None:
    original = frechet.crowd_of([astronaut], network)
    spread = original.covariance().trace().item()
    assert abs(frechet.frechet_distance(original, original)) < 1e-6 * spread
    near, far = (
        frechet.frechet_distance(original, frechet.crowd_of([blurred(astronaut, by)], network))
        for by in (2, 4)
    )
    assert 0 < near < far < spread


def test_a_run_gives_a_row_for_each_rate(
    networks: Path, tmp_path: Path, rocket: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(rocket[:128, :192]).save(tmp_path / "photo.png")
    given = [str(tmp_path), "--models", str(TINY), "--perceptual", str(networks)]
    frechet.main([*given, "--rates", "0.05,0.1"])
    rows = re.findall(r"^\| (\S+) \| ([\d.]+) \| ([\d.]+) \|$", capsys.readouterr().out, re.M)
    assert [(model, rate) for model, rate, _ in rows] == [(str(TINY), "0.05"), (str(TINY), "0.1")]
    assert all(float(distance) > 0 for _, _, distance in rows)
