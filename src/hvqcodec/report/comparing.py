"""One photo through all codecs: files of equal bytes, their pixels and figures."""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvqcodec.arrays import Pixels
from hvqcodec.codec import Codec
from hvqcodec.errors import HvqWarning, RateError, notice
from hvqcodec.image import ImageSource
from hvqcodec.metrics.evaluation import Evaluator, displayed
from hvqcodec.rate import check_choices
from hvqcodec.report.rivals import able, best_within

HVQ = "hvq"


@dataclass(frozen=True)
class Coded:
    """What one codec made of the photo."""

    codec: str
    data: bytes
    """The file."""
    pixels: Pixels
    """(H, W, 3), decoded."""
    figures: dict[str, float]
    """By metric."""

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        height, width = self.pixels.shape[:2]
        return float(8 * len(self.data) / (height * width))


@dataclass(frozen=True)
class AtRate:
    """All codecs at the bytes that hvq takes for one rate."""

    rate: float
    """In bits per pixel, as asked for."""
    coded: list[Coded]
    """hvq first."""
    levels: NDArray[np.uint8]
    """(H', W'), the level of each 8x8 pixels in the .hvq file; and the bits of its indices."""
    bits: NDArray[np.float64]
    budget: dict[str, float]
    """Bytes by part of the .hvq file."""
    notice: str = ""
    """Why hvq has not the rate that was asked for, if so."""


@dataclass(frozen=True)
class Comparison:
    name: str
    original: Pixels
    """(H, W, 3), as displayed."""
    rates: list[AtRate]
    left_out: list[str]
    """A line for each metric that could not be measured, and for each codec likewise."""


def compare(
    photo: ImageSource,
    rates: Sequence[float],
    codec: Codec,
    *,
    name: str = "photo",
    perceptual: str | PathLike[str] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Comparison:
    """Every codec gets the pixels as they are displayed, and no metadata.

    rates: in bits per pixel. perceptual: folder with the networks of LPIPS and DLP.
    A rate below what the photo takes at least is left out. Raises ImageError, and RateError if
    none is left.
    """
    if not rates:
        raise RateError("give at least one rate")
    for rate in rates:
        check_choices(None, rate, None, None)
    original = displayed(photo)
    evaluator = Evaluator(perceptual)
    rivals, unable = able(max(original.shape[:2]))
    names = HVQ, *rivals
    left_out = [*evaluator.left_out, *evaluator.too_small(original).values(), *unable]
    done = 0
    at_rates = []
    for rate in rates:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", HvqWarning)
                data = codec.compress(original, bpp=rate)
        except RateError as error:
            if rate == max(rates):
                raise
            left_out = [*left_out, f"{rate:g} bpp is left out: {error}"]
            notice(left_out[-1])
            done += len(names)
            continue
        coded = []
        for name_of_codec in names:
            if name_of_codec == HVQ:
                file, pixels = data, codec.decompress(data, "numpy")
            else:
                file = best_within(name_of_codec, Image.fromarray(original), len(data))
                pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
            figures = evaluator(original, pixels).figures
            coded.append(Coded(name_of_codec, file, pixels, figures))
            done += 1
            progress(done / (len(rates) * len(names)))
        said = " ".join(str(w.message) for w in caught if issubclass(w.category, HvqWarning))
        levels, bits = codec.maps(data)
        at_rates.append(AtRate(rate, coded, levels, bits, bytes_by_part(codec, data), said))
    return Comparison(name, original, at_rates, left_out)


def bytes_by_part(codec: Codec, data: bytes) -> dict[str, float]:
    """Container, granularity map, z, residual and indices; what is left to whole words included.
    data: without transparency and metadata."""
    budget = codec.inspect(data)
    parts = {
        "container": budget["container_bytes"],
        "granularity map": budget["map_bits"] / 8,
        "z": budget["z_bits"] / 8,
        "residual": budget.get("residual_bytes", 0.0) + budget.get("tone_bytes", 0.0),
    }
    return parts | {"indices": len(data) - sum(parts.values())}
