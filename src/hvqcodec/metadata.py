"""What an image carries beside its pixels: colour profile, EXIF, XMP, resolution."""

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageOps

from hvqcodec.bitstream import MAX_VARINT, Section, varint, varints
from hvqcodec.colour import is_srgb, srgb_profile, to_srgb
from hvqcodec.errors import BitstreamError, TooMuchMetadataError, notice
from hvqcodec.exif import EXIF_PREFIX, as_bytes, entries, exif_of, orientation_of
from hvqcodec.limits import MAX_METADATA_BYTES

SRGB = b"\x01"
"""The body of a colour profile that is sRGB."""

MOST_INFLATED = sys.maxsize - 1
"""All that zlib can be asked for, where a limit is none."""

MAX_DPI = 65_535
"""The most that JPEG can say."""
_DPI_STEPS = 100
"""To one dot per inch."""
_DPI_MAX_BYTES = 2 * MAX_VARINT


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
        cls, sections: Mapping[int, bytes], max_bytes: float = MAX_METADATA_BYTES
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
            "colour profile": as_bytes(info.get("icc_profile")),
            "EXIF": exif_of(image),
            "XMP": as_bytes(info.get("xmp")),
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
    """Turned as its EXIF or XMP says, which then no longer says so; as it is if neither can be
    read."""
    orientation = orientation_of(image)
    if orientation not in range(2, 9):
        return image
    # Alone: other tags may be such as Pillow reads but cannot write again.
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    image = image.copy()
    image.info["exif"] = tags.tobytes()
    return ImageOps.exif_transpose(image)


def inflate(body: bytes | None, what: str, max_bytes: float) -> bytes:
    """Nothing of None. Raises BitstreamError; never makes more than max_bytes + 1, where those
    below zero are as zero."""
    if body is None:
        return b""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(body, int(min(max(max_bytes, 0), MOST_INFLATED)) + 1)
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
        exif = as_bytes(image.info.get("exif"))
        if not any(entry.tag == ExifTags.Base.XResolution for entry in entries(exif)):
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
