"""How far a decoded image is from its original, for people: whatever files they have."""

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

import hvqcodec.pillow  # noqa: F401  so that .hvq files are images like others
from hvqcodec.arrays import Pixels
from hvqcodec.bitstream import SIGNATURE
from hvqcodec.errors import HvqWarning, ImageError, in_file
from hvqcodec.facade import decompress
from hvqcodec.files import read_file
from hvqcodec.image import ImageSource, read_picture
from hvqcodec.metrics.measuring import TITLES, Metrics
from hvqcodec.metrics.similarity import MIN_SIDE
from hvqcodec.saving import over_white

MAX_PSNR = 100.0
"""Said of equal images, whose PSNR is infinite."""

NEEDS = {"ms_ssim": MIN_SIDE, "ssimulacra2": 176, "lpips": 31}
"""Sides in pixels, at least; AlexNet pools what it sees of fewer to nothing."""


@dataclass(frozen=True)
class Evaluation:
    """Figures by metric, and a line for each metric that is left out."""

    figures: dict[str, float]
    left_out: list[str]

    def lines(self) -> list[str]:
        """For people."""
        return [
            *(f"{TITLES[name]:<12} {value:.4f}" for name, value in self.figures.items()),
            *self.left_out,
        ]


def evaluate(
    original: ImageSource,
    decoded: ImageSource,
    perceptual: str | PathLike[str] | None = None,
    *,
    model: str | PathLike[str] | None = None,
) -> Evaluation:
    """Measure two images of one size as they are displayed: upright, in sRGB, over white.

    original, decoded: as `hvqcodec.compress` takes them; .hvq files too.
    perceptual: folder with the networks of LPIPS and DLP (`hvqcodec.metrics.perceptual`).
    model: for .hvq files, instead of those inside the package.
    Raises ImageError, and ModelError for networks that cannot be used.
    """
    with warnings.catch_warnings():
        # They speak of what encoding would do.
        warnings.simplefilter("ignore", HvqWarning)
        a, b = (displayed(decoded_by(model, source)) for source in (original, decoded))
    if a.shape != b.shape:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]}" for pixels in (a, b)]
        named = [
            f"{size} ({source})" if isinstance(source, str | PathLike) else size
            for size, source in zip(sizes, (original, decoded), strict=True)
        ]
        raise ImageError(f"the images differ in size: {named[0]} and {named[1]}")
    metrics, left_out = metrics_for(a, perceptual)
    return Evaluation(finite_figures(metrics, a, b), left_out)


def decoded_by(model: str | PathLike[str] | None, source: ImageSource) -> ImageSource:
    """The image of an .hvq file, given as a path, bytes or an open file, where a model is given to
    decode it; else the source itself."""
    if model is None:
        return source
    if isinstance(source, str | PathLike):
        data = read_file(Path(source))
        with in_file(source):
            return decompress(data, model=model) if data.startswith(SIGNATURE) else source
    if not isinstance(source, bytes) and hasattr(source, "read"):
        source = source.read()
    if isinstance(source, bytes) and source.startswith(SIGNATURE):
        return decompress(source, model=model)
    return source


def finite_figures(metrics: Metrics, a: Pixels, b: Pixels) -> dict[str, float]:
    """By metric; the infinity of equal images has no place in JSON."""
    return {name: min(value, MAX_PSNR) for name, value in metrics(a, b).items()}


def metrics_for(
    pixels: Pixels, perceptual: str | PathLike[str] | None
) -> tuple[Metrics, list[str]]:
    """What can be measured of such an image, and a line for each metric that cannot."""
    metrics = Metrics(Path(perceptual) if perceptual else None)
    left_out = metrics.add_optional()
    for name, side in NEEDS.items():
        if min(pixels.shape[:2]) < side and metrics.distances.pop(name, None):
            left_out.append(f"{TITLES[name]} is left out: it needs sides of {side} pixels")
    return metrics, left_out


def displayed(source: ImageSource) -> Pixels:
    """(H, W, 3), upright, in sRGB, over white."""
    image = read_picture(source, strip=True).to_pil()
    if image.mode in ("LA", "RGBA"):
        image = over_white(image)
    return np.asarray(image.convert("RGB"))
