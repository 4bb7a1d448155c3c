"""hvqcodec: a learned image codec for small, good-looking files.

>>> import hvqcodec
>>> data = hvqcodec.compress(photo, bpp=0.15)
>>> image = hvqcodec.decompress(data)
"""

from functools import cache
from typing import TYPE_CHECKING

from hvqcodec.errors import (
    BitstreamError,
    HvqError,
    ImageError,
    ModelError,
    RateError,
    UnknownFingerprintError,
    UnsupportedVersionError,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from hvqcodec.codec import Codec
    from hvqcodec.image import ImageSource

__version__ = "0.1.0"

__all__ = [
    "BitstreamError",
    "Codec",
    "HvqError",
    "ImageError",
    "ModelError",
    "RateError",
    "UnknownFingerprintError",
    "UnsupportedVersionError",
    "compress",
    "decompress",
]


@cache
def _default_codec() -> "Codec":
    from hvqcodec.codec import Codec

    return Codec.load()


def compress(
    img: "ImageSource",
    *,
    quality: float | None = None,
    bpp: float | None = None,
    max_bytes: int | None = None,
    ratios: tuple[float, float, float] | None = None,
) -> bytes:
    """`Codec.compress` with the model inside the package, loaded once."""
    return _default_codec().compress(
        img, quality=quality, bpp=bpp, max_bytes=max_bytes, ratios=ratios
    )


def decompress(data: bytes) -> "Image":
    """`Codec.decompress` with the model inside the package, loaded once."""
    return _default_codec().decompress(data)


def __getattr__(name: str) -> object:
    # Torch takes a second to import, which `hvq info` and `hvq --help` do not need.
    if name == "Codec":
        from hvqcodec.codec import Codec

        return Codec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
