"""No bit is wasted on what is not an index, with the shipped model on real photos."""

import numpy as np
import pytest

from hvqcodec import Codec
from tests.helpers import Pixels

Z_SHARE, MAP_SHARE, CONTAINER_BYTES = 0.06, 0.04, 40


@pytest.mark.filterwarnings("ignore:this image cannot use more than")
@pytest.mark.parametrize("bpp", [0.1, 0.2, 0.3])
def test_side_information_is_a_small_part_of_a_file(
    shipped: Codec, bpp: float, astronaut: Pixels, coffee: Pixels, cat: Pixels, rocket: Pixels
) -> None:
    """z and the map on the mean of four photos; the container in every file."""
    shares = []
    for photo in (astronaut, coffee, cat, rocket):
        data = shipped.compress(photo, bpp=bpp)
        budget = shipped.inspect(data)
        assert budget["container_bytes"] <= CONTAINER_BYTES
        shares.append([budget[part] / 8 / len(data) for part in ("z_bits", "map_bits")])
    z, granularity_map = np.mean(shares, 0)
    assert 0 < z <= Z_SHARE
    assert 0 < granularity_map <= MAP_SHARE
