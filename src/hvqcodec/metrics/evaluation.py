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


class Evaluator:
    """Measures images, whatever their sizes, with networks that are loaded once.

    perceptual: folder with the networks of LPIPS and DLP (`hvqcodec.metrics.perceptual`).
    Raises ModelError for networks that cannot be used.
    """

    def __init__(self, perceptual: str | PathLike[str] | None = None) -> None:
        self.metrics = Metrics(Path(perceptual) if perceptual else None)
        self.left_out = self.metrics.add_optional()
        """A line for each metric that cannot be measured here."""

    def __call__(self, a: Pixels, b: Pixels) -> Evaluation:
        """Of two images of one size, (H, W, 3)."""
        small = self.too_small(a)
        found = self.metrics(a, b, without=small)
        # The infinity of equal images has no place in JSON.
        figures = {name: min(value, MAX_PSNR) for name, value in found.items()}
        return Evaluation(figures, [*self.left_out, *small.values()])

    def too_small(self, pixels: Pixels) -> dict[str, str]:
        """A line for each metric that needs a larger image, by its name."""
        return {
            name: f"{TITLES[name]} is left out: it needs sides of {side} pixels"
            for name, side in NEEDS.items()
            if min(pixels.shape[:2]) < side and name in self.metrics.distances
        }


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
    pair = displayed_pair(original, decoded, model)
    return Evaluator(perceptual)(*pair)


def displayed_pair(
    original: ImageSource, decoded: ImageSource, model: str | PathLike[str] | None = None
) -> tuple[Pixels, Pixels]:
    """Both images, (H, W, 3), as `evaluate` takes and measures them.

    Raises ImageError if their sizes differ.
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
    return a, b


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


def displayed(source: ImageSource) -> Pixels:
    """(H, W, 3), upright, in sRGB, over white."""
    image = read_picture(source, strip=True).to_pil()
    if image.mode in ("LA", "RGBA"):
        image = over_white(image)
    return np.asarray(image.convert("RGB"))
