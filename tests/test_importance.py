"""Errors that count more in some places than in others."""

import warnings
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageOps

from hvqcodec import Codec, ImageError, RateError
from hvqcodec.choices import Effort
from hvqcodec.image import read_picture
from hvqcodec.importance import cell_weights
from hvqcodec.limits import MAX_PIXELS
from tests.helpers import TINY, Pixels, psnr
from tests.samples import exif_with_thumbnail
from tests.test_cli import MODEL, call, said


@pytest.fixture
def left() -> Pixels:
    """White in its left half, else black; (192, 192)."""
    grey = np.zeros((192, 192), np.uint8)
    grey[:, :96] = 255
    return grey


@pytest.fixture
def face(astronaut: Pixels) -> Pixels:
    """(192, 192, 3)."""
    return astronaut[20:212, 140:332]


@pytest.mark.parametrize("effort", get_args(Effort))
def test_bits_go_where_it_is_bright(
    shipped: Codec, face: Pixels, left: Pixels, effort: Effort
) -> None:
    plain = shipped.compress(face, bpp=0.2, effort=effort)
    weighed = shipped.compress(face, bpp=0.2, effort=effort, importance=left)
    assert len(weighed) == pytest.approx(len(plain), abs=32)
    bits, before = (shipped.maps(data)[1] for data in (weighed, plain))
    assert bits[:, :12].sum() > 1.2 * before[:, :12].sum()
    assert bits[:, 12:].sum() < 0.8 * before[:, 12:].sum()
    decoded, plainly = (shipped.decompress(data, "numpy") for data in (weighed, plain))
    assert psnr(decoded[:, :96], face[:, :96]) > psnr(plainly[:, :96], face[:, :96]) + 0.2


def test_what_is_equally_bright_changes_nothing(codec: Codec, face: Pixels) -> None:
    for grey in (0, 90, 255):
        flat = np.full(face.shape, grey, np.uint8)
        assert codec.compress(face, importance=flat) == codec.compress(face)


def test_weights_are_means_over_cells(face: Pixels) -> None:
    crop = face[:20, :30]
    grey = np.zeros((20, 30), np.uint8)
    grey[8:16, :4] = 254
    weights = cell_weights(grey, read_picture(crop), strip=False, max_pixels=MAX_PIXELS)
    expected = np.ones((4, 4))  # sides of 32 pixels, the edges repeated
    expected[1, 0] = 128
    np.testing.assert_allclose(weights, expected / expected.mean())


def test_it_has_the_size_of_the_pixels_as_stored(codec: Codec, face: Pixels, left: Pixels) -> None:
    photo = Image.fromarray(face[:160])
    photo.info["exif"] = exif_with_thumbnail("<", behind=False)  # to be turned by 90 degrees
    stored = Image.fromarray(left[:160])
    plain = codec.compress(photo)
    assert codec.compress(photo, importance=stored) != plain
    with pytest.raises(ImageError, match=r"importance has 160 x 192 pixels, .* stored 192 x 160"):
        codec.compress(photo, importance=stored.transpose(Image.Transpose.ROTATE_270))
    turned = ImageOps.exif_transpose(photo)
    assert turned.size == (160, 192)
    upright = stored.transpose(Image.Transpose.ROTATE_270)
    expected = codec.compress(turned, importance=upright, strip=True)
    assert codec.compress(photo, importance=upright, strip=True) == expected


def test_a_mask_of_one_bit_is_no_loss(codec: Codec, face: Pixels, left: Pixels) -> None:
    mask = Image.fromarray(left).convert("1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.compress(face, importance=mask) == codec.compress(face, importance=left)


def test_it_does_not_go_with_ratios(codec: Codec, face: Pixels, left: Pixels) -> None:
    with pytest.raises(RateError, match="does not go with ratios"):
        codec.compress(face, ratios=(0.2, 0.3, 0.5), importance=left)


def test_command(tmp_path: Path, face: Pixels, left: Pixels) -> None:
    Image.fromarray(face).save(tmp_path / "photo.png")
    Image.fromarray(left).save(tmp_path / "left.png")
    said(call(tmp_path, "encode", "photo.png", "--importance", "left.png", *MODEL))
    expected = Codec.load(TINY).compress(face, importance=left)
    assert (tmp_path / "photo.hvq").read_bytes() == expected
    given = ("--importance", "left.png", "--allocation", "entropy", "--ratios", "0.2,0.3,0.5")
    result = call(tmp_path, "encode", "photo.png", "-o", "other.hvq", *given, *MODEL)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().startswith("Error: importance does not go with ratios")
