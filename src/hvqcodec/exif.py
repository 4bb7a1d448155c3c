"""EXIF: what Pillow does not read of it, or not without believing all that a file claims.

Each entry of a directory of EXIF may point at any bytes, so that thousands of entries can claim
the same megabytes, and Pillow copies them for each. Of EXIF from strangers it is given only what
claims no more than there is.
"""

import re
import struct
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from PIL import ExifTags, Image

from hvqcodec.errors import is_out_of_memory, notice

EXIF_PREFIX = b"Exif\0\0"
RAW_EXIF = "Raw profile type exif"
"""Key of EXIF in PNG as ImageMagick writes it."""

_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
"""EXIF tags of a TIFF file that speak of the photo rather than of the file: description,
make, model, software, date, artist, copyright."""

_ORDERS = {b"II": "<", b"MM": ">"}
_SHORT, _SIGNED_SHORT, _LONG, _DIRECTORY = 3, 8, 4, 13
_VALUE_BYTES = {1: 1, 2: 1, 6: 1, 7: 1, _SHORT: 2, _SIGNED_SHORT: 2, _LONG: 4, 9: 4, 11: 4, 13: 4}
"""By type; of all others eight."""
_PLAIN = (1, 2, 7)
"""Types whose values Pillow keeps as bytes or text; of others each becomes an object."""
_OBJECT_BYTES = 64
_ROOM = 1 << 20
"""Bytes that EXIF may take beside its own size, once Pillow has read it."""
_BELOW = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""Tags of the first directory that point at others."""


class Entry(NamedTuple):
    """Of a directory of EXIF."""

    tag: int
    kind: int
    number: int
    """Of its values."""
    value: int
    """If it fits into four bytes; else the place of the values."""


def entries(exif: bytes, place: int | None = None) -> Iterator[Entry]:
    """Of the directory at a place, the first one if none is given, as far as it goes."""
    exif = without_prefixes(exif)
    try:
        order = _ORDERS[exif[:2]]
        if place is None:
            (place,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, place)
        for position in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", exif, position)
            short = kind in (_SHORT, _SIGNED_SHORT) and number == 1
            (value,) = struct.unpack_from(order + ("H" if short else "I"), exif, position + 8)
            yield Entry(tag, kind, number, value)
    except (KeyError, struct.error):
        return


def is_safe(exif: bytes) -> bool:
    """Whether Pillow takes no more memory and time for it than EXIF of its size deserves."""
    if len(exif) - len(without_prefixes(exif)) > 2 * len(EXIF_PREFIX):
        return False
    first = list(entries(exif))
    pointers = {entry.tag: entry for entry in first if entry.tag in _BELOW}
    if len(pointers) < sum(entry.tag in _BELOW for entry in first):
        return False
    if any(entry.kind not in (_SHORT, _LONG, _DIRECTORY) for entry in pointers.values()):
        return False
    below = chain.from_iterable(entries(exif, entry.value) for entry in pointers.values())
    claimed = sum(
        entry.number * (1 if entry.kind in _PLAIN else _OBJECT_BYTES)
        for entry in chain(first, below)
        # What lies beyond the end is not read.
        if entry.value + entry.number * _VALUE_BYTES.get(entry.kind, 8) <= len(exif)
    )
    return claimed <= len(exif) + _ROOM


def without_prefixes(exif: bytes) -> bytes:
    """Pillow takes all away, one by one, each time with a copy of the rest."""
    start = 0
    while exif.startswith(EXIF_PREFIX, start):
        start += len(EXIF_PREFIX)
    return exif[start:]


def orientation_of(image: Image.Image) -> int:
    """What EXIF says, or XMP where EXIF says nothing; 1, upright, if neither can be read."""
    exif = as_bytes(image.info.get("exif"))
    if not exif and (image.format == "TIFF" or RAW_EXIF in image.info):
        try:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
        # On damaged EXIF Pillow raises errors of every kind.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return 1
    found = [
        entry.value
        for entry in entries(exif)
        if entry.tag == ExifTags.Base.Orientation
        and entry.kind in (_SHORT, _LONG)
        and entry.number == 1
    ]
    if found:
        return found[-1]
    xmp = as_bytes(image.info.get("XML:com.adobe.xmp") or image.info.get("xmp"))
    said = re.search(rb'tiff:Orientation(="|>)([0-9])', xmp)
    return int(said[2]) if said else 1


def as_bytes(piece: object) -> bytes:
    """Readers of Pillow hand over text, None and worse."""
    if isinstance(piece, str):
        return piece.encode()
    return piece if isinstance(piece, bytes) else b""


def exif_of(image: Image.Image) -> bytes:
    """Of a loaded image, without its thumbnail; b"" if it has none."""
    exif = as_bytes(image.info.get("exif"))
    if image.format == "TIFF":
        # Its EXIF is its own directory, offsets of strips and all.
        try:
            tags = descriptive_exif(image.getexif())
            exif = tags.tobytes() if len(tags) else b""
        # On damaged EXIF Pillow raises errors of every kind.
        except Exception as error:
            if is_out_of_memory(error):
                raise
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
    for directory in _BELOW:
        below = dict(tags.get_ifd(directory))
        below.pop(ExifTags.IFD.Interop, None)  # another directory, by its old place
        if below:
            kept.get_ifd(directory).update(below)
            kept[directory] = kept.get_ifd(directory)
    return kept


def without_thumbnail(exif: bytes) -> bytes:
    """EXIF with its second directory, that of the thumbnail, unlinked and the thumbnail's
    bytes cut off or, where something follows them, zeroed. All other bytes keep their
    places, since notes of camera makers point at them by offset. What is no EXIF is
    returned as it is."""
    try:
        order = _ORDERS[exif[:2]]
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
