"""What training is told of faults in flat areas."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.helpers import Pixels
from training.flatness import CELL, CONTRAST, PERIOD, WEAVE, flat_faults


def as_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def flat() -> Tensor:
    return torch.full((1, 3, 64, 128), 0.5)


@pytest.fixture
def sky(astronaut: Pixels) -> Tensor:
    """A part of the photo, as it is and with hardly any contrast."""
    return 0.5 + 0.05 * (as_tensor(astronaut[:64, 128:256]) - 0.5)


def woven(period: float) -> Tensor:
    """Stripes along both sides that repeat after so many pixels; mean 0."""
    x = torch.arange(128.0)
    wave = 0.01 * torch.cos(2 * torch.pi * x / period)
    return (wave[:64, None] + wave).expand(1, 3, -1, -1)


def test_nothing_is_wrong_with_the_picture_itself(sky: Tensor) -> None:
    assert flat_faults(sky, sky).item() == 0


def test_drift_counts_by_its_power(flat: Tensor) -> None:
    assert flat_faults(flat + CONTRAST, flat).item() == pytest.approx(1, rel=1e-4)
    assert flat_faults(flat + 2 * CONTRAST, flat).item() == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize("period", [2, 4, 8, PERIOD])
def test_what_repeats_with_the_codes_counts(flat: Tensor, period: int) -> None:
    pattern = woven(period)
    drift = functional.avg_pool2d(pattern, CELL).square().mean().item()
    expected = (drift + WEAVE * pattern.square().mean().item()) / CONTRAST**2
    assert flat_faults(flat + pattern, flat).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("period", [3, 32 / 7, 64 / 5])
def test_what_repeats_otherwise_hardly_counts(flat: Tensor, period: float) -> None:
    other = flat_faults(flat + woven(period), flat)
    assert other < 0.1 * flat_faults(flat + woven(4), flat)


def test_contrast_hides_faults(astronaut: Pixels, sky: Tensor) -> None:
    lively = as_tensor(astronaut[:64, 128:256])
    fault = woven(4) + 0.01
    assert flat_faults(lively + fault, lively) < 0.5 * flat_faults(sky + fault, sky)


def test_each_image_is_judged_alone_and_sides_may_be_any(sky: Tensor) -> None:
    both = torch.cat([sky, sky])
    faults = flat_faults(both + torch.tensor([0.0, 0.02]).view(2, 1, 1, 1), both)
    assert faults[0] == 0 < faults[1]
    cut = flat_faults(sky[..., :127] + 0.02, sky[..., :127])
    whole = flat_faults(sky[..., :64] + 0.02, sky[..., :64])
    assert torch.equal(cut, whole)


def test_it_can_be_learned_from(sky: Tensor) -> None:
    picture = (sky + woven(4) + 0.02).requires_grad_()
    (gradient,) = torch.autograd.grad(flat_faults(picture, sky).sum(), picture)
    step = picture.detach() - 1e-4 * gradient / gradient.norm()
    assert flat_faults(step, sky) < flat_faults(picture.detach(), sky)
