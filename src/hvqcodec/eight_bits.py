"""Images of any mode to 8 bits of grey or RGB, with alpha or without, where Pillow does not."""

import numpy as np
from PIL import Image

from hvqcodec.errors import ImageError

_SCALES = {"'1'": 255, "'L;2'": 85, "'L;4'": 17}
"""By what Pillow multiplies grey samples of a PNG of fewer than 8 bits, by its name for them."""


def as_png_means_it(image: Image.Image, tiles: str) -> Image.Image:
    """Pillow scales samples of 1, 2, 4 and 16 bits to 8, but not the colour that stands for
    transparency (of 1 bit from release 12 on), and reads grey of 16 bits with alpha as RGB."""
    if "LA;16B" in tiles:
        return image.convert("LA")
    colour = image.info.get("transparency")
    if isinstance(colour, int) and (scale := _scale_of(image, colour, tiles)):
        image = image.copy()
        image.info["transparency"] = min(colour * scale, 255)
    if isinstance(colour, tuple) and "'RGB;16B'" in tiles:
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    return image


def _scale_of(image: Image.Image, colour: int, tiles: str) -> int | None:
    """By what Pillow has scaled grey samples of fewer than 8 bits, if it has, but not the colour
    that stands for transparency."""
    if tiles != "[]":
        return next((scale for raw, scale in _SCALES.items() if raw in tiles), None)
    # It was read before, and no longer tells: so by the greys that there are.
    if image.mode not in ("1", "L"):
        return None
    greys = {grey for grey, count in enumerate(image.histogram()) if count}
    for scale in _SCALES.values():
        if colour * scale in greys - {colour} and all(grey % scale == 0 for grey in greys):
            return scale
    return None


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Mode L, LA, RGB or RGBA."""
    if image.mode.startswith("I"):  # 16 bits, also where Pillow holds them in 32
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("an image of 32 bits per channel: scale it to 8 or 16 bits")
        grey = values.astype(np.float32) / 257
        result = Image.fromarray(np.round(grey).astype(np.uint8))
        if "transparency" in image.info:  # the one value that is
            result.putalpha(
                Image.fromarray(255 * (values != image.info["transparency"]).astype(np.uint8))
            )
        return result
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode.upper())
    colour = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(colour, tuple) and max(colour) > 255:
        image = image.copy()  # of 16 bits still, where the pixels have lost their lower 8
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    is_grey = image.mode in ("1", "L", "LA")
    return image.convert(("L" if is_grey else "RGB") + "A" * image.has_transparency_data)
