"""Images in and out: what people hand over, to RGB pixels and back."""

import io
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.bitstream import Mode
from hvqcodec.errors import BitstreamError, HvqError, ImageError

Pixels = NDArray[np.uint8]

ImageSource = Image.Image | Pixels | str | PathLike[str]
"""PIL image, (H, W), (H, W, 3) or (H, W, 4) uint8 array, or path."""


@dataclass(frozen=True)
class Picture:
    """An image as the codec sees it: upright, sRGB, 8 bits."""

    rgb: Pixels
    """(H, W, 3)."""
    mode: Mode
    alpha: Pixels | None = None
    """(H, W); None if opaque throughout."""

    def to_pil(self) -> Image.Image:
        if self.mode == Mode.GREY:
            # The rounded mean, not the luma: the three channels are noisy copies.
            image = Image.fromarray(((self.rgb.sum(2, dtype=np.uint16) + 1) // 3).astype(np.uint8))
        else:
            image = Image.fromarray(self.rgb)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image


def read_picture(source: ImageSource) -> Picture:
    """Raises ImageError for what is no image of one frame."""
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if isinstance(source, np.ndarray):
        return _from_pil(_from_array(source))
    try:
        with Image.open(Path(source)) as image:
            return _from_pil(image)
    except FileNotFoundError:
        raise ImageError(f"{source}: no such file") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{source}: {error}") from None
    except HvqError:
        raise
    # On damaged files Pillow's readers raise errors of every kind.
    except Exception as error:
        raise ImageError(f"{source}: cannot be read as an image ({error})") from None


def _from_array(array: Pixels) -> Image.Image:
    good_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not good_shape or not array.size:
        raise ImageError(
            "an array must be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype} of shape {array.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _from_pil(image: Image.Image) -> Picture:
    # An MPO is a JPEG with a second picture behind the first, not an animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError("an animation cannot be encoded: pass one of its frames")
    if not image.width or not image.height:
        raise ImageError("the image has no pixels")
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ImageError("an image of floating-point numbers has no range: convert it to 8 bits")
    if image.mode.startswith("I"):  # 16 bits, also where Pillow holds them in 32
        grey = np.asarray(image).clip(0, 65535).astype(np.float32) / 257
        image = Image.fromarray(np.round(grey).astype(np.uint8))
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
        plane = np.asarray(image.getchannel("A"))
        alpha = plane if (plane < 255).any() else None
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if profile and image.mode in ("RGB", "CMYK"):
        image = _to_srgb(image, profile)
    mode = Mode.GREY if image.mode in ("1", "L") else Mode.RGB
    return Picture(np.asarray(image.convert("RGB")), mode, alpha)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB; as it is if its profile cannot be read."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted or image


def to_blocks(rgb: Pixels) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H', W') float in [-1, 1], sides raised to multiples of 16
    by repeating the edge."""
    h, w = rgb.shape[:2]
    image = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None]
    image = image.float().mul_(2 / 255).sub_(1)
    return F.pad(image, (0, -w % 16, 0, -h % 16), "replicate")


def from_blocks(image: Tensor, height: int, width: int) -> Pixels:
    """(1, 3, H', W') about [-1, 1] -> (height, width, 3) uint8."""
    rgb = image[0, :, :height, :width].add(1).mul_(127.5).round_().clamp_(0, 255)
    pixels: Pixels = rgb.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def pack_alpha(alpha: Pixels) -> bytes:
    """Lossless: zlib over the difference of each row to the one above, modulo 256."""
    above = np.vstack([np.zeros_like(alpha[:1]), alpha[:-1]])
    return zlib.compress((alpha - above).tobytes(), 9)


def unpack_alpha(body: bytes, height: int, width: int) -> Pixels:
    """Raises BitstreamError; never makes more than height * width bytes."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(body, height * width + 1)
    except zlib.error as error:
        raise BitstreamError("the transparency is damaged") from error
    if len(raw) != height * width or not inflater.eof or inflater.unused_data:
        raise BitstreamError("the transparency is damaged: its size does not match")
    rows = np.frombuffer(raw, np.uint8).reshape(height, width)
    return np.cumsum(rows, axis=0, dtype=np.uint8)
