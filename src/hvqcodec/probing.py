"""What an `.hvq` file says of itself. Free of torch."""

from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike

from hvqcodec.bitstream import VERSION, Bitstream, Mode, Section
from hvqcodec.errors import UnknownFingerprintError, in_file
from hvqcodec.files import named, read_file
from hvqcodec.models.cards import model_for


@dataclass(frozen=True)
class Info:
    """The facts in the header of a file."""

    width: int
    """In pixels, as stored: before the EXIF orientation is applied."""
    height: int
    mode: str
    """What it decodes to: L, LA, RGB or RGBA."""
    file_bytes: int
    bpp: float
    """Bits per pixel, metadata not counted."""
    version: int
    """Of the format."""
    fingerprint: str
    """Of the model, in hexadecimal."""
    model: str | None
    """Its name, if it is embedded."""
    sections: dict[str, int]
    """Bytes by section."""


def probe(source: bytes | str | PathLike[str]) -> Info:
    """The facts in the header of an `.hvq` file, given as bytes or as a path.

    Neither loads a model nor imports torch. Raises BitstreamError for what is no sound file
    and FileError for one that cannot be read.

    >>> path = hvqcodec.compress_file("photo.png")
    >>> info = hvqcodec.probe(path)
    >>> info.width, info.height, info.mode
    (320, 320, 'RGB')
    """
    if isinstance(source, str | PathLike):
        with in_file(source):
            return probe(read_file(named(source)))
    stream = Bitstream.from_bytes(source)
    try:
        model = model_for(stream.fingerprint)
    except UnknownFingerprintError:
        model = None
    return Info(
        width=stream.width,
        height=stream.height,
        mode=image_mode(stream.mode, stream.sections),
        file_bytes=len(source),
        bpp=8 * stream.image_bytes / (stream.width * stream.height),
        version=VERSION,
        fingerprint=stream.fingerprint.hex(),
        model=model,
        sections={section_name(kind): len(body) for kind, body in stream.sections.items()},
    )


def image_mode(mode: Mode, kinds: Collection[int]) -> str:
    """Pillow's name of what a file with sections of these kinds decodes to."""
    return ("L" if mode == Mode.GREY else "RGB") + ("A" if Section.ALPHA in kinds else "")


def section_name(kind: int) -> str:
    """In words; by its number if it is unknown."""
    known = kind in tuple(Section)
    return Section(kind).name.lower().replace("_", " ") if known else f"section {kind}"
