"""NORMATIVE: the 5/3 wavelet of Le Gall and Tabatabai (1988) by lifting, on the last two axes.

All its factors are powers of two, so that float64 holds every value exactly as long as the
bands hold dyadic fractions: the order of operations changes nothing.
"""

import numpy as np

from hvqcodec.arrays import Floats

Shape = tuple[int, int]
Bands = tuple[Floats, Floats, Floats]
"""Of one level: detail along the rows, along the columns, along both."""


def split(values: Floats) -> tuple[Floats, Floats]:
    """(..., n) -> low (..., n - n // 2), a constant where the values are one, and high
    (..., n // 2)."""
    low, high = values[..., ::2], values[..., 1::2]
    high = high - (low[..., : high.shape[-1]] + after(low, high.shape[-1])) / 2
    return low + around(high, low.shape[-1]) / 4, high


def join(low: Floats, high: Floats) -> Floats:
    """The inverse of `split`."""
    even = low - around(high, low.shape[-1]) / 4
    values = np.empty((*low.shape[:-1], low.shape[-1] + high.shape[-1]))
    values[..., ::2] = even
    values[..., 1::2] = high + (even[..., : high.shape[-1]] + after(even, high.shape[-1])) / 2
    return values


def after(low: Floats, count: int) -> Floats:
    """The value behind each of so many; the last once more where there is none."""
    return low[..., np.arange(1, count + 1).clip(max=low.shape[-1] - 1)]


def around(high: Floats, count: int) -> Floats:
    """The sum of the two beside each of so many; the outer ones twice where there is one."""
    if not high.shape[-1]:
        return np.zeros((*high.shape[:-1], count))
    at, last = np.arange(count), high.shape[-1] - 1
    both: Floats = high[..., (at - 1).clip(0)] + high[..., at.clip(max=last)]
    return both


def swap(values: Floats) -> Floats:
    return values.swapaxes(-1, -2)


def forward(values: Floats, levels: int) -> tuple[Floats, list[Bands]]:
    """(..., h, w) -> what is left at 1 / 2^levels of the sides, rounded up, and the bands, the
    finest first."""
    bands: list[Bands] = []
    for _ in range(levels):
        low, high = split(values)
        (values, down), (right, both) = (map(swap, split(swap(half))) for half in (low, high))
        bands.append((right, down, both))
    return values, bands


def inverse(values: Floats, bands: list[Bands]) -> Floats:
    for right, down, both in bands[::-1]:
        low, high = (swap(join(swap(a), swap(b))) for a, b in ((values, down), (right, both)))
        values = join(low, high)
    return values


def sizes(shape: Shape, levels: int) -> tuple[Shape, list[tuple[Shape, Shape, Shape]]]:
    """Of what is left of values (h, w), and of the three bands of each level, the finest first."""
    bands = []
    for _ in range(levels):
        height, width = shape
        low, high = (height - height // 2, width - width // 2), (height // 2, width // 2)
        bands.append(((low[0], high[1]), (high[0], low[1]), high))
        shape = low
    return shape, bands
