"""No bit is wasted on what is not an index, with the shipped model on real photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvqcodec import Codec
from tests.helpers import Pixels

Z_SHARE, MAP_SHARE, CONTAINER_BYTES = 0.06, 0.04, 40
Z_SHARE_OF_EASY_PHOTOS = 0.07
"""Blurred backgrounds and dark skies: their indices take few bits."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:this image cannot use more than"),
    pytest.mark.parametrize("bpp", [0.1, 0.2, 0.3]),
]


def shares(codec: Codec, photos: Sequence[Pixels], bpp: float) -> tuple[float, float]:
    """Of z and of the map in what the photos take together; every container is small."""
    side, total = np.zeros(2), 0
    for photo in photos:
        data = codec.compress(photo, bpp=bpp, effort="fast")
        budget = codec.inspect(data)
        assert budget["container_bytes"] <= CONTAINER_BYTES
        side += [budget[part] / 8 for part in ("z_bits", "map_bits")]
        total += len(data)
    z, granularity_map = side / total
    return float(z), float(granularity_map)


def test_side_information_is_a_small_part_of_kodak(
    shipped: Codec, kodak: list[Path], bpp: float
) -> None:
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in kodak[::4]]
    z, granularity_map = shares(shipped, photos, bpp)
    assert 0 < z <= Z_SHARE
    assert 0 < granularity_map <= MAP_SHARE


def test_side_information_is_a_small_part_of_other_photos(
    shipped: Codec, bpp: float, astronaut: Pixels, coffee: Pixels, cat: Pixels, rocket: Pixels
) -> None:
    z, granularity_map = shares(shipped, [astronaut, coffee, cat, rocket], bpp)
    assert 0 < z <= Z_SHARE_OF_EASY_PHOTOS
    assert 0 < granularity_map <= MAP_SHARE
