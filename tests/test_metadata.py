import io
import math
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from hvqcodec import BitstreamError, Codec, HvqWarning, TooMuchMetadataError
from hvqcodec import metadata as metadata_module
from hvqcodec.bitstream import Bitstream, Section, varint
from hvqcodec.colour import USUAL, _is_srgb, is_srgb, srgb_profile, to_srgb
from hvqcodec.exif import EXIF_PREFIX, without_thumbnail
from hvqcodec.image import read_picture
from hvqcodec.limits import MAX_METADATA_BYTES
from hvqcodec.metadata import (
    MAX_DPI,
    SRGB,
    Metadata,
    as_displayed,
    inflate,
    upright,
)
from tests.helpers import Pixels, with_section
from tests.samples import (
    MAKER_NOTE,
    ORIENTATION,
    SECRET,
    XMP,
    exif_with_thumbnail,
    linear_grey_profile,
    parsed,
    srgb_of_light,
    srgb_of_today,
    swapped_profile,
    thumbnail,
)

ORDERS = pytest.mark.parametrize("order", ["<", ">"])
BEHIND = pytest.mark.parametrize("behind", [False, True])


@pytest.fixture(scope="module")
def crop(astronaut: Pixels) -> Image.Image:
    """48 x 32 pixels."""
    return Image.fromarray(astronaut[60:92, 180:228])


@pytest.fixture(scope="module")
def rich(codec: Codec, crop: Image.Image) -> bytes:
    """A file with every kind of metadata."""
    image = crop.copy()
    exif = exif_with_thumbnail("<", behind=True)
    Metadata(swapped_profile(), exif, XMP, (300.0, 150.5)).attach_to(image)
    return codec.compress(image)


