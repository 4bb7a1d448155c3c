"""hvqcodec: a learned image codec for small, good-looking files.

>>> import hvqcodec
>>> data = hvqcodec.compress("photo.png", bpp=0.15)
>>> image = hvqcodec.decompress(data)
>>> image.size
(320, 320)
"""

from typing import TYPE_CHECKING

from hvqcodec.errors import (
    BitstreamError,
    FileError,
    HvqError,
    HvqWarning,
    ImageError,
    MissingError,
    ModelError,
    RateError,
    TooManyPixelsError,
    TooMuchMetadataError,
    UnknownFingerprintError,
    UnsupportedVersionError,
)
from hvqcodec.facade import compress, compress_file, decompress, decompress_file
from hvqcodec.probing import Info, probe

if TYPE_CHECKING:
    from hvqcodec.codec import Codec

__version__ = "0.18.1"

__all__ = [
    "BitstreamError",
    "Codec",
    "FileError",
    "HvqError",
    "HvqWarning",
    "ImageError",
    "Info",
    "MissingError",
    "ModelError",
    "RateError",
    "TooManyPixelsError",
    "TooMuchMetadataError",
    "UnknownFingerprintError",
    "UnsupportedVersionError",
    "compress",
    "compress_file",
    "decompress",
    "decompress_file",
    "probe",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # to which every name would be one

    def __getattr__(name: str) -> object:
        # Torch takes a second to import, which `hvq info` and `hvq --help` do not need.
        if name == "Codec":
            from hvqcodec.codec import Codec

            return Codec
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
