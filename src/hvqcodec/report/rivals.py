"""The codecs of browsers, as good as Pillow makes them within so many bytes."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image, features

from hvqcodec.errors import MissingError

OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"subsampling": "4:2:0", "optimize": True},
    "WebP": {"method": 6},
    # Tiles would cost bits, and their number depends on the machine's threads.
    "AVIF": {"speed": 4, "autotiling": False},
}

MAX_QUALITY = 100
FINEST = {"WebP": 0.1}
"""Step of the quality, where it is not 1: from 0 to 1 a WebP file may grow by half."""
MAX_SIDE = {"JPEG": 65_500, "WebP": 16_383, "AVIF": 65_536}


def available() -> list[str]:
    """Of `OPTIONS`, what this Pillow can write."""
    return [name for name in OPTIONS if name == "JPEG" or features.check(name.lower())]


def able(side: int) -> tuple[list[str], list[str]]:
    """Of those, what can hold so many pixels along a side, and a line for each that cannot."""
    names = available()
    return [name for name in names if side <= MAX_SIDE[name]], [
        f"{name} is left out: it holds sides of {MAX_SIDE[name]} pixels at most"
        for name in names
        if side > MAX_SIDE[name]
    ]


def encoder(name: str, image: Image.Image) -> Callable[[float], bytes]:
    """From a quality, 0 to 100, to a file. Raises MissingError."""
    if name not in available():
        raise MissingError(f"this Pillow is built without {name}: install one of PyPI's wheels")
    return partial(_encode, image, name, OPTIONS[name])


def _encode(image: Image.Image, name: str, options: dict[str, Any], quality: float) -> bytes:
    file = io.BytesIO()
    image.save(file, name, quality=quality, **options)
    return file.getvalue()


def best_within(name: str, image: Image.Image, limit: int) -> bytes:
    """The file of the highest quality that takes at most so many bytes, or the smallest file
    if none does. Raises MissingError."""
    encode, step = encoder(name, image), FINEST.get(name, 1)
    best = encode(0)
    low, high = 0, round(MAX_QUALITY / step) + 1
    while high - low > 1 and len(best) <= limit:
        middle = (low + high) // 2
        coded = encode(middle * step)
        if len(coded) <= limit:
            low, best = middle, coded
        else:
            high = middle
    return best
