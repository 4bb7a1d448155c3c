import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from hvqcodec import HvqWarning, ImageError
from hvqcodec.bitstream import Mode
from hvqcodec.colour import srgb_profile, to_srgb
from hvqcodec.exif import EXIF_PREFIX, without_thumbnail
from hvqcodec.image import Picture
from hvqcodec.metadata import Metadata
from hvqcodec.saving import (
    FORMATS,
    MAX_JPEG_SEGMENT,
    MAX_PROFILE,
    XMP_NAMESPACE,
    format_of,
    to_file_bytes,
)
from tests.helpers import Pixels
from tests.samples import (
    MAKER_NOTE,
    ORIENTATION,
    XMP,
    directory,
    exif_with_thumbnail,
    linear_grey_profile,
    parsed,
    srgb_of_light,
    swapped_profile,
)

SUFFIXES = (".png", ".jpg", ".webp", ".tiff", ".ppm")
MODES = ("L", "LA", "RGB", "RGBA")
EXIF = without_thumbnail(exif_with_thumbnail(">", behind=False))
"""Says that the image is to be turned by 90 degrees."""


@pytest.fixture(scope="module")
def photo(astronaut: Pixels) -> Pixels:
    """(40, 56, 3), smooth enough for chroma at full resolution to change little."""
    return astronaut[60:100, 180:236]


def decoded(photo: Pixels, mode: str, metadata: Metadata) -> Image.Image:
    """As the codec gives it back, half transparent on the left if at all."""
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:, :28] = 128
    grey = mode in ("L", "LA")
    rgb = np.stack([photo[:, :, 1]] * 3, 2) if grey else photo
    kind = Mode.GREY if grey else Mode.RGB
    return Picture(rgb, kind, alpha if mode.endswith("A") else None, metadata).to_pil()


def reopened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def assert_close(found: Image.Image, expected: Pixels, suffix: str) -> None:
    """Equal, but for what a lossy codec or a rounded profile does."""
    most, mean = {"JPEG": (30, 3), "WEBP": (40, 3), "PPM": (3, 1)}.get(format_of(suffix), (0, 0))
    difference = np.abs(np.asarray(found).astype(int) - expected)
    assert found.size == expected.shape[1::-1]
    assert difference.max() <= most
    assert difference.mean() <= mean


def is_flat(suffix: str, mode: str) -> bool:
    return suffix in (".jpg", ".ppm") and mode.endswith("A")


def is_converted(suffix: str, mode: str) -> bool:
    """To sRGB."""
    return suffix == ".ppm" or (suffix == ".webp" and mode in ("L", "LA"))


def all_metadata(mode: str) -> Metadata:
    profile = swapped_profile() if mode in ("RGB", "RGBA") else linear_grey_profile()
    return Metadata(profile, EXIF, XMP, (300.0, 150.0))


def written(photo: Pixels, suffix: str, mode: str) -> Image.Image:
    """With all metadata, written and opened again."""
    image = decoded(photo, mode, all_metadata(mode))
    before = image.copy()
    if is_flat(suffix, mode):
        with pytest.warns(HvqWarning, match="holds no transparency: the image was laid over white"):
            data = to_file_bytes(image, suffix)
    else:
        data = to_file_bytes(image, suffix)
    assert image == before
    assert image.info == before.info
    return reopened(data)


EVERY = [(suffix, mode) for suffix in SUFFIXES for mode in MODES]


@pytest.mark.parametrize(("suffix", "mode"), EVERY)
def test_every_format_shows_what_was_decoded(photo: Pixels, suffix: str, mode: str) -> None:
    """Upright for any viewer, in the colours of the profile or in sRGB."""
    grey = mode in ("L", "LA")
    file = ImageOps.exif_transpose(written(photo, suffix, mode))
    pixels = (photo[:, :, 1] if grey else photo).astype(float)
    if is_flat(suffix, mode):
        share = np.where(np.arange(56) < 28, 128 / 255, 1).reshape((1, 56, 1)[: pixels.ndim])
        pixels = np.round(pixels * share + 255 * (1 - share))
    if is_converted(suffix, mode):
        pixels = srgb_of_light(pixels / 255).round() if grey else pixels[:, :, ::-1]
    assert file.has_transparency_data == (mode.endswith("A") and not is_flat(suffix, mode))
    if file.has_transparency_data:
        alpha = np.asarray(file.getchannel("A"))
        assert (alpha == np.where(np.arange(56) < 28, 128, 255)[:, None]).all()
    colours = file.convert("RGB")
    assert_close(colours.getchannel("G") if grey else colours, np.rot90(pixels, -1), suffix)


