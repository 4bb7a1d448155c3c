"""The codec in four verbs: two for bytes, two for files. Torch is imported when they run."""

import os
import threading
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack, overload

from hvqcodec.bitstream import Bitstream
from hvqcodec.errors import in_file
from hvqcodec.files import check_output, named, read_file, write_atomically
from hvqcodec.models.cards import DEFAULT, list_models, model_for
from hvqcodec.saving import format_of, to_file_bytes

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from hvqcodec.arrays import Pixels
    from hvqcodec.choices import Choices, DecodingChoices
    from hvqcodec.codec import Codec
    from hvqcodec.image import ImageResult, ImageSource, ResultKind

Key = tuple[str, str, tuple[int, int] | None]
"""A model's name or real path, its device, and which version of the file."""

KEPT = 2
"""Models that stay loaded."""
_loaded: dict[Key, "Codec"] = {}
_loading: dict[Key, threading.Lock] = {}
if hasattr(os, "register_at_fork"):  # a thread that loads is not there in a child
    os.register_at_fork(after_in_child=_loading.clear)


def compress(
    img: "ImageSource",
    *,
    model: str | PathLike[str] = DEFAULT,
    device: str = "cpu",
    **choices: Unpack["Choices"],
) -> bytes:
    """An image to the bytes of an `.hvq` file: `Codec.compress`, with the model loaded once.

    img: PIL image; path, open file or bytes of an image file; uint8 array, (H, W) or
        (H, W, 1 ... 4); tensor of uint8 or of floats in [0, 1], (1 ... 4, H, W).
    model: name, path of a `.safetensors` file, or `hub:organisation/name[@revision]`.
    choices: at most one of `quality` (0 ... 100; 50 if nothing is said), `bpp` (bits per
        pixel), `max_bytes` and `ratios`; `strict_rate`, `strip`, `importance`, `effort`,
        `tile`, `max_pixels`, `progress`. `Codec.compress` explains them.
    Raises ImageError, RateError and ModelError.

    >>> data = hvqcodec.compress(photo, bpp=0.15)
    >>> data[:4]
    b'\\x8bHVQ'
    """
    return _codec(fspath(model), device).compress(img, **choices)


@overload
def decompress(
    data: bytes,
    *,
    output: Literal["pil"] = ...,
    model: str | PathLike[str] | None = ...,
    device: str = ...,
    **choices: Unpack["DecodingChoices"],
) -> "Image": ...
@overload
def decompress(
    data: bytes,
    *,
    output: Literal["numpy"],
    model: str | PathLike[str] | None = ...,
    device: str = ...,
    **choices: Unpack["DecodingChoices"],
) -> "Pixels": ...
@overload
def decompress(
    data: bytes,
    *,
    output: Literal["torch"],
    model: str | PathLike[str] | None = ...,
    device: str = ...,
    **choices: Unpack["DecodingChoices"],
) -> "Tensor": ...
def decompress(
    data: bytes,
    *,
    output: "ResultKind" = "pil",
    model: str | PathLike[str] | None = None,
    device: str = "cpu",
    **choices: Unpack["DecodingChoices"],
) -> "ImageResult":
    """The image of an `.hvq` file: `Codec.decompress` with the model that made the file.

    output: "pil", or "numpy" or "torch" for an upright uint8 array (H, W[, C]) or tensor
        (C, H, W) in sRGB.
    model: the one to decode with, instead of those inside the package; nothing is ever fetched
        on a file's behalf.
    choices: `tile`, `max_pixels`, `max_metadata_bytes`, `progress`. `Codec.decompress`
        explains them.
    Raises BitstreamError, UnknownFingerprintError and ModelError.

    >>> data = hvqcodec.compress(photo)
    >>> hvqcodec.decompress(data, output="numpy").shape
    (320, 320, 3)
    """
    model = model or model_for(Bitstream.from_bytes(data).fingerprint)
    codec = _codec(fspath(model), device)
    return codec.decompress(data, output, **choices)


def compress_file(
    source: str | PathLike[str],
    destination: str | PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    model: str | PathLike[str] = DEFAULT,
    device: str = "cpu",
    **choices: Unpack["Choices"],
) -> Path:
    """`compress` from one file to another, which appears whole or not at all.

    destination: the source with the suffix .hvq if nothing is said.
    Returns the destination. Raises FileError too, before any work, if it exists already
    and `overwrite` is not given.

    >>> hvqcodec.compress_file("photo.png", bpp=0.2).name
    'photo.hvq'
    """
    source = named(source)
    destination = named(destination) if destination else source.with_suffix(".hvq")
    check_output(destination, source, overwrite)
    data = compress(source, model=model, device=device, **choices)
    write_atomically(destination, data, overwrite)
    return destination


def decompress_file(
    source: str | PathLike[str],
    destination: str | PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    model: str | PathLike[str] | None = None,
    device: str = "cpu",
    **choices: Unpack["DecodingChoices"],
) -> Path:
    """`decompress` from one file to another, which appears whole or not at all.

    destination: the source with the suffix .png if nothing is said; its suffix decides the
        format: PNG, JPEG, WebP, TIFF or PPM. Metadata goes along as far as the format holds
        it.
    Returns the destination. Raises FileError too, before any work, if it exists already
    and `overwrite` is not given.

    >>> name = hvqcodec.compress_file("photo.png", "small.hvq", quality=40)
    >>> hvqcodec.decompress_file(name, "small.jpg").name
    'small.jpg'
    """
    if "output" in choices:
        raise TypeError("output: the suffix of the destination decides what is written")
    source = named(source)
    destination = named(destination) if destination else source.with_suffix(".png")
    format_of(destination.suffix)
    check_output(destination, source, overwrite)
    data = read_file(source)
    with in_file(source):
        image = decompress(data, model=model, device=device, **choices)
    write_atomically(destination, to_file_bytes(image, destination.suffix), overwrite)
    return destination


def _codec(model: str, device: str) -> "Codec":
    key = _key(model, device)
    if found := _loaded.get(key):
        return found
    with _loading.setdefault(key, threading.Lock()):  # once, also for threads that come together
        if found := _loaded.get(key):
            return found
        from hvqcodec.codec import Codec

        codec = Codec.load(model, device=device)
        while len(_loaded) >= KEPT:
            _loaded.pop(next(iter(_loaded)), None)
        _loaded[key] = codec
        return codec


def _key(model: str, device: str) -> Key:
    """A path means what lies there now."""
    if model in list_models():
        return model, device, None
    try:
        path = os.path.realpath(model)
        found = os.stat(path)
        return path, device, (found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        return model, device, None