def saved(image: Image.Image, name: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
@ORDERS
def test_metadata_of_files_comes_back(
    codec: Codec, crop: Image.Image, name: str, order: str
) -> None:
    exif, texts = exif_with_thumbnail(order, behind=True), PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    tags = {"exif": EXIF_PREFIX + exif, "icc_profile": swapped_profile(), "dpi": (300, 150)}
    file = saved(crop, name, xmp=XMP, pnginfo=texts, **tags)
    info = codec.decompress(codec.compress(file)).info
    assert info["exif"] == EXIF_PREFIX + without_thumbnail(exif)
    assert info["icc_profile"] == swapped_profile()
    assert info["xmp"] == XMP
    if name == "WEBP":
        assert "dpi" not in info
    else:
        assert info["dpi"] == pytest.approx((300, 150), abs=0.01)


def test_exif_of_tiff_files_is_that_of_the_photo(codec: Codec, crop: Image.Image) -> None:
    tags = Image.Exif()
    tags.update({0x010F: "Maker", ORIENTATION: 6, 700: XMP})
    for place, entries in (
        (ExifTags.IFD.Exif, {0x9003: "2024:02:29 12:00:00", 0xA005: 99}),
        (ExifTags.IFD.GPSInfo, {1: "N", 2: (48.0, 8.0, 14.5)}),
    ):
        tags.get_ifd(place).update(entries)
        tags[place] = tags.get_ifd(place)
    file = saved(crop, "TIFF", exif=tags, icc_profile=swapped_profile(), dpi=(300, 150))
    image = codec.decompress(codec.compress(file))
    assert image.size == (32, 48), "Pillow turns TIFF files as it reads them"
    assert image.info["icc_profile"] == swapped_profile()
    assert image.info["xmp"] == XMP
    assert image.info["dpi"] == (300, 150)
    exif = image.getexif()
    assert set(exif) == {0x010F, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
    assert exif[0x010F] == "Maker"
    assert exif.get_ifd(ExifTags.IFD.Exif) == {0x9003: "2024:02:29 12:00:00"}
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N", 2: (48.0, 8.0, 14.5)}


def test_a_plain_tiff_file_has_no_exif(crop: Image.Image) -> None:
    assert read_picture(saved(crop, "TIFF")).metadata == Metadata()


def with_odd_latitude(data: bytes, order: str) -> bytes:
    """As a text, which Pillow reads but cannot write again."""
    latitude = struct.pack(order + "HHI", 2, 5, 3)
    assert data.count(latitude) == 1
    return data.replace(latitude, struct.pack(order + "HHI", 2, 2, 3))


@pytest.fixture(scope="module")
def turned_and_placed() -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    tags.get_ifd(ExifTags.IFD.GPSInfo)[2] = (48.0, 8.0, 14.5)
    tags[ExifTags.IFD.GPSInfo] = tags.get_ifd(ExifTags.IFD.GPSInfo)
    return tags.tobytes().removeprefix(EXIF_PREFIX)


def test_exif_of_tiff_files_that_cannot_be_written_again_is_left_out(
    crop: Image.Image, turned_and_placed: bytes
) -> None:
    data = with_odd_latitude(saved(crop, "TIFF", exif=turned_and_placed).getvalue(), "<")
    with pytest.warns(HvqWarning, match="the EXIF of the image is damaged and was left out"):
        picture = read_picture(io.BytesIO(data))
    assert picture.metadata == Metadata()
    np.testing.assert_array_equal(picture.rgb, np.rot90(crop, -1))


def test_images_with_odd_exif_are_turned(crop: Image.Image, turned_and_placed: bytes) -> None:
    exif = with_odd_latitude(turned_and_placed, ">")
    xmp = XMP.replace(b"<x:", b'<tiff:Orientation="6"/><x:', 1)
    for metadata in (Metadata(exif=exif), Metadata(xmp=xmp)):
        image = crop.copy()
        metadata.attach_to(image)
        turned = upright(image)
        np.testing.assert_array_equal(turned, np.rot90(crop, -1))
        np.testing.assert_array_equal(upright(turned), turned)
        assert image.size == (48, 32)


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_orientations_that_turn_nothing(crop: Image.Image, orientation: int) -> None:
    image = crop.copy()
    exif = exif_with_thumbnail("<", behind=True, orientation=orientation)
    Metadata(exif=exif).attach_to(image)
    np.testing.assert_array_equal(upright(image), crop)


def test_exif_in_the_text_of_a_png_file(crop: Image.Image) -> None:
    """As ImageMagick writes it."""
    exif = exif_with_thumbnail(">", behind=False)
    image = crop.copy()
    text = (EXIF_PREFIX + exif).hex()
    lines = [text[start : start + 72] for start in range(0, len(text), 72)]
    image.info["Raw profile type exif"] = "\n".join(["", "exif", f"{len(exif) + 6:8}", *lines, ""])
    assert Metadata.of(image).exif == without_thumbnail(exif)
    image.info["Raw profile type exif"] = "\nexif\n3\nno digits\n"
    with pytest.warns(HvqWarning, match="EXIF .* is damaged"):
        assert Metadata.of(image).exif == b""


def test_strip_drops_all_and_shows_the_same(codec: Codec, crop: Image.Image, rich: bytes) -> None:
    image = crop.copy()
    Metadata(swapped_profile(), exif_with_thumbnail("<", True), XMP, (72, 72)).attach_to(image)
    data = codec.compress(image, strip=True)
    kept = {Section.PAYLOAD, Section.SYMBOL_CRC, Section.RESIDUAL}
    assert set(Bitstream.from_bytes(data).sections) == kept
    assert Bitstream.from_bytes(data).image_bytes == len(data)
    stripped = codec.decompress(data)
    assert not stripped.info
    assert stripped.size == (32, 48)
    turned = np.rot90(np.asarray(crop), -1)[:, :, ::-1]  # the profile swaps red and blue
    picture = read_picture(image, strip=True)
    assert np.abs(picture.rgb.astype(int) - turned).max() <= 3
    assert Bitstream.from_bytes(rich).image_bytes < len(rich)


@pytest.mark.parametrize("profile", [srgb_of_today(), srgb_profile()], ids=["today", "ours"])
def test_srgb_costs_a_byte(codec: Codec, crop: Image.Image, profile: bytes) -> None:
    image = crop.copy()
    image.info["icc_profile"] = profile
    data = codec.compress(image)
    assert Bitstream.from_bytes(data).sections[Section.ICC] == SRGB
    assert len(data) == len(codec.compress(crop)) + 2 + 1  # kind, length and body
    assert codec.decompress(data).info["icc_profile"] == srgb_profile()
    assert "icc_profile" not in codec.decompress(codec.compress(crop)).info


def test_the_srgb_profile_is_srgb_and_of_no_day() -> None:
    assert is_srgb(srgb_profile())
    assert srgb_profile() == srgb_profile.__wrapped__()
    assert struct.unpack(">6H", srgb_profile()[24:36]) == (1999, 10, 18, 0, 0, 0)


@pytest.mark.parametrize(
    "profile",
    [swapped_profile(), linear_grey_profile(), b"no profile at all"],
    ids=["swapped", "grey", "none"],
)
def test_other_profiles_are_kept_verbatim(profile: bytes) -> None:
    assert not is_srgb(profile)
    sections = Metadata(icc=profile).to_sections()
    assert len(sections[Section.ICC]) < len(profile) + 16
    assert Metadata.from_sections(sections).icc == profile


def test_grey_through_its_profile() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    image = to_srgb(Image.fromarray(ramp), linear_grey_profile())
    expected = srgb_of_light(ramp[0] / 255)
    assert image.mode == "L"
    assert np.abs(np.asarray(image)[0] - expected).max() <= 1
    assert to_srgb(image, swapped_profile()) is image, "a profile for colours says nothing of grey"


def test_transparency_is_no_colour(crop: Image.Image) -> None:
    image = crop.convert("RGBA")
    image.putalpha(77)
    converted = to_srgb(image, swapped_profile())
    assert np.abs(np.asarray(converted)[:, :, 2::-1].astype(int) - np.asarray(crop)).max() <= 3
    assert set(np.asarray(converted.getchannel("A")).flat) == {77}


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_metadata_outlive_a_change_of_colours(crop: Image.Image, mode: str) -> None:
    image = crop.convert(mode)
    profile = linear_grey_profile() if mode in ("L", "LA") else swapped_profile()
    metadata = Metadata(profile, exif_with_thumbnail("<", behind=True), XMP, (72.0, 72.0))
    metadata.attach_to(image)
    converted = to_srgb(image, profile)
    assert converted.mode == mode
    assert converted.info == {k: v for k, v in image.info.items() if k != "icc_profile"}


@ORDERS
@BEHIND
def test_the_thumbnail_leaves_and_all_else_stays_in_its_place(order: str, behind: bool) -> None:
    exif = exif_with_thumbnail(order, behind)
    assert parsed(exif).get_ifd(ExifTags.IFD.IFD1)
    bare = without_thumbnail(exif)
    tags = parsed(bare)
    assert not tags.get_ifd(ExifTags.IFD.IFD1)
    assert tags[ORIENTATION] == 6
    note = tags.get_ifd(ExifTags.IFD.Exif)[MAKER_NOTE]
    (place,) = struct.unpack(order + "4xI", note)
    assert bare[place : place + len(SECRET)] == SECRET
    begin, link = exif.index(thumbnail()), 8 + 2 + 2 * 12
    assert thumbnail()[:4] not in bare
    assert bare[link : link + 4] == bytes(4)
    assert bare[:link] + exif[link : link + 4] + bare[link + 4 : begin - 42] == exif[: begin - 42]
    if behind:
        assert len(bare) == len(exif)
        assert len(zlib.compress(bare)) < len(zlib.compress(exif)) - len(zlib.compress(thumbnail()))
    else:
        assert len(bare) == begin - 42, "cut off, with the 42 bytes of its directory"
    assert without_thumbnail(bare) == bare


@ORDERS
def test_a_thumbnail_of_plain_pixels_leaves(order: str) -> None:
    exif = exif_with_thumbnail(order, behind=False)
    place, size = exif.index(thumbnail()), len(thumbnail())
    for jpeg, strip, value in ((0x0201, 0x0111, place), (0x0202, 0x0117, size)):
        entry = struct.pack(order + "HHII", jpeg, 4, 1, value)
        assert exif.count(entry) == 1
        exif = exif.replace(entry, struct.pack(order + "HHIHH", strip, 3, 1, value, 0))
    assert thumbnail() in exif
    assert thumbnail() not in without_thumbnail(exif)


@ORDERS
def test_damaged_exif_is_left_alone(order: str) -> None:
    exif = exif_with_thumbnail(order, behind=True)
    link = 8 + 2 + 2 * 12
    begin = exif.index(thumbnail())

    def linked(place: int) -> bytes:
        return exif[:link] + struct.pack(order + "I", place) + exif[link + 4 :]

    for beyond in (len(exif) - 1, len(exif), 2**31, 2**32 - 1):
        assert without_thumbnail(linked(beyond)) == linked(beyond)
    for short in (b"", exif[:1], exif[:4], exif[:9], exif[:link], exif[: begin - 20]):
        assert without_thumbnail(short) == short
    assert without_thumbnail(b"JFIF" + exif) == b"JFIF" + exif
    # A directory that follows itself is unlinked, and nothing is believed of it.
    assert without_thumbnail(linked(8)) == linked(0)
    size = begin - 42 + 2 + 2 * 12 + 8
    for length in (len(exif), 2**32 - 1):
        claimed = exif[:size] + struct.pack(order + "I", length) + exif[size + 4 :]
        assert SECRET in without_thumbnail(claimed)


@given(
    st.binary(max_size=80)
    | st.builds(
        bytes.__add__, st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]), st.binary()
    )
)
def test_of_garbage_bytes_are_cleared_or_cut_off_but_never_moved(garbage: bytes) -> None:
    found = without_thumbnail(garbage)
    assert len(found) <= len(garbage)
    assert all(new in (old, 0) for new, old in zip(found, garbage, strict=False))