@pytest.mark.parametrize(("suffix", "mode"), EVERY)
def test_every_format_keeps_what_it_can(photo: Pixels, suffix: str, mode: str) -> None:
    file, given = written(photo, suffix, mode), all_metadata(mode)
    found = Metadata.of(file)
    assert file.format == format_of(suffix)
    assert found.icc == (b"" if is_converted(suffix, mode) else given.icc)
    assert found.xmp == (b"" if suffix == ".ppm" else given.xmp)
    if suffix == ".tiff":  # which is turned as it is read
        assert MAKER_NOTE in parsed(found.exif).get_ifd(ExifTags.IFD.Exif)
    else:
        assert found.exif == (b"" if suffix == ".ppm" else given.exif)
    if suffix in (".png", ".jpg", ".tiff"):
        assert found.dpi == pytest.approx(given.dpi, abs=0.02)
    else:
        assert found.dpi is None


@pytest.mark.parametrize(("suffix", "mode"), EVERY)
@pytest.mark.filterwarnings("ignore:.*holds no transparency")
def test_no_metadata_is_made_up(photo: Pixels, suffix: str, mode: str) -> None:
    file = reopened(to_file_bytes(decoded(photo, mode, Metadata()), suffix))
    assert file.size == (56, 40)
    assert Metadata.of(file) == Metadata()


def test_tiff_files_hold_the_directories_of_exif(photo: Pixels) -> None:
    tags = parsed(EXIF)
    tags[0x010F] = "Maker"
    tags[0x0111] = 7  # the place of pixels in another file
    tags[0x0106] = 0  # black and white, the other way round
    for place, entries in (
        (ExifTags.IFD.Exif, {0x9003: "2024:02:29 12:00:00", MAKER_NOTE: b"\0\1\2\3\4\5"}),
        (ExifTags.IFD.GPSInfo, {1: "N", 2: (48.0, 8.0, 14.5)}),
    ):
        tags.get_ifd(place).clear()
        tags.get_ifd(place).update(entries)
        tags[place] = tags.get_ifd(place)
    exif = tags.tobytes().removeprefix(EXIF_PREFIX)
    file = reopened(to_file_bytes(decoded(photo, "RGB", Metadata(exif=exif, xmp=XMP)), ".tif"))
    np.testing.assert_array_equal(file, np.rot90(photo, -1))
    found = file.getexif()
    assert found[0x010F] == "Maker"
    for place in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        assert found.get_ifd(place) == tags.get_ifd(place)
    assert file.info["xmp"] == XMP


def test_tiff_files_are_compressed_where_pillow_can() -> None:
    flat = np.zeros((400, 400, 3), np.uint8)
    assert len(to_file_bytes(decoded(flat, "RGB", Metadata(xmp=XMP)), ".tiff")) < 3000
    for damaged in (b"neither II nor MM", EXIF[:5]):
        with pytest.warns(HvqWarning, match="the EXIF is damaged: it was left out"):
            data = to_file_bytes(decoded(flat, "RGB", Metadata(exif=damaged, xmp=XMP)), ".tiff")
        assert len(data) < 3000
        assert reopened(data).info["xmp"] == XMP


