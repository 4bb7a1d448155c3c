"""PSNR and MS-SSIM of RGB in [0, 1]."""

import torch
from torch import Tensor
from torch.nn import functional as F

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales of MS-SSIM, finest first (Wang et al. 2003)."""

WINDOW, SIGMA = 11, 1.5
MIN_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1
"""Below this the window does not fit into the coarsest scale."""


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
    similarity = a.new_ones(a.shape[:2])
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
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-offset.square() / (2 * SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, WINDOW)
    x = F.conv2d(x, window, groups=x.shape[1])
    return F.conv2d(x, window.transpose(2, 3), groups=x.shape[1])


def halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, padding=(x.shape[2] % 2, x.shape[3] % 2))
