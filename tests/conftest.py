"""The tiny model, photos that come with scikit-image, and Kodak where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import save_file
from skimage import data

from hvqcodec import Codec
from tests.helpers import KODAK, TINY, Pixels

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def codec() -> Codec:
    return Codec.load(TINY)


@pytest.fixture(scope="session")
def shipped() -> Codec:
    return Codec.load()


def photo(name: str) -> Pixels:
    pixels: Pixels = np.ascontiguousarray(getattr(data, name)())
    pixels.setflags(write=False)
    return pixels


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """(512, 512, 3)."""
    return photo("astronaut")


@pytest.fixture(scope="session")
def coffee() -> Pixels:
    """(400, 600, 3)."""
    return photo("coffee")


@pytest.fixture(scope="session")
def cat() -> Pixels:
    """(300, 451, 3)."""
    return photo("cat")


@pytest.fixture(scope="session")
def rocket() -> Pixels:
    """(427, 640, 3)."""
    return photo("rocket")


@pytest.fixture(scope="session")
def camera() -> Pixels:
    """(512, 512), grey."""
    return photo("camera")


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    paths = sorted(KODAK.glob("*.png"))
    if not paths:
        pytest.skip("the Kodak photos are not at hand")
    return paths


ALEXNET = {1: (64, 3, 11), 2: (192, 64, 5), 3: (384, 192, 3), 4: (256, 384, 3), 5: (256, 256, 3)}
DARKNET = {
    **{1: (16, 3, 3), 2: (32, 16, 3), 3: (16, 32, 1), 4: (128, 16, 3), 5: (16, 128, 1)},
    **{6: (128, 16, 3), 7: (32, 128, 1), 8: (256, 32, 3), 9: (32, 256, 1), 10: (256, 32, 3)},
    **{11: (64, 256, 1), 12: (512, 64, 3), 13: (64, 512, 1), 14: (512, 64, 3), 15: (128, 512, 1)},
}
"""Convolutions: outputs, inputs, side."""


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks for LPIPS and DLP that know nothing, for --perceptual."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    for name, convolutions in (("lpips_alex", ALEXNET), ("tiny_darknet", DARKNET)):
        tensors = {}
        for layer, (outputs, inputs, side) in convolutions.items():
            tensors[f"conv{layer}.weight"] = torch.randn(outputs, inputs, side, side) / side
            tensors[f"conv{layer}.bias"] = torch.zeros(outputs)
        if name == "lpips_alex":
            ends = [outputs for outputs, _, _ in convolutions.values()]
            tensors |= {f"lin{tap}.weight": torch.ones(1, n, 1, 1) for tap, n in enumerate(ends)}
        save_file(tensors, folder / f"{name}.safetensors")
    return folder
