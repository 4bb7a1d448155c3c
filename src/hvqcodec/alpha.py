"""Transparency: kept without loss, with no bits for the colours that it hides."""

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.arrays import Pixels
from hvqcodec.errors import BitstreamError

BAND = 256
"""Rows at a time, a multiple of 4."""


def fill_hidden(rgb: Pixels, alpha: Pixels) -> Pixels:
    """Colours where alpha is 0 replaced by those of the visible pixels around, which takes
    the fewest bits: averages over 4x4 pixels or, where nothing is seen of those, ever
    larger squares."""
    seen = alpha > 0
    if seen.all():
        return rgb
    if not seen.any():
        return np.full_like(rgb, 128)
    # Begun at a quarter of the size: memory for all pixels would be too much.
    parts = [shrunk(rgb[top : top + BAND], seen[top : top + BAND]) for top in bands(len(rgb))]
    colour, weight = (torch.cat(part, 2) for part in zip(*parts, strict=True))
    pyramid = [(colour, weight)]
    while max(colour.shape[2:]) > 1:
        colour, weight = half(colour), half(weight)
        pyramid.append((colour, weight))
    filled = colour / weight
    for colour, weight in reversed(pyramid[:-1]):
        above = F.interpolate(filled, scale_factor=2, mode="bilinear")
        above = above[..., : colour.shape[2], : colour.shape[3]]
        filled = torch.where(weight > 0, colour / weight.clamp_min(1e-9), above)
    cells: Pixels = filled[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    pixels = rgb.copy()
    for top in bands(len(rgb)):
        part, hidden = pixels[top : top + BAND], ~seen[top : top + BAND]
        behind = cells[top // 4 : (top + BAND) // 4].repeat(4, 0).repeat(4, 1)
        part[hidden] = behind[: part.shape[0], : part.shape[1]][hidden]
    return pixels


def bands(rows: int) -> range:
    """Where they begin."""
    return range(0, rows, BAND)


def shrunk(rgb: Pixels, seen: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Means over 4x4 pixels of the colours, (1, 3, h/4, w/4), hidden ones being 0, and of what is
    seen, (1, 1, h/4, w/4)."""
    weight = torch.from_numpy(seen)[None, None].float()
    colour = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() * weight
    return half(half(colour)), half(half(weight))


def half(x: Tensor) -> Tensor:
    """Means over 2x2; at the edge over what there is."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def pack_alpha(alpha: Pixels) -> bytes:
    """Lossless: zlib over the difference of each row to the one above, modulo 256; nothing
    if all is opaque."""
    if (alpha == 255).all():
        return b""
    above = np.vstack([np.zeros_like(alpha[:1]), alpha[:-1]])
    return zlib.compress((alpha - above).tobytes(), 9)


def unpack_alpha(body: bytes, height: int, width: int) -> Pixels:
    """Raises BitstreamError; never makes more than height * width bytes."""
    if not body:
        return np.full((height, width), 255, np.uint8)
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(body, height * width + 1)
    except zlib.error as error:
        raise BitstreamError("the transparency is damaged") from error
    if len(raw) != height * width or not inflater.eof or inflater.unused_data:
        raise BitstreamError("the transparency is damaged: its size does not match")
    rows = np.frombuffer(raw, np.uint8).reshape(height, width)
    return np.cumsum(rows, axis=0, dtype=np.uint8)