@given(
    order=st.sampled_from("<>"),
    behind=st.booleans(),
    damage=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=6),
)
def test_of_damaged_exif_the_first_directory_stays(
    order: str, behind: bool, damage: list[tuple[int, int]]
) -> None:
    exif = bytearray(exif_with_thumbnail(order, behind))
    for position, value in damage:
        exif[position] = value
    found = without_thumbnail(bytes(exif))
    (first,) = struct.unpack_from(order + "I", exif, 4)
    if first == 8 and exif[:2] == (b"II" if order == "<" else b"MM"):
        (count,) = struct.unpack_from(order + "H", exif, 8)
        link = 8 + 2 + 12 * count
        assert found[:link] == exif[:link]


@pytest.mark.parametrize("dpi", [(72.0, 72.0), (1.01, 65535.0), (299.99, 150.5)])
def test_resolutions_come_back(dpi: tuple[float, float]) -> None:
    assert Metadata.from_sections(Metadata(dpi=dpi).to_sections()).dpi == dpi


@pytest.mark.parametrize(
    "dpi",
    [
        None,
        72,
        "no",
        (72,),
        (0, 0),
        (1, 1),
        (1.004, 1.004),
        (float("inf"), 72),
        (72, 0.5),
        (float("nan"), 72),
        (1e9, 1e9),
        (72, "x"),
        (1, 2, 3),
    ],
)
def test_resolutions_that_make_no_sense_are_passed_over(crop: Image.Image, dpi: object) -> None:
    image = crop.copy()
    image.info["dpi"] = dpi
    assert Metadata.of(image) == Metadata()


