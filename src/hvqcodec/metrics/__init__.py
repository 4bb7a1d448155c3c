"""How far a decoded photo is from the original."""

from hvqcodec.metrics.measuring import LOWER_IS_BETTER, TITLES, Metrics, to_tensor
from hvqcodec.metrics.similarity import MIN_SIDE, ms_ssim, psnr

__all__ = [
    "LOWER_IS_BETTER",
    "MIN_SIDE",
    "TITLES",
    "Metrics",
    "ms_ssim",
    "psnr",
    "to_tensor",
]