def test_exif_that_jpeg_cannot_hold_is_applied(photo: Pixels) -> None:
    def exif(more: int) -> bytes:
        return without_thumbnail(exif_with_thumbnail("<", behind=False, more=more))

    room = MAX_JPEG_SEGMENT - len(EXIF_PREFIX) - len(exif(0))
    image = decoded(photo, "RGB", Metadata(exif=exif(room), xmp=XMP, dpi=(72, 72)))
    assert Metadata.of(reopened(to_file_bytes(image, ".jpg"))).exif == exif(room)
    for suffix in (".png", ".webp"):
        big = decoded(photo, "RGB", Metadata(exif=exif(room + 1)))
        assert Metadata.of(reopened(to_file_bytes(big, suffix))).exif == exif(room + 1)
    image = decoded(photo, "RGB", Metadata(exif=exif(room + 1), xmp=XMP, dpi=(72, 72)))
    with pytest.warns(HvqWarning, match=r"JPEG holds no EXIF of \d+ bytes"):
        file = reopened(to_file_bytes(image, ".jpg"))
    assert Metadata.of(file) == Metadata(xmp=XMP, dpi=(72, 72))
    assert_close(file, np.rot90(photo, -1), ".jpg")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_profiles_that_a_format_cannot_hold_are_applied(photo: Pixels, suffix: str) -> None:
    room = MAX_PROFILE[FORMATS[suffix]]
    profile = swapped_profile()
    profile += bytes(room - len(profile))
    kept = to_file_bytes(decoded(photo, "RGB", Metadata(icc=profile)), suffix)
    assert reopened(kept).info["icc_profile"] == profile
    image = decoded(photo, "RGB", Metadata(icc=profile + b"\0"))
    with pytest.warns(HvqWarning, match=r"holds no colour profile of \d+ bytes: converted"):
        file = reopened(to_file_bytes(image, suffix))
    assert "icc_profile" not in file.info
    assert_close(file, np.asarray(to_srgb(Image.fromarray(photo), profile)), suffix)


def test_an_image_is_turned_once_where_xmp_says_it_too(photo: Pixels) -> None:
    """Pillow looks there where EXIF is missing."""
    exif = without_thumbnail(exif_with_thumbnail("<", behind=False, more=70_000))
    xmp = XMP.replace(b"<x:", b'<tiff:Orientation="6"/><x:', 1)
    image = decoded(photo, "RGB", Metadata(exif=exif, xmp=xmp))
    for suffix in (".png", ".webp", ".tiff", ".ppm"):
        file = reopened(to_file_bytes(image, suffix))
        assert ImageOps.exif_transpose(file).size == (40, 56)
    with pytest.warns(HvqWarning, match="JPEG holds no EXIF"):
        file = reopened(to_file_bytes(image, ".jpg"))
    assert file.size == ImageOps.exif_transpose(file).size == (40, 56)


def test_xmp_that_jpeg_cannot_hold_is_left_out(photo: Pixels) -> None:
    most = bytes(MAX_JPEG_SEGMENT - len(XMP_NAMESPACE))
    image = decoded(photo, "RGB", Metadata(xmp=most))
    assert Metadata.of(reopened(to_file_bytes(image, ".jpg"))).xmp == most
    image = decoded(photo, "RGB", Metadata(exif=EXIF, xmp=most + b" ", dpi=(72, 72)))
    with pytest.warns(HvqWarning, match=r"JPEG holds no XMP of 65505 bytes: it was left out"):
        file = reopened(to_file_bytes(image, ".jpg"))
    assert Metadata.of(file) == Metadata(exif=EXIF, dpi=(72, 72))
    assert Metadata.of(reopened(to_file_bytes(image, ".webp"))).xmp == most + b" "


def test_an_orientation_in_xmp_that_jpeg_cannot_hold_is_applied(photo: Pixels) -> None:
    xmp = XMP.replace(b"<x:", b'<tiff:Orientation="6"/><x:', 1) + b" " * MAX_JPEG_SEGMENT
    nowhere_up = Image.Exif()
    nowhere_up[ExifTags.Base.Make] = "Maker"
    for exif in (b"", EXIF, nowhere_up.tobytes().removeprefix(EXIF_PREFIX)):
        image = decoded(photo, "RGB", Metadata(exif=exif, xmp=xmp))
        with pytest.warns(HvqWarning, match="JPEG holds no XMP"):
            file = reopened(to_file_bytes(image, ".jpg"))
        upright = ImageOps.exif_transpose(reopened(to_file_bytes(image, ".png")))
        shown = ImageOps.exif_transpose(file)
        assert shown.size == upright.size
        assert_close(shown, np.asarray(upright), ".jpg")
        assert Metadata.of(file).exif == exif


