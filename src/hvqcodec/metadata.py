"""What an image carries beside its pixels: colour profile, EXIF, XMP, resolution."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageOps

from hvqcodec.bitstream import MAX_VARINT, Section, varint, varints
from hvqcodec.colour import is_srgb, srgb_profile, to_srgb
from hvqcodec.errors import BitstreamError, TooMuchMetadataError, notice
from hvqcodec.limits import MAX_METADATA_BYTES

SRGB = b"\x01"
"""The body of a colour profile that is sRGB."""

EXIF_PREFIX = b"Exif\0\0"
RAW_EXIF = "Raw profile type exif"
"""Key of EXIF in PNG as ImageMagick writes it."""
MAX_DPI = 65_535
"""The most that JPEG can say."""
_DPI_STEPS = 100
"""To one dot per inch."""
_DPI_MAX_BYTES = 2 * MAX_VARINT

_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
"""EXIF tags of a TIFF file that speak of the photo rather than of the file: description,
make, model, software, date, artist, copyright."""


@dataclass(frozen=True)
class Metadata:
    """Empty where there is none."""

    icc: bytes = b""
    """Profile of the pixels; sRGB is assumed without one."""
    exif: bytes = b""
    """From its TIFF header on."""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None

    def to_sections(self) -> dict[int, bytes]:
        """Bodies by kind (docs/format.md, section 1)."""
        sections: dict[int, bytes] = {}
        if self.icc:
            sections[Section.ICC] = SRGB if is_srgb(self.icc) else zlib.compress(self.icc, 9)
        if self.exif:
            sections[Section.EXIF] = zlib.compress(self.exif, 9)
        if self.xmp:
            sections[Section.XMP] = zlib.compress(self.xmp, 9)
        if self.dpi:
            sections[Section.DPI] = b"".join(varint(round(d * _DPI_STEPS)) for d in self.dpi)
        return sections

    @classmethod
    def from_sections(
        cls, sections: Mapping[int, bytes], max_bytes: int = MAX_METADATA_BYTES
    ) -> "Metadata":
        """max_bytes: of each piece. Raises BitstreamError for damaged bodies."""
        icc = sections.get(Section.ICC)
        dpi = sections.get(Section.DPI)
        return cls(
            srgb_profile() if icc == SRGB else inflate(icc, "colour profile", max_bytes),
            inflate(sections.get(Section.EXIF), "EXIF", max_bytes),
            inflate(sections.get(Section.XMP), "XMP", max_bytes),
            _dpi(dpi) if dpi is not None else None,
        )

    @classmethod
    def of(cls, image: Image.Image) -> "Metadata":
        """That of a loaded image; EXIF loses its thumbnail."""
        info = image.info
        pieces = {
            "colour profile": _as_bytes(info.get("icc_profile")),
            "EXIF": _exif_of(image),
            "XMP": _as_bytes(info.get("xmp")),
        }
        for name, piece in pieces.items():
            if len(piece) > MAX_METADATA_BYTES:
                notice(f"the {name} of {len(piece)} bytes is too large and was left out")
                pieces[name] = b""
        icc, exif, xmp = pieces.values()
        return cls(icc, exif, xmp, _dpi_of(image))

    def attach_to(self, image: Image.Image) -> None:
        """Put it where Pillow's own readers do."""
        if self.icc:
            image.info["icc_profile"] = self.icc
        if self.exif:
            image.info["exif"] = EXIF_PREFIX + self.exif
        if self.xmp:
            image.info["xmp"] = self.xmp
        if self.dpi:
            image.info["dpi"] = self.dpi


