"""EXIF that claims more than there is: directories whose entries share their bytes."""

import struct
import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import ExifTags, Image

from hvqcodec import Codec, HvqWarning
from hvqcodec.exif import EXIF_PREFIX, Entry, entries, is_safe
from hvqcodec.metadata import Metadata, upright
from hvqcodec.saving import to_file_bytes
from tests.helpers import Pixels
from tests.samples import ORIENTATION, exif_with_thumbnail

BYTE, SHORT, LONG, LONG8 = 1, 3, 4, 16
DATA = 2_000_000
BOUND = 40 << 20
"""Bytes of memory; the bombs claim 800 MB and more."""


def exif_of(*entries: tuple[int, int, int, int], data: int = DATA) -> bytes:
    """A directory, and one below it for each tag that points at one, all at the same place."""
    packed = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return b"II*\0" + struct.pack("<I", 8) + packed + bytes(4) + bytes(data)


TURNED = (ORIENTATION, SHORT, 1, 6)
SHARED = [(1000 + number, BYTE, DATA, 8) for number in range(400)]
BOMBS = {
    "shared": exif_of(TURNED, *SHARED),
    "numbers": exif_of(TURNED, (1000, SHORT, DATA // 2, 8)),
    "prefixed": EXIF_PREFIX + exif_of(TURNED, *SHARED),
    "prefixes": 2_000_000 * EXIF_PREFIX + exif_of(TURNED, data=0),
    "itself": exif_of(
        *SHARED[:1], (ExifTags.IFD.Exif, LONG, 1, 8), (ExifTags.IFD.GPSInfo, LONG, 1, 8)
    ),
    "two": exif_of((ExifTags.IFD.Exif, LONG, 1, 8), (ExifTags.IFD.Exif, LONG, 1, 20)),
    "elsewhere": exif_of((ExifTags.IFD.Exif, LONG8, 1, 8)),
}


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["shared", "numbers", "prefixed", "prefixes"])
def test_pixels_are_turned_without_its_tags(codec: Codec, coffee: Pixels, name: str) -> None:
    crop = Image.fromarray(coffee[:32, :48])
    Metadata(exif=BOMBS[name]).attach_to(crop)
    data = codec.compress(crop)
    assert len(data) < 20_000
    shown: list[Pixels] = []
    assert peak(lambda: shown.append(codec.decompress(data, "numpy"))) < BOUND
    assert shown[0].shape == (48, 32, 3)
    assert peak(lambda: to_file_bytes(codec.decompress(data), ".ppm")) < BOUND


@pytest.mark.parametrize("name", BOMBS)
def test_tiff_files_go_without_it(coffee: Pixels, name: str) -> None:
    assert not is_safe(EXIF_PREFIX + BOMBS[name])
    image = Image.fromarray(coffee[:32, :48])
    Metadata(exif=BOMBS[name]).attach_to(image)
    with pytest.warns(HvqWarning, match="the EXIF is damaged: it was left out"):
        assert peak(lambda: to_file_bytes(image, ".tif")) < BOUND


@pytest.mark.parametrize("order", ["<", ">"])
def test_that_of_photos_is_safe(order: str) -> None:
    for behind in (False, True):
        exif = exif_with_thumbnail(order, behind, more=70_000)
        assert is_safe(exif)
        assert is_safe(EXIF_PREFIX + exif)
        assert Entry(ORIENTATION, SHORT, 1, 6) in list(entries(exif))


def test_orientation_is_seen_where_other_tags_are_damaged(coffee: Pixels) -> None:
    """Also where the caller makes errors of warnings, which Pillow gives of such tags."""
    image = Image.fromarray(coffee[:32, :48])
    Metadata(exif=exif_of((1000, BYTE, 100, 2**31), TURNED, data=0)).attach_to(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(upright(image), np.rot90(coffee[:32, :48], -1))
