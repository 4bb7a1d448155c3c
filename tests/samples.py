"""Metadata to test with, made by hand."""

import io
import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

ORIENTATION = 0x0112
MAKER_NOTE = 0x927C
XMP = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'


@cache  # It has a time of creation.
def srgb_of_today() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and blue in each other's place."""
    profile = srgb_of_today()
    assert profile.count(b"rXYZ") == profile.count(b"bXYZ") == 1
    return profile.replace(b"rXYZ", b"tmp_").replace(b"bXYZ", b"rXYZ").replace(b"tmp_", b"bXYZ")


def linear_grey_profile() -> bytes:
    """Grey in proportion to light."""
    d50 = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 12) + b"linear grey\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0\0\0\0",
        b"wtpt": b"XYZ " + bytes(4) + d50,
        b"kTRC": b"curv" + struct.pack(">IIHH", 0, 1, 0x100, 0),
    }
    table, bodies, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, text in tags.items():
        body = text.ljust(-len(text) // 4 * -4, b"\0")
        body += bytes(-len(body) % 4)
        table += name + struct.pack(">II", start + len(bodies), len(body))
        bodies += body
    header = struct.pack(">I4xI", start + len(bodies), 0x02400000) + b"mntrGRAYXYZ "
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + d50
    return header.ljust(128, b"\0") + table + bodies


def srgb_of_light(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 ... 1 to 0 ... 255: the standard's curve."""
    low, high = 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light < 0.0031308, low, high) * 255


def directory(order: str, entries: list[tuple[int, int, int, int]], link: int) -> bytes:
    """A TIFF directory. entries: tag, type, count, value or offset; link: to the next one."""
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHI", tag, kind, count)
        body += struct.pack(order + ("HH" if kind == 3 else "I"), value, *[0] * (kind == 3))
    return body + struct.pack(order + "I", link)


def thumbnail() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(file, "JPEG")
    return file.getvalue()


SECRET = b"what the maker's note points at"


def exif_with_thumbnail(order: str, behind: bool, orientation: int = 6, more: int = 0) -> bytes:
    """Turned by 90 degrees; its maker's note holds the offset of SECRET in the whole, which
    lies behind the thumbnail or before it. more: bytes that the note has besides."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    picture = thumbnail()
    exif_at = 8 + 2 + 2 * 12 + 4
    note_at = exif_at + 2 + 12 + 4
    second_at = note_at + 8 + more + (0 if behind else len(SECRET))
    picture_at = second_at + 2 + 3 * 12 + 4
    secret_at = picture_at + len(picture) if behind else note_at + 8 + more
    first = [(ORIENTATION, 3, 1, orientation), (0x8769, 4, 1, exif_at)]
    second = [(0x0103, 3, 1, 6), (0x0201, 4, 1, picture_at), (0x0202, 4, 1, len(picture))]
    return b"".join(
        [
            head,
            directory(order, first, second_at),
            directory(order, [(MAKER_NOTE, 7, 8 + more, note_at)], 0),
            b"NOTE" + struct.pack(order + "I", secret_at) + bytes(more),
            b"" if behind else SECRET,
            directory(order, second, 0),
            picture,
            SECRET if behind else b"",
        ]
    )


def parsed(exif: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(exif)
    return tags