def as_displayed(image: Image.Image) -> Image.Image:
    """Upright and in sRGB, for where neither orientation nor profile can go along."""
    profile = image.info.get("icc_profile")
    return to_srgb(upright(image), profile or b"")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF or XMP says, which then no longer says so; as it is if that is
    damaged."""
    try:
        orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    # On damaged EXIF Pillow raises errors of every kind.
    except Exception:
        return image
    if orientation not in range(2, 9):
        return image
    # Alone: other tags may be such as Pillow reads but cannot write again.
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    image = image.copy()
    image.info["exif"] = tags.tobytes()
    return ImageOps.exif_transpose(image)


def inflate(body: bytes | None, what: str, max_bytes: int) -> bytes:
    """Nothing of None. Raises BitstreamError; never makes more than max_bytes + 1."""
    if body is None:
        return b""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BitstreamError(f"the {what} is damaged") from error
    if len(raw) > max_bytes:
        raise TooMuchMetadataError(f"the {what} has more than {max_bytes} bytes, the limit")
    if not inflater.eof or inflater.unused_data:
        raise BitstreamError(f"the {what} is damaged")
    return raw


def _dpi(body: bytes) -> tuple[float, float]:
    values = varints(body, "resolution") if len(body) <= _DPI_MAX_BYTES else []
    dpi = _sensible_dpi([value / _DPI_STEPS for value in values])
    if not dpi:
        raise BitstreamError("the resolution is damaged")
    return dpi


def _dpi_of(image: Image.Image) -> tuple[float, float] | None:
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2):
        # Pillow makes up 72 where there is EXIF that says nothing of it.
        try:
            if ExifTags.Base.XResolution not in image.getexif():
                return None
        # On damaged EXIF Pillow raises errors of every kind.
        except Exception:
            return None
    return _sensible_dpi(image.info.get("dpi"))


def _sensible_dpi(dpi: object) -> tuple[float, float] | None:
    """As it is stored; readers hand over zeros, fractions and worse."""
    try:
        x, y = (round(float(d) * _DPI_STEPS) / _DPI_STEPS for d in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    # Pillow makes up 1 where a TIFF file says nothing.
    return (x, y) if 1 < x <= MAX_DPI and 1 < y <= MAX_DPI else None


def _as_bytes(piece: object) -> bytes:
    """Readers hand over text, None and worse."""
    if isinstance(piece, str):
        return piece.encode()
    return piece if isinstance(piece, bytes) else b""


def _exif_of(image: Image.Image) -> bytes:
    exif = _as_bytes(image.info.get("exif"))
    if image.format == "TIFF":
        # Its EXIF is its own directory, offsets of strips and all.
        try:
            tags = descriptive_exif(image.getexif())
            exif = tags.tobytes() if len(tags) else b""
        # On damaged EXIF Pillow raises errors of every kind.
        except Exception:
            notice("the EXIF of the image is damaged and was left out")
    elif not exif and RAW_EXIF in image.info:
        try:
            exif = bytes.fromhex("".join(image.info[RAW_EXIF].split("\n")[3:]))
        except ValueError:
            notice("the EXIF of the image is damaged and was left out")
    return without_thumbnail(exif.removeprefix(EXIF_PREFIX))


def descriptive_exif(tags: Image.Exif, *more: int) -> Image.Exif:
    """What of the tags speaks of the photo rather than of a file, and those of more."""
    kept = Image.Exif()
    kept.update({tag: tags[tag] for tag in (*_DESCRIPTIVE, *more) if tag in tags})
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        entries = dict(tags.get_ifd(directory))
        entries.pop(ExifTags.IFD.Interop, None)  # another directory, by its old place
        if entries:
            kept.get_ifd(directory).update(entries)
            kept[directory] = kept.get_ifd(directory)
    return kept


def without_thumbnail(exif: bytes) -> bytes:
    """EXIF with its second directory, that of the thumbnail, unlinked and the thumbnail's
    bytes cut off or, where something follows them, zeroed. All other bytes keep their
    places, since notes of camera makers point at them by offset. What is no EXIF is
    returned as it is."""
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        link = first + 2 + 12 * count
        (second,) = struct.unpack_from(order + "I", exif, link)
        if not second:
            return exif
        (count,) = struct.unpack_from(order + "H", exif, second)
        tags: dict[int, int] = {}
        for position in range(second + 2, second + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", exif, position)
            value = struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, position + 8)
            tags[tag] = value[0] if length == 1 else 0
    except (KeyError, struct.error):
        return exif
    kept = bytearray(exif)
    kept[link : link + 4] = bytes(4)
    regions = [(second, second + 2 + 12 * count + 4)]
    for start, size in ((0x201, 0x202), (0x111, 0x117)):  # JPEG, or one strip of pixels
        begin = tags.get(start, 0)
        # Where no JPEG begins there may be anything.
        if start != 0x201 or exif[begin : begin + 2] == b"\xff\xd8":
            regions.append((begin, begin + tags.get(size, 0)))
    for begin, end in sorted(regions, reverse=True):
        # What claims the bytes of the first directory is not believed.
        if link + 4 <= begin < end <= len(exif):
            if end >= len(kept):
                del kept[begin:]
            else:
                kept[begin:end] = bytes(end - begin)
    return bytes(kept)
