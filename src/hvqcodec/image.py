"""Images in and out: what people hand over, to RGB pixels and back."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hvqcodec.alpha import fill_hidden
from hvqcodec.arrays import Pixels
from hvqcodec.bitstream import MAX_SIDE, Mode
from hvqcodec.colour import to_srgb
from hvqcodec.eight_bits import as_png_means_it, to_eight_bits
from hvqcodec.errors import HvqError, HvqWarning, ImageError, is_out_of_memory, notice
from hvqcodec.limits import MAX_PIXELS, check_limit, is_too_large, too_large
from hvqcodec.metadata import Metadata, as_displayed, upright
from hvqcodec.pixels import to_grey

ImageSource = Image.Image | Pixels | Tensor | str | PathLike[str] | IO[bytes] | bytes
"""PIL image; (H, W) or (H, W, 1 ... 4) uint8 array; (1 ... 4, H, W) tensor of uint8 or of
floats in [0, 1]; path; open binary file; or the bytes of an image file. Channels: grey, grey
and alpha, RGB, RGBA."""

ImageResult = Image.Image | Pixels | Tensor
ResultKind = Literal["pil", "numpy", "torch"]


@dataclass(frozen=True)
class Picture:
    """An image as the codec sees it: 8 bits, pixels as stored."""

    rgb: Pixels
    """(H, W, 3)."""
    mode: Mode
    alpha: Pixels | None = None
    """(H, W); None if the image has no such channel."""
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def pixels(self) -> int:
        return int(self.rgb.shape[0] * self.rgb.shape[1])

    def to_pil(self) -> Image.Image:
        """Mode L, LA, RGB or RGBA; metadata in `info`, as Pillow's own readers put it."""
        if self.mode == Mode.GREY:
            # Not the luma: the three channels are noisy copies.
            image = Image.fromarray(to_grey(self.rgb))
        else:
            image = Image.fromarray(self.rgb)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        self.metadata.attach_to(image)
        return image


def read_picture(
    source: ImageSource,
    strip: bool = False,
    max_pixels: int = MAX_PIXELS,
    tell: Callable[[str], None] = notice,
) -> Picture:
    """strip: drop the metadata, after turning the image upright and into sRGB. tell: of what
    is lost on the way to 8 bits of grey or RGB.

    Raises ImageError for what is no image of one frame, or one of more than max_pixels.
    """
    check_limit("max_pixels", max_pixels)
    if isinstance(source, Tensor):
        return _from_pil(_from_array(_from_tensor(source)), strip, max_pixels, tell)
    if isinstance(source, np.ndarray):
        return _from_pil(_from_array(source), strip, max_pixels, tell)
    if isinstance(source, bytes | bytearray | memoryview):
        source = BytesIO(bytes(source))
    is_path = isinstance(source, str | PathLike)
    if not (is_path or isinstance(source, Image.Image) or hasattr(source, "read")):
        raise TypeError(f"an image, its file or its bytes are wanted, not {source!r:.60}")
    name = source if is_path else getattr(source, "name", None)
    name = name if isinstance(name, str | PathLike) else "the image"
    try:
        if isinstance(source, Image.Image):
            return _from_pil(source, strip, max_pixels, tell)
        with Image.open(Path(source) if is_path else source) as image:  # type: ignore[arg-type]
            return _from_pil(image, strip, max_pixels, tell)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: {error}: raise Pillow's own limit, PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except HvqError as error:
        raise type(error)(f"{name}: {error}") from None
    except HvqWarning:  # where the caller has made errors of warnings
        raise
    # On damaged files Pillow's readers raise errors of every kind.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # A damaged .hvq file has a cause, which the plugin for Pillow gives.
        unknown = isinstance(error, UnidentifiedImageError) and not error.__cause__
        reason = "its format is unknown" if unknown else error
        raise ImageError(f"{name}: cannot be read as an image ({reason})") from None


def _from_tensor(image: Tensor) -> Pixels:
    if image.layout != torch.strided or image.device.type == "meta":
        raise ImageError("a tensor must be dense, and hold numbers")
    if image.ndim != 3 or image.shape[0] not in (1, 2, 3, 4):
        raise ImageError(
            "a tensor must be one image of shape (C, H, W) with 1 to 4 channels, "
            f"not {tuple(image.shape)}"
        )
    image = image.detach().cpu()
    if image.is_floating_point():
        image = image.double()  # some devices have none
        # NaN fails the comparison too.
        if image.numel() and not (image.min() >= 0 and image.max() <= 1):
            raise ImageError("a tensor of floats must lie in [0, 1]: scale or clamp it")
        image = image.mul(255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ImageError(f"a tensor must be uint8 or floats in [0, 1], not {image.dtype}")
    pixels: Pixels = image.permute(1, 2, 0).numpy()
    return pixels


def _from_array(array: Pixels) -> Image.Image:
    good_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 2, 3, 4))
    if array.dtype != np.uint8 or not good_shape or not array.size:
        raise ImageError(
            "an array must be uint8 of shape (H, W) or (H, W, 1 to 4), "
            f"not {array.dtype} of shape {array.shape}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if not image.width or not image.height:
        raise ImageError("the image has no pixels")
    if is_too_large(image.width, image.height, max_pixels):
        raise ImageError(
            f"the image has {too_large(image.width, image.height, max_pixels)}: "
            "scale it down or raise the limit"
        )
    if max(image.size) > MAX_SIDE:
        raise ImageError(
            f"the image has {image.width} x {image.height} pixels: no side may have more than "
            f"{MAX_SIDE}"
        )


def _from_pil(
    image: Image.Image, strip: bool, max_pixels: int, tell: Callable[[str], None]
) -> Picture:
    # An MPO is a JPEG with a second picture behind the first, not an animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError(
            f"it holds {image.n_frames} pictures, as an animation or pages: encode a copy of one"  # type: ignore[attr-defined]
        )
    _check_size(image, max_pixels)
    if image.mode == "F":
        raise ImageError("an image of floating-point numbers has no range: convert it to 8 bits")
    # Pillow halves the bits of colour images as it reads them.
    tiles = str(getattr(image, "tile", []))
    deep = image.mode.startswith("I") or ";16" in tiles or ", 65535)" in tiles  # PNG, PPM
    image.load()
    metadata = Metadata.of(image)
    if image.format == "PNG":
        image = as_png_means_it(image, tiles)
    if strip:
        image = upright(image)
    if deep:
        tell("an image of 16 bits per channel: encoded with 8")
    if image.mode == "1":
        tell("an image of 1 bit per pixel: encoded as 8-bit grey")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        tell(f"an image in {image.mode}: encoded as RGB")
    if image.mode in ("CMYK", "LAB"):  # whose profiles fit no RGB
        image = to_srgb(image, metadata.icc).convert("RGB")
        metadata = replace(metadata, icc=b"")
    image = to_eight_bits(image)
    if strip:
        image, metadata = to_srgb(image, metadata.icc), Metadata()
    alpha = None
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert(image.mode[:-1])
    mode = Mode.GREY if image.mode == "L" else Mode.RGB
    rgb = np.asarray(image.convert("RGB"))
    if alpha is not None:
        rgb = fill_hidden(rgb, alpha)
    return Picture(rgb, mode, alpha, metadata)


def to_result(image: Image.Image, kind: ResultKind) -> ImageResult:
    """A decoded image as asked for; arrays and tensors are uint8, upright and in sRGB, since
    they cannot carry orientation or profile: (H, W) if grey, else (H, W, C); (C, H, W)."""
    if kind == "pil":
        return image
    pixels = np.array(as_displayed(image))
    if kind == "numpy":
        return pixels
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))