def test_pieces_that_are_no_bytes_are_passed_over(crop: Image.Image) -> None:
    image = crop.copy()
    image.info |= {"icc_profile": None, "exif": None, "xmp": XMP.decode()}
    assert Metadata.of(image) == Metadata(xmp=XMP)


def test_pieces_that_are_too_large_are_left_out(
    crop: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_module, "MAX_METADATA_BYTES", 100)
    image = crop.copy()
    Metadata(xmp=bytes(101), exif=bytes(100)).attach_to(image)
    with pytest.warns(HvqWarning, match="XMP of 101 bytes is too large"):
        assert Metadata.of(image) == Metadata(exif=bytes(100))


def test_the_largest_piece_is_accepted_and_the_next_refused() -> None:
    """Of what is larger, no more is inflated than that."""
    largest = bytes(MAX_METADATA_BYTES)
    assert inflate(zlib.compress(largest), "XMP", MAX_METADATA_BYTES) == largest
    for size in (MAX_METADATA_BYTES + 1, 6 * MAX_METADATA_BYTES):
        bomb = zlib.compress(bytes(size), 1)
        tracemalloc.start()
        with pytest.raises(BitstreamError, match=r"XMP has more than .* the limit"):
            inflate(bomb, "XMP", MAX_METADATA_BYTES)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * MAX_METADATA_BYTES


def test_the_limit_of_metadata_is_the_callers(codec: Codec, crop: Image.Image) -> None:
    image = crop.copy()
    Metadata(xmp=bytes(1000)).attach_to(image)
    data = codec.compress(image)
    assert codec.decompress(data, max_metadata_bytes=1000).info["xmp"] == bytes(1000)
    with pytest.raises(TooMuchMetadataError, match="the XMP has more than 999 bytes"):
        codec.decompress(data, max_metadata_bytes=999)
    for limit in (sys.maxsize, 1 << 80, 1000.0, math.inf):
        assert codec.decompress(data, max_metadata_bytes=limit).info["xmp"] == bytes(1000)


@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_lets_a_bomb_through(limit: int) -> None:
    body = zlib.compress(bytes(64 << 20), 9)
    tracemalloc.start()
    with pytest.raises(TooMuchMetadataError):
        inflate(body, "XMP", limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_large_profiles_are_not_kept_in_mind() -> None:
    profile = swapped_profile()
    assert not is_srgb(profile)
    before = _is_srgb.cache_info().currsize
    for number in range(3):
        assert not is_srgb(profile + bytes(USUAL + number))
    assert _is_srgb.cache_info().currsize == before


BOMB = zlib.compress(bytes(MAX_METADATA_BYTES + 1), 9)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Section.ICC, "colour profile"), (Section.EXIF, "EXIF"), (Section.XMP, "XMP")],
)
def test_damaged_bodies_are_refused(codec: Codec, rich: bytes, kind: Section, name: str) -> None:
    sound = Bitstream.from_bytes(rich).sections[kind]
    for body in (b"", b"\0", b"\x02", b"garbage", sound[:-1], sound[:9], sound + b"\0"):
        with pytest.raises(BitstreamError, match=f"the {name} is damaged"):
            codec.decompress(with_section(rich, kind, body))
    with pytest.raises(TooMuchMetadataError, match=f"the {name} has more than"):
        codec.decompress(with_section(rich, kind, BOMB))


