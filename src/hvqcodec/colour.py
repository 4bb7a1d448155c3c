"""Colour profiles: into sRGB, and which are sRGB already."""

import io
import struct
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

USUAL = 1 << 16
"""Bytes of a profile; larger ones are not remembered."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An image of any mode with its colours in sRGB; as it is if the profile does not fit.
    All but the profile remains in its `info`."""
    if not profile:
        return image
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    opaque = image.convert(image.mode[:-1]) if alpha else image
    grey = opaque.mode == "L"
    # Greys go through a table of all of them: whole images lose up to ten steps in the shadows.
    colours = Image.fromarray(np.arange(256, dtype=np.uint8)[None]) if grey else opaque
    flags = ImageCms.Flags.NOOPTIMIZE if grey else ImageCms.Flags.NONE
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(
            colours, source, target, outputMode="RGB", flags=flags
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    assert converted is not None
    if grey:
        converted = opaque.point(list(converted.getchannel("G").tobytes()))
    if alpha:
        converted.putalpha(alpha)
    converted.info = {key: value for key, value in image.info.items() if key != "icc_profile"}
    return converted


def is_srgb(profile: bytes) -> bool:
    """Whether a profile gives colours within one step of 255 of sRGB's."""
    return _is_srgb(profile) if len(profile) <= USUAL else _is_srgb.__wrapped__(profile)


@lru_cache(maxsize=16)
def _is_srgb(profile: bytes) -> bool:
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
    image = Image.fromarray(colours)
    converted = to_srgb(image, profile)
    if converted is image:  # the profile does not fit
        return False
    return bool(np.abs(np.asarray(converted, np.int16) - colours).max() <= 1)


@cache
def srgb_profile() -> bytes:
    """The same bytes every time: its date of creation is set to that of the standard."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 1999, 10, 18, 0, 0, 0) + profile[36:]
