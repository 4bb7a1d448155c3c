"""How two codecs compare over their whole curves: Bjontegaard's rate difference."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]


def bd_rate(
    rates_a: Sequence[float],
    quality_a: Sequence[float],
    rates_b: Sequence[float],
    quality_b: Sequence[float],
    lower_is_better: bool = False,
) -> float:
    """Bjontegaard's rate difference of b against a, in percent: negative if b needs fewer bits.

    The curves are means over the same photos at fixed settings. Log rate is interpolated
    as a monotone cubic of the quality and averaged over the quality that both reach.
    """
    a, b, low, high = shared_span(rates_a, quality_a, rates_b, quality_b, lower_is_better)
    at = low + (high - low) * (np.arange(1000) + 0.5) / 1000
    difference = pchip(*b, at) - pchip(*a, at)
    return float(100 * np.expm1(difference.mean()))


def compared_rates(
    rates_a: Sequence[float],
    quality_a: Sequence[float],
    rates_b: Sequence[float],
    quality_b: Sequence[float],
    lower_is_better: bool = False,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The lowest and highest rate of a, and of b, that `bd_rate` compares."""
    a, b, low, high = shared_span(rates_a, quality_a, rates_b, quality_b, lower_is_better)
    ends = np.array([low, high])
    (a_low, a_high), (b_low, b_high) = (np.exp(pchip(*curve, ends)).tolist() for curve in (a, b))
    return (a_low, a_high), (b_low, b_high)


def shared_span(
    rates_a: Sequence[float],
    quality_a: Sequence[float],
    rates_b: Sequence[float],
    quality_b: Sequence[float],
    lower_is_better: bool,
) -> tuple[tuple[Curve, Curve], tuple[Curve, Curve], float, float]:
    """Both curves as of `sorted_curve`, and the ends of the quality that both reach."""
    sign = -1 if lower_is_better else 1
    a, b = sorted_curve(rates_a, quality_a, sign), sorted_curve(rates_b, quality_b, sign)
    low, high = max(a[0][0], b[0][0]), min(a[0][-1], b[0][-1])
    if low >= high:
        raise ValueError("the curves share no span of quality")
    return a, b, low, high


def sorted_curve(
    rates: Sequence[float], quality: Sequence[float], sign: int
) -> tuple[Curve, Curve]:
    """(quality, log rate), both rising; equal points, as above a codec's highest rate, are one."""
    points = np.unique(np.stack([np.log(rates), sign * np.asarray(quality)], 1), axis=0)
    log_rate, ordered = points.T
    if len(points) < 2:
        raise ValueError("a curve needs at least two different points")
    if not (np.diff(points, axis=0) > 0).all():
        raise ValueError("the quality does not rise with the rate")
    return ordered, log_rate


def pchip(x: Curve, y: Curve, at: Curve) -> Curve:
    """The monotone cubic through rising x and y, at points between x[0] and x[-1]: Fritsch
    and Carlson's, with the weighted harmonic means of Fritsch and Butland as slopes."""
    if len(x) == 2:
        return np.interp(at, x, y)
    step = np.diff(x)
    secant = np.diff(y) / step
    before, after = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    inner = (before + after) / (before / secant[:-1] + after / secant[1:])
    first = secant[0] + step[0] * (secant[0] - secant[1]) / (step[0] + step[1])
    last = secant[-1] + step[-1] * (secant[-1] - secant[-2]) / (step[-1] + step[-2])
    slope = np.concatenate([[max(first, 0)], inner, [max(last, 0)]])

    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(step) - 1)
    t = (at - x[i]) / step[i]
    left = y[i] * (1 + 2 * t) + step[i] * slope[i] * t
    right = y[i + 1] * (3 - 2 * t) - step[i] * slope[i + 1] * (1 - t)
    value: Curve = left * (1 - t) ** 2 + right * t**2
    return value