@pytest.mark.parametrize(
    "values",
    [(), (7200,), (7200, 7200, 7200), (0, 7200), (100, 7200), (100 * MAX_DPI + 1, 7200)],
)
def test_damaged_resolutions_are_refused(codec: Codec, rich: bytes, values: tuple[int]) -> None:
    body = b"".join(map(varint, values))
    with pytest.raises(BitstreamError, match="the resolution is damaged"):
        codec.decompress(with_section(rich, Section.DPI, body))
    for body in (b"\x80", b"\x80\x00\x64", b"\xff" * 9):
        with pytest.raises(BitstreamError, match="resolution"):
            codec.decompress(with_section(rich, Section.DPI, body))


@pytest.mark.parametrize("kind", [Section.ICC, Section.EXIF, Section.XMP])
def test_flipped_bits_never_give_other_metadata(rich: bytes, kind: Section) -> None:
    sections = Bitstream.from_bytes(rich).sections
    original, body, noticed = Metadata.from_sections(sections), sections[kind], 0
    bits = np.random.default_rng(0).choice(8 * len(body), 100, replace=False)
    for bit in bits:
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert Metadata.from_sections(sections | {kind: bytes(damaged)}) == original
        except BitstreamError:
            noticed += 1
    assert noticed > 90


def test_every_flip_of_the_srgb_byte_is_noticed() -> None:
    for bit in range(8):
        with pytest.raises(BitstreamError, match="colour profile"):
            Metadata.from_sections({Section.ICC: bytes([SRGB[0] ^ 1 << bit])})


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"garbage", b"II*\0\x08\0\0\0", b"MM\0*\xff\xff\xff\xff"]
)
def test_damaged_exif_turns_nothing(crop: Image.Image, exif: bytes) -> None:
    image = crop.copy()
    Metadata(exif=exif).attach_to(image)
    np.testing.assert_array_equal(upright(image), crop)
    np.testing.assert_array_equal(as_displayed(image), crop)
    assert without_thumbnail(exif) == exif


def test_metadata_takes_nothing_from_the_image(
    codec: Codec, crop: Image.Image, rich: bytes
) -> None:
    bare = codec.compress(crop)
    assert Bitstream.from_bytes(rich).image_bytes == len(bare) < len(rich) - 400
    np.testing.assert_array_equal(codec.decompress(rich), codec.decompress(bare))


@ORDERS
def test_a_thumbnail_that_begins_as_none_is_not_believed(order: str) -> None:
    """What it claims are other bytes."""
    exif = exif_with_thumbnail(order, behind=True)
    begin = exif.index(thumbnail())
    spoilt = exif[:begin] + b"\0" + exif[begin + 1 :]
    assert thumbnail()[1:] in without_thumbnail(spoilt)


def test_a_resolution_of_megabytes_is_refused_at_once(
    codec: Codec, cat: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(body: bytes, what: str) -> list[int]:
        raise AssertionError("number by number")

    data = with_section(codec.compress(cat[:32, :48]), Section.DPI, b"\1" * 10_000_000)
    monkeypatch.setattr(metadata_module, "varints", read)
    with pytest.raises(BitstreamError, match="the resolution is damaged"):
        codec.decompress(data)


def test_a_resolution_that_pillow_makes_up_is_none(cat: Pixels, tmp_path: Path) -> None:
    """A JPEG file with EXIF that has none, and no unit of its own."""
    exif, path = Image.Exif(), tmp_path / "cat.jpg"
    exif[ExifTags.Base.Make] = "somebody"
    Image.fromarray(cat).save(path, exif=exif)
    with Image.open(path) as image:
        assert image.info["dpi"] == (72, 72)
        assert Metadata.of(image).dpi is None
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = 300.0
    exif[ExifTags.Base.ResolutionUnit] = 2
    Image.fromarray(cat).save(path, exif=exif)
    with Image.open(path) as image:
        assert Metadata.of(image).dpi == (300, 300)
