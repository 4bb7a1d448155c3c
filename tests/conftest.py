"""The tiny model, photos that come with scikit-image, and Kodak where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
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
