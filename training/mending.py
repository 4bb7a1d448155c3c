"""What the residual adds to the pictures of a batch, as the encoder finds it."""

from multiprocessing.pool import Pool

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqcodec.arrays import Pixels
from hvqcodec.correction import add
from hvqcodec.entropy.residual_coding import Residual
from hvqcodec.residual import CELL, ResidualFitter


@torch.no_grad()
def residual_of(
    decoded: Tensor, image: Tensor, lambdas: Tensor, pool: Pool | None = None
) -> Tensor:
    """decoded, image: RGB about [0, 1], (B, 3, H, W), sides multiples of 16. lambdas: (B,).
    pool: of processes among which the pictures are shared out.
    Returns what is to be added to the first, (B, 3, H, W); none of it learns."""
    pairs = zip(to_pixels(image), to_pixels(decoded), lambdas.tolist(), strict=True)
    found = pool.starmap(missed, pairs, 1) if pool else [missed(*pair) for pair in pairs]
    added = torch.from_numpy(np.stack(found)).to(decoded.device, decoded.dtype) / 255
    return added.permute(0, 3, 1, 2)  # channels last, then


def missed(original: Pixels, decoded: Pixels, lambda_: float) -> NDArray[np.int16]:
    """Levels that the residual adds to a picture, (H, W, 3)."""
    planes, _ = ResidualFitter(original, decoded, b"").planes(lambda_)
    mended = decoded.copy()
    add(mended, Residual(b"", CELL, planes).grids())
    return mended.astype(np.int16) - decoded


def to_pixels(pictures: Tensor) -> Pixels:
    """RGB about [0, 1], (B, 3, H, W) -> (B, H, W, 3)."""
    levels = (255 * pictures.detach().float()).round().clamp(0, 255).byte()
    pixels: Pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels
