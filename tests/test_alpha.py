import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hvqcodec import BitstreamError, Codec
from hvqcodec.alpha import fill_hidden, pack_alpha, unpack_alpha
from tests.helpers import Pixels


@st.composite
def half_hidden(draw: st.DrawFn) -> tuple[Pixels, Pixels]:
    """Noise of any sides up to 40, and its alpha, in part 0."""
    sides = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = sorted(rng.integers(0, 256, 2))
    rgb = rng.integers(low, high + 1, (*sides, 3)).astype(np.uint8)
    share = draw(st.sampled_from([0.01, 0.3, 0.9, 1.0]))
    alpha = rng.integers(1, 256, sides) * (rng.random(sides) < share)
    return rgb, alpha.astype(np.uint8)


@given(half_hidden())
def test_visible_pixels_stay_and_hidden_ones_lie_between_them(
    image: tuple[Pixels, Pixels],
) -> None:
    rgb, alpha = image
    filled, seen = fill_hidden(rgb, alpha), alpha > 0
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[seen], rgb[seen])
    if seen.any():
        low, high = rgb[seen].min(0), rgb[seen].max(0)
        assert (low <= filled).all()
        assert (filled <= high).all()
    else:
        assert (filled == 128).all()


@given(half_hidden(), st.integers(0, 2**32 - 1))
def test_what_is_hidden_makes_no_difference(image: tuple[Pixels, Pixels], seed: int) -> None:
    rgb, alpha = image
    noise = np.random.default_rng(seed).integers(0, 256, rgb.shape).astype(np.uint8)
    other = np.where(alpha[:, :, None] > 0, rgb, noise)
    np.testing.assert_array_equal(fill_hidden(other, alpha), fill_hidden(rgb, alpha))


def test_hidden_colours_are_those_of_the_neighbourhood(astronaut: Pixels) -> None:
    """Smooth in themselves and across the edge."""
    alpha = np.full((128, 128), 255, np.uint8)
    alpha[30:90, 40:100] = 0
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[:, None], (128, 128))
    rgb = np.stack([ramp, 255 - ramp, ramp], 2)
    filled = fill_hidden(rgb, alpha).astype(int)
    for axis in (0, 1):
        assert np.abs(np.diff(filled, axis=axis)).max() <= 12
    photo = astronaut[:128, :128]
    hidden = fill_hidden(photo, alpha)[30:90, 40:100].astype(int)
    assert np.abs(np.diff(hidden, axis=1)).mean() < 3


def test_hidden_noise_costs_no_more_than_hidden_black(codec: Codec, astronaut: Pixels) -> None:
    photo, alpha = astronaut[:96, 150:278].copy(), np.full((96, 128), 255, np.uint8)
    alpha[:, 64:] = 0
    noise = np.random.default_rng(0).integers(0, 256, (96, 64, 3))
    files = []
    for hidden in (noise, 0):
        photo[:, 64:] = hidden
        files.append(codec.compress(np.dstack([photo, alpha]), quality=60))
    assert files[0] == files[1]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_alpha_round_trip(alpha: Pixels) -> None:
    np.testing.assert_array_equal(unpack_alpha(pack_alpha(alpha), *alpha.shape), alpha, strict=True)


def test_opaque_alpha_takes_no_bytes() -> None:
    opaque = np.full((7, 9), 255, np.uint8)
    assert pack_alpha(opaque) == b""
    np.testing.assert_array_equal(unpack_alpha(b"", 7, 9), opaque, strict=True)
    opaque[3, 4] = 254
    assert pack_alpha(opaque)


def test_alpha_of_another_size_is_refused() -> None:
    body = pack_alpha(np.full((7, 9), 200, np.uint8))
    for height, width in ((7, 8), (7, 10), (1, 1), (5000, 5000)):
        with pytest.raises(BitstreamError, match="its size does not match"):
            unpack_alpha(body, height, width)
    for more in (body + b"\0", body[:-1], body[:-4]):
        with pytest.raises(BitstreamError, match="transparency is damaged"):
            unpack_alpha(more, 7, 9)


@given(st.binary(min_size=1, max_size=60))
def test_garbage_alpha_is_refused(garbage: bytes) -> None:
    with pytest.raises(BitstreamError, match="transparency is damaged"):
        unpack_alpha(garbage, 30, 40)


def test_an_alpha_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(1 << 24), 9)
    assert len(bomb) < 1 << 15
    with pytest.raises(BitstreamError, match="its size does not match"):
        unpack_alpha(bomb, 16, 16)
