"""Decoded images to the bytes of ordinary image files, each with what it can hold."""

import io
import math
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from hvqcodec.colour import to_srgb
from hvqcodec.errors import ImageError, is_out_of_memory, notice
from hvqcodec.exif import descriptive_exif, entries, is_safe
from hvqcodec.metadata import as_displayed, upright

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
"""By suffix."""

MAX_JPEG_SEGMENT = 65_533
MAX_PROFILE = {"PNG": PngImagePlugin.MAX_TEXT_CHUNK, "JPEG": 255 * 65_519}
"""What Pillow reads again, and what fits into as many segments as there may be."""
XMP_NAMESPACE = b"http://ns.adobe.com/xap/1.0/\0"
TIFF_XMP = 700

# A second lossy codec should add nothing that can be seen.
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "PPM": {},
}


def format_of(suffix: str) -> str:
    """Pillow's name of the format; raises ImageError for a suffix that is none of ours."""
    try:
        return FORMATS[suffix.lower()]
    except KeyError:
        raise ImageError(
            f"unknown image suffix {suffix!r}: use one of {' '.join(FORMATS)}"
        ) from None


def to_file_bytes(image: Image.Image, suffix: str) -> bytes:
    """image: mode L, LA, RGB or RGBA, metadata in `info`.

    What the format cannot hold is applied instead: transparency laid over white (with a
    notice), orientation and colour profile. Raises ImageError for an unknown suffix and for
    sides that the format cannot hold.
    """
    name = format_of(suffix)
    if suffix.lower() == ".pgm" and image.mode not in ("L", "LA"):
        raise ImageError("a .pgm file holds no colours: use .ppm")
    if name in ("JPEG", "PPM") and image.mode in ("LA", "RGBA"):
        image = over_white(image)
        notice(f"{name} holds no transparency: the image was laid over white")
    profile, exif = image.info.get("icc_profile", b""), image.info.get("exif", b"")
    if name == "PPM":
        image = as_displayed(image)
    elif name == "WEBP" and image.mode in ("L", "LA"):
        # Pillow writes it as RGB, which a profile for grey does not fit.
        image, profile = to_srgb(image, profile), b""
    elif len(profile) > MAX_PROFILE.get(name, math.inf):
        notice(f"{name} holds no colour profile of {len(profile)} bytes: converted to sRGB")
        image, profile = to_srgb(image, profile), b""
    if name == "JPEG" and len(exif) > MAX_JPEG_SEGMENT:
        notice(f"JPEG holds no EXIF of {len(exif)} bytes: it was left out")
        image, exif = upright(image), b""
    xmp = image.info.get("xmp", b"")
    if name == "JPEG" and len(xmp) > MAX_JPEG_SEGMENT - len(XMP_NAMESPACE):
        notice(f"JPEG holds no XMP of {len(xmp)} bytes: it was left out")
        xmp = b""
        if not any(entry.tag == ExifTags.Base.Orientation for entry in entries(exif)):
            image = upright(image)  # which the XMP told
    tags = _tags(name, image.info.get("dpi"), exif, xmp)
    options = _OPTIONS[name] | {"icc_profile": profile} | tags
    buffer = io.BytesIO()
    try:
        image.save(buffer, name, **options)
    except (OSError, ValueError) as error:
        size = f"{image.width}x{image.height}"
        raise ImageError(f"an image of {size} cannot be written as {name} ({error})") from error
    return buffer.getvalue()


def _tags(name: str, dpi: object, exif: bytes, xmp: bytes) -> dict[str, Any]:
    """Options of Pillow that carry EXIF, XMP and resolution; a format ignores what is not its
    own."""
    tags: dict[str, Any] = {"exif": exif} if exif else {}
    if dpi:
        tags["dpi"] = dpi
    if xmp and name == "PNG":
        tags["pnginfo"] = PngImagePlugin.PngInfo()
        tags["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    elif name == "TIFF":
        tags |= _tiff_tags(exif, xmp)
    elif xmp:
        tags["xmp"] = xmp
    return tags


def _tiff_tags(exif: bytes, xmp: bytes) -> dict[str, Any]:
    kept = Image.Exif()
    try:
        kept = _exif_for_tiff(exif)
    # On damaged EXIF Pillow raises errors of every kind.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        notice("the EXIF is damaged: it was left out")
    # Pillow cannot compress a TIFF file with directories inside directories, nor with tags of
    # other types than usual.
    options: dict[str, Any] = {"exif": kept} | ({"compression": "raw"} if kept else {})
    if xmp:
        kept[TIFF_XMP] = xmp
    return options


def _exif_for_tiff(exif: bytes) -> Image.Exif:
    if not is_safe(exif):
        raise ValueError("it claims more bytes than it has")
    tags = Image.Exif()
    tags.load(exif)
    kept = descriptive_exif(tags, ExifTags.Base.Orientation)
    kept.tobytes()  # so that it fails here
    return kept


def over_white(image: Image.Image) -> Image.Image:
    """LA or RGBA to L or RGB."""
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    flat = white.convert(image.mode[:-1])
    flat.info = image.info
    return flat
