"""What the synthesis misses at low frequencies: the encoder measures it, the decoder adds it.

Codes of unit length are vague about the mean of an area, and a perceptual loss cares more for
texture than for shading. What mends both is cheap: means of the error over 8x8 pixels, as wavelet
coefficients. `entropy.residual_coding` sends them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hvqcodec.arrays import Floats, Pixels
from hvqcodec.entropy.residual_coding import (
    BAND_FREQUENCIES,
    LEVELS,
    LOW_MAX,
    LOW_WEIGHT,
    STEP_ONE,
    STEPS,
    VALUE_MAX,
    WEIGHT_ONE,
    Known,
    Residual,
    ResidualPlane,
    step_of,
    units,
)
from hvqcodec.wavelet import forward

TO_PLANES = np.array([[0.25, 0.5, 0.25], [0.5, 0.0, -0.5], [-0.25, 0.5, -0.25]])
"""RGB to Y, Co, Cg."""
ENERGY = (3, 2, 3)
"""Of an error in Y, Co or Cg, what it is in RGB."""
CELL, FINE_CELL = 3, 2
"""Logarithms of a cell's side. The finer one pays in PSNR, but not in LPIPS or DLP, so it is for
files that have no other use for their bytes."""
BAND_NORM = 1.04
"""Of what an error of 1 in a finest band along one side comes back as, over all cells."""
ERROR_WEIGHT = 84.0
"""Of a squared error, RGB in [0, 1], in the distortion that the lambda is for: twice that of the
loss in training, since LPIPS and DLP fall with it."""
STEP_TO_LAMBDA = 6.0
"""What the square of the best step is of lambda over the weight of the error."""
LOW_ROUNDING = 0.4
"""Added to a magnitude at the coarsest before it is cut to an integer."""
OVERHEAD = 17
"""Bytes of a residual beside its values, about."""
STRIDE = 2**0.125
"""Of lambda, in the search for a size."""
STRIDES = 16
"""How many of them away a lambda may lie from that of the codes, where this spares to look for
others: in files of equal size it costs less than half a percent (training/LOG.md)."""
COARSER_STRIDES, FINER_STRIDES = 160, {CELL: 4, FINE_CELL: 16}
"""How many are worth a try, if a file needs or has the room; below, cells of that size have no more
to give."""
GROWTH = 1.07
"""Of a size, from one stride to the next finer one, about."""
TRIES = 12
"""At a size."""


def bits_of(frequencies: Floats) -> Floats:
    """Of residual_coding.band_frequencies: of a magnitude, with its sign, (tables, magnitudes)."""
    bits: Floats = -np.log2(frequencies[:, VALUE_MAX:] / frequencies.sum(1, keepdims=True))
    return bits


BITS = bits_of(BAND_FREQUENCIES)


def mean_errors(original: Pixels, decoded: Pixels, cell: int) -> Floats:
    """(3, rows, columns), of Y, Co and Cg; a row of cells at a time."""
    size = 1 << cell
    columns = original.shape[1] // size
    rows = []
    for top in range(0, len(original), size):
        band = slice(top, top + size)
        error = original[band].astype(np.float32) - decoded[band]
        rows.append(error.reshape(size, columns, size, 3).mean((0, 2)))
    errors: Floats = np.einsum("pc,yxc->pyx", TO_PLANES, np.stack(rows))
    return errors


def step_for(lambda_: float, energy: int, cell: int) -> int:
    """The code of the step that is best at a lambda."""
    error = STEP_TO_LAMBDA * lambda_ * 3 * 255**2 / (ERROR_WEIGHT * energy)
    step = STEP_ONE * math.sqrt(error) / ((1 << cell) * BAND_NORM)
    octave = math.floor(math.log2(step / 8)) if step >= 8 else 0
    code = 8 * octave + round(step / (1 << octave)) - 8
    return min(max(code, STEPS.start), STEPS.stop - 1)


def cheapest(
    ratios: Floats, classes: NDArray[np.intp], price: float
) -> tuple[NDArray[np.int32], Floats]:
    """Of magnitudes in units of the step, the integers of least squared error + price x bits, and
    their bits; classes: of residual_coding.Known; all of one shape."""
    below = np.floor(ratios).clip(0, VALUE_MAX).astype(np.int32)
    choices = np.stack([np.zeros_like(below), below, (below + 1).clip(max=VALUE_MAX)])
    bits = BITS[classes, choices]
    best = (np.square(ratios - choices) + price * bits).argmin(0)[None]
    values, spent = (np.take_along_axis(of, best, 0)[0] for of in (choices, bits))
    return values, spent


def strides_between(small: int, large: int) -> float:
    """At least so many strides lie between two sizes, or one."""
    return max(1.0, math.log(max(large, 1) / max(small, 1)) / math.log(GROWTH))


class ResidualFitter:
    """Finds the residual of an image at a price."""

    def __init__(
        self, original: Pixels, decoded: Pixels, synthesis: bytes, cell: int = CELL
    ) -> None:
        """original, decoded: (H, W, 3), sides multiples of 16. synthesis, cell: see `Residual`."""
        self.synthesis, self.cell = synthesis, cell
        self.low, self.bands = forward(mean_errors(original, decoded, cell), LEVELS)
        self.reaching = [self._step_that_reaches(number) for number in range(len(ENERGY))]

    def __call__(self, lambda_: float) -> Residual | None:
        """About the one of least distortion + lambda x bits, if it is worth its bytes."""
        planes, saved = self.planes(lambda_)
        if saved <= lambda_ * 8 * OVERHEAD:
            return None
        return Residual(self.synthesis, self.cell, planes)

    def planes(self, lambda_: float) -> tuple[tuple[ResidualPlane | None, ...], float]:
        """Those of the residual, and what they take away of distortion + lambda x bits."""
        planes: list[ResidualPlane | None] = []
        saved, known = 0.0, Known()
        for number, energy in enumerate(ENERGY):
            code = step_for(lambda_, energy, self.cell)
            plane, gain = self._plane(number, code, lambda_, known)
            # Where a whole picture is far off, a finer step does not reach so far.
            if code < (coarse := self.reaching[number]):
                other, more = self._plane(number, coarse, lambda_, known)
                plane, gain = (other, more) if more > gain else (plane, gain)
            if not plane.is_empty:
                known.add_plane(number, plane.bands)
                saved += gain
            planes.append(None if plane.is_empty else plane)
        return tuple(planes), saved

    def _step_that_reaches(self, number: int) -> int:
        """The code of the finest step at which no value of the bands is out of range."""
        largest = max(
            float(np.abs(detail[number]).max(initial=0.0)) * WEIGHT_ONE / units(band, level)
            for level, three in enumerate(self.bands)
            for band, detail in enumerate(three)
        )
        reach = (VALUE_MAX + 0.5) / STEP_ONE
        return next((code for code in STEPS if step_of(code) * reach >= largest), STEPS.stop - 1)

    def _plane(
        self, number: int, code: int, lambda_: float, before: Known
    ) -> tuple[ResidualPlane, float]:
        """A plane at a step, and what it takes away of distortion + lambda x bits; before: the
        planes that come first."""
        step, known = step_of(code) / STEP_ONE, before.copy()
        unit = (1 << self.cell) * BAND_NORM * step
        worth = ENERGY[number] * unit**2 * ERROR_WEIGHT / (3 * 255**2)
        low, gain = self._low(number, step)
        bands: list[tuple[NDArray[np.int32], ...]] = []
        for level in range(LEVELS)[::-1]:
            three = []
            for band in range(3):
                values, less = self._band(number, level, band, step, lambda_ / worth, known)
                known.add(number, level, band, values)
                three.append(values)
                gain += less
            bands.append(tuple(three))
        return ResidualPlane(code, low, bands[::-1]), worth * gain

    def _low(self, number: int, step: float) -> tuple[NDArray[np.int32], float]:
        """The values at the coarsest, and the squared error that they take away."""
        ratios = self.low[number] * WEIGHT_ONE / (step * LOW_WEIGHT)
        magnitudes = np.floor(np.abs(ratios) + LOW_ROUNDING).clip(max=LOW_MAX)
        values = np.sign(ratios) * magnitudes
        return values.astype(np.int32), float((ratios**2 - (ratios - values) ** 2).sum())

    def _band(
        self, number: int, level: int, band: int, step: float, price: float, known: Known
    ) -> tuple[NDArray[np.int32], float]:
        """The values of a band, and what they take away of squared error + price x bits."""
        detail = self.bands[level][band][number]
        ratios = detail * WEIGHT_ONE / (step * units(band, level))
        classes, magnitudes = known.classes(number, level, band, detail.shape), np.abs(ratios)
        values, spent = cheapest(magnitudes, classes, price)
        gain = (magnitudes**2 - (magnitudes - values) ** 2 - price * spent).sum()
        return (np.sign(ratios) * values).astype(np.int32), float(gain)

    def within(self, lambda_: float, least: int, most: int, *, fill: bool, keep: bool) -> bytes:
        """The body of the section, none if it is empty: of that many bytes, if it has them at
        about that lambda; where there is room for none near it, that of the lambda itself, for
        other codes to leave it room. fill: at whatever lambda it takes to have the least. keep:
        likewise, not to have more than the most."""
        lowest = -FINER_STRIDES[self.cell] if fill else -STRIDES
        highest = COARSER_STRIDES if keep else STRIDES
        stride, found = 0.0, b""
        tried: list[bytes] = []
        too_large: float | None = None
        small_enough: float | None = None
        while len(tried) < TRIES:
            body = self.body(lambda_ * STRIDE**stride)
            tried.append(body)
            if len(body) > most:
                too_large, away = stride, strides_between(most, len(body))
            else:
                small_enough, found = stride, body
                away = -strides_between(len(body), least)
                if len(body) >= least:
                    break
            if fill:  # so many tries on one side: the steps were too small, then
                away *= len(tried)
            if too_large is not None and small_enough is not None:
                stride = (too_large + small_enough) / 2
            elif lowest < stride + away < highest:
                stride += away
            elif stride in (lowest, highest):
                break
            else:
                stride = lowest if away < 0 else highest
        return found if found or keep else tried[0]

    def body(self, lambda_: float) -> bytes:
        residual = self(lambda_)
        return residual.to_bytes() if residual else b""
