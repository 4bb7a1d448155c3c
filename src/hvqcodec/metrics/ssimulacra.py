"""SSIMULACRA2, version 2.1, as its reference in C++ computes it.

The package `ssimulacra2` has the reference's colours, error maps and weights, but it blurs
with other values beyond two of the photo's four borders and with another window. On Kodak
that takes 0.1 from scores near 90 and 1 to 4 from those below 30. So the loop over scales
stands here, with the reference's blur.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqcodec.optional import require

Plane = NDArray[np.float64]
"""(H, W, 3)."""

HALF = (
    0.2646211054881984,
    0.2129285920104221,
    0.1093353727774602,
    0.0360111146583643,
    0.0094143678096535,
)
WINDOW = (*HALF[:0:-1], *HALF)
"""Impulse response of libjxl's recursive Gaussian of sigma 1.5."""


class Ssimulacra2:
    """The score of a pair of photos, RGB in [0, 1], (1, 3, H, W): 100 if they are the same,
    90 if nobody sees a difference, below 0 without bound if they are very different."""

    def __init__(self) -> None:
        self.package = require("ssimulacra2.ssimulacra2", "metrics")

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        linear = [self.package.srgb_to_linear(to_plane(image)) for image in (a, b)]
        similarity = self.package.Msssim()
        # Photos that are large enough for MS-SSIM have all six scales.
        for scale in range(self.package.kNumScales):
            if scale:
                linear = [self.package.downsample(plane, 2, 2) for plane in linear]
            similarity.scales.append(self.compare(*map(self.to_xyb, linear)))
        return torch.tensor([similarity.score()], device="cpu")

    def compare(self, a: Plane, b: Plane) -> object:
        """The errors at one scale."""
        mean_a, mean_b = blur(a), blur(b)
        errors = self.package.MsssimScale()
        errors.avg_ssim = self.package.ssim_map(
            mean_a, mean_b, blur(a * a), blur(b * b), blur(a * b)
        )
        errors.avg_edgediff = self.package.edge_diff_map(a, mean_a, b, mean_b)
        return errors

    def to_xyb(self, linear: Plane) -> Plane:
        plane: Plane = self.package.make_positive_xyb(self.package.linear_rgb_to_xyb(linear))
        return plane


def to_plane(image: Tensor) -> Plane:
    """(1, 3, H, W) of [0, 1] -> (H, W, 3) of 0 to 255."""
    return image[0].permute(1, 2, 0).double().mul(255).numpy()


def blur(plane: Plane) -> Plane:
    """Rows, then columns; zeros beyond all four borders."""
    from scipy.ndimage import correlate1d

    for axis in (0, 1):
        plane = correlate1d(plane, WINDOW, axis, mode="constant")
    return plane
