"""How far a decoded photo is from the original, and how two codecs compare over a curve."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.perceptual import load_perceptual

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""

Curve = NDArray[np.float64]
Distance = Callable[[Tensor, Tensor], Tensor]

LOWER_IS_BETTER = frozenset({"lpips", "dlp"})

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales of MS-SSIM, finest first (Wang et al. 2003)."""

WINDOW, SIGMA = 11, 1.5
MIN_SIDE = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
"""Below this the window does not fit into the coarsest scale."""


class Metrics:
    """All metrics of a pair of photos.

    perceptual: folder with the networks of LPIPS and DLP; a metric whose network is not
        there is left out.
    """

    def __init__(self, perceptual: Path | None = None) -> None:
        lpips, dlp = load_perceptual(perceptual)
        self.distances: dict[str, Distance] = {"psnr": psnr, "ms_ssim": ms_ssim}
        if lpips is not None:
            self.distances["lpips"] = lpips
        if dlp is not None:
            self.distances["dlp"] = dlp

    @torch.no_grad()
    def __call__(self, reference: Pixels, decoded: Pixels) -> dict[str, float]:
        a, b = to_tensor(reference), to_tensor(decoded)
        return {name: distance(a, b).item() for name, distance in self.distances.items()}


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) of 0 to 255 -> (1, 3, H, W) of [0, 1]."""
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """In dB, (B,), over all three channels of RGB in [0, 1], (B, 3, H, W)."""
    return -10 * (a - b).square().mean((1, 2, 3)).log10()


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity, (B,), the mean over the channels of RGB in [0, 1],
    (B, 3, H, W). Equal to the package pytorch-msssim with data_range 1."""
    if min(a.shape[2:]) < MIN_SIDE:
        raise ValueError(
            f"MS-SSIM needs sides of at least {MIN_SIDE} pixels, not {min(a.shape[2:])}"
        )
    similarity = torch.ones(a.shape[:2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            a, b = halve(a), halve(b)
        luminance, contrast_structure = ssim_maps(a, b)
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        term = luminance * contrast_structure if coarsest else contrast_structure
        similarity = similarity * F.relu(term.mean((2, 3))) ** weight
    return similarity.mean(1)


def ssim_maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The luminance term and the product of the two others, where the whole window fits."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b, aa, bb, ab = blur(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
    squares, product = mean_a.square() + mean_b.square(), mean_a * mean_b
    luminance = (2 * product + c1) / (squares + c1)
    return luminance, (2 * (ab - product) + c2) / (aa + bb - squares + c2)


def blur(x: Tensor) -> Tensor:
    """Gaussian window, rows then columns, without padding."""
    offset = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    window = torch.exp(-offset.square() / (2 * SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, WINDOW)
    x = F.conv2d(x, window, groups=x.shape[1])
    return F.conv2d(x, window.transpose(2, 3), groups=x.shape[1])


def halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, padding=(x.shape[2] % 2, x.shape[3] % 2))


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
    sign = -1 if lower_is_better else 1
    a, log_rate_a = sorted_curve(rates_a, quality_a, sign)
    b, log_rate_b = sorted_curve(rates_b, quality_b, sign)
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    if low >= high:
        raise ValueError("the curves share no span of quality")
    at = low + (high - low) * (np.arange(1000) + 0.5) / 1000
    difference = pchip(b, log_rate_b, at) - pchip(a, log_rate_a, at)
    return float(100 * np.expm1(difference.mean()))


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