@pytest.mark.parametrize("tag", [(0x0112, 3, 1, 0), (0x0112, 4, 1, 6), (0x010F, 3, 1, 5)])
def test_tags_that_libtiff_refuses_stop_nothing(photo: Pixels, tag: tuple[int, ...]) -> None:
    exif = b"II*\0\x08\0\0\0" + directory("<", [tag], 0)
    image = decoded(photo, "RGB", Metadata(exif=exif, xmp=XMP))
    for suffix in SUFFIXES:
        assert reopened(to_file_bytes(image, suffix)).size in ((56, 40), (40, 56))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_srgb_stays_srgb(photo: Pixels, suffix: str) -> None:
    file = reopened(to_file_bytes(decoded(photo, "RGB", Metadata(icc=srgb_profile())), suffix))
    assert file.info.get("icc_profile", srgb_profile()) == srgb_profile()
    assert_close(file, photo, suffix)


@pytest.mark.parametrize("suffix", FORMATS)
def test_suffixes_in_any_case(photo: Pixels, suffix: str) -> None:
    mode = "L" if suffix == ".pgm" else "RGB"
    for written in (suffix, suffix.upper()):
        data = to_file_bytes(decoded(photo, mode, Metadata()), written)
        assert reopened(data).format == FORMATS[suffix]


def test_a_file_for_grey_takes_no_colours(photo: Pixels) -> None:
    with pytest.raises(ImageError, match=r"holds no colours: use \.ppm"):
        to_file_bytes(decoded(photo, "RGB", Metadata()), ".pgm")


@pytest.mark.parametrize("suffix", ["", ".", ".hvq", ".gif", "png", ".png "])
def test_other_suffixes_are_refused_with_a_list(photo: Pixels, suffix: str) -> None:
    with pytest.raises(ImageError, match=r"unknown image suffix .*\.png \.jpg"):
        to_file_bytes(decoded(photo, "RGB", Metadata()), suffix)


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16_384), (".jpg", 65_536)])
def test_sides_that_a_format_cannot_hold_are_refused(suffix: str, side: int) -> None:
    long = decoded(np.zeros((2, side, 3), np.uint8), "RGB", Metadata())
    with pytest.raises(ImageError, match=rf"{side}x2 cannot be written as"):
        to_file_bytes(long, suffix)
    assert reopened(to_file_bytes(long, ".png")).size == (side, 2)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=30)
@given(
    behind=st.booleans(),
    damage=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=8),
    length=st.none() | st.integers(0, 120),
    xmp=st.binary(max_size=40),
)
def test_damaged_metadata_stops_nothing(
    behind: bool, damage: list[tuple[int, int]], length: int | None, xmp: bytes
) -> None:
    exif = bytearray(exif_with_thumbnail("<", behind))
    for position, value in damage:
        exif[position] = value
    metadata = Metadata(b"no profile", bytes(exif[:length]), xmp)
    image = decoded(np.zeros((3, 60, 3), np.uint8), "RGB", metadata)
    for suffix in SUFFIXES:
        file = Image.open(io.BytesIO(to_file_bytes(image, suffix)))
        assert file.size in ((60, 3), (3, 60))


def test_orientation_is_kept_where_it_can_be(photo: Pixels) -> None:
    """Pixels as stored, so that a JPEG file decoded to JPEG is not turned twice."""
    image = decoded(photo, "RGB", Metadata(exif=EXIF))
    for suffix in (".png", ".jpg", ".webp"):
        file = reopened(to_file_bytes(image, suffix))
        assert file.size == (56, 40)
        assert file.getexif()[ORIENTATION] == 6
        assert_close(file, photo, suffix)
