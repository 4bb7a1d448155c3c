"""The Fréchet distance of features, with a network of random weights, and a real run."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import frechet
from hvqcodec.metrics.perceptual import LPIPS, load_perceptual
from tests.helpers import TINY, Pixels


@pytest.fixture(scope="module")
def network(networks: Path) -> LPIPS:
    lpips, _ = load_perceptual(networks)
    assert lpips is not None
    return lpips


def blurred(photo: Pixels, by: int) -> Pixels:
    small = Image.fromarray(photo).reduce(by)
    return np.asarray(small.resize((photo.shape[1], photo.shape[0]), Image.Resampling.BICUBIC))


def test_it_is_that_of_two_gaussians() -> None:
    """tr((A B)^(1/2)) is the sum of the roots of the eigenvalues of A B, whose factors need not
    commute."""
    torch.manual_seed(0)
    means = torch.randn(2, 6, dtype=torch.float64)
    a, b = (m @ m.t() for m in torch.randn(2, 6, 6, dtype=torch.float64))
    assert not torch.allclose(a @ b, b @ a)

    class Known(frechet.Crowd):
        def __init__(self, mean: torch.Tensor, covariance: torch.Tensor) -> None:
            self.known = mean, covariance

        def mean(self) -> torch.Tensor:
            return self.known[0]

        def covariance(self) -> torch.Tensor:
            return self.known[1]

    mixed = torch.linalg.eigvals(a @ b).real.sqrt().sum()
    expected = (means[0] - means[1]).square().sum() + a.trace() + b.trace() - 2 * mixed
    distance = frechet.frechet_distance(Known(means[0], a), Known(means[1], b))
    assert distance == pytest.approx(expected.item())


def test_moments_are_those_of_all_features(
    network: LPIPS, astronaut: Pixels, coffee: Pixels
) -> None:
    crowd = frechet.crowd_of([astronaut, coffee], network)
    with torch.no_grad():
        found = [
            network.features(frechet.to_tensor(photo[start:, start:]))[frechet.TAP][0].flatten(1)
            for photo in (astronaut, coffee)
            for start in (0, 2)
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
