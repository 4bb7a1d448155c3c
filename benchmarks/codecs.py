"""The codecs that are compared, each with the settings of its curve."""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import AvifImagePlugin, Image

from hvqcodec import Codec, RateError
from hvqcodec.choices import DEFAULT_EFFORT, Effort
from hvqcodec.errors import MissingError
from hvqcodec.optional import require
from hvqcodec.report.rivals import OPTIONS

PILLOW: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "jpeg": (OPTIONS["JPEG"], (3, 5, 8, 12, 18, 25, 32)),
    "webp": (OPTIONS["WebP"], (0, 2, 5, 10, 20, 35, 50)),
    "avif": (OPTIONS["AVIF"], (1, 8, 16, 24, 32, 42, 52)),
    # Up to 18 libjxl codes the photo at half its size, which loses more at equal bits. Its
    # end, 0, lies at 0.15 bpp on Kodak.
    "jxl": ({"effort": 7}, (0, 3, 6, 10, 14, 20, 30, 45, 62)),
}
"""Options and qualities per format; the qualities span about 0.05 to 0.7 bpp."""

EVERYTHING = 24.0
"""Bits per pixel: more than any photo can use."""


class UnreachableError(Exception):
    """A photo cannot be coded at the setting, so a mean would be over other photos."""


@dataclass(frozen=True)
class Contender:
    name: str
    settings: Sequence[float]
    encode: Callable[[Image.Image, float], bytes]
    decode: Callable[[bytes], Image.Image]
    inspect: Callable[[bytes], Mapping[str, float]] | None = None
    largest: Callable[[Image.Image], int] | None = None
    """Bytes of the largest file that the codec makes of a photo, where settings are bpp."""


def pillow(name: str, threads: int | None = None) -> Contender:
    """One of `PILLOW`; raises MissingError where Pillow cannot write the format."""
    options, qualities = PILLOW[name]
    if name == "jxl":
        plugin = require("pillow_jxl", "bench").JpegXLImagePlugin
        if threads:
            options = options | {"num_threads": threads}
            plugin.DECODE_THREADS = threads
    if threads:
        AvifImagePlugin.DEFAULT_MAX_THREADS = threads
    Image.init()
    if name.upper() not in Image.SAVE:
        raise MissingError("this Pillow is built without it, install one of PyPI's wheels")

    def encode(image: Image.Image, setting: float) -> bytes:
        file = io.BytesIO()
        image.save(file, name, quality=int(setting), **options)
        return file.getvalue()

    return Contender(name, qualities, encode, lambda data: Image.open(io.BytesIO(data)))


def hvq(model: str, rates: Sequence[float], effort: Effort = DEFAULT_EFFORT) -> Contender:
    codec = Codec.load(model)

    def encode(image: Image.Image, bpp: float) -> bytes:
        try:
            with warnings.catch_warnings():
                # Photos that cannot use the rate are named after the table.
                warnings.simplefilter("ignore", UserWarning)
                return codec.compress(image, bpp=bpp, effort=effort)
        except RateError as error:
            raise UnreachableError(error) from error

    def largest(image: Image.Image) -> int:
        return len(encode(image, EVERYTHING))

    name = "hvq" if effort == DEFAULT_EFFORT else f"hvq-{effort}"
    return Contender(name, rates, encode, codec.decompress, codec.inspect, largest)
