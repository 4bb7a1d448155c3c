"""A quick look at held-out photos while training: float estimates, no files."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.photos import MOVED, Photo
from hvqcodec.allocation import CODES_PER_CELL, allocate
from hvqcodec.correction import add
from hvqcodec.encoding import hyperprior
from hvqcodec.granularity import latent_support, level_masks
from hvqcodec.metrics import MIN_SIDE, ms_ssim
from hvqcodec.metrics.measuring import Distance
from hvqcodec.models.analysis import cell_distortion
from hvqcodec.models.model import Model
from hvqcodec.residual import ResidualFitter
from training.mending import to_pixels
from training.objective import Distortion

FIGURES = ("bpp", "psnr", "ms_ssim", "lpips", "lpips_moved", "dlp", "effnet", "flat")
"""`lpips_moved` is LPIPS without the first `MOVED` rows and columns."""


@torch.no_grad()
def validate(
    model: Model,
    photos: list[Photo],
    distortion: Distortion,
    code_bits: Tensor,
    lambdas: tuple[float, ...] = (2.4, 0.9, 0.4),
    size: int = 384,
    limit: int = 20,
    residuals: bool = False,
    witness: Distance | None = None,
) -> Iterator[dict[str, float]]:
    """For each lambda the means over the centres of the photos. residuals: as the encoder would
    send them, with their bytes. witness: of `benchmarks.witness`."""
    device = model.codebook.weight.device
    cells_bits = code_bits * torch.tensor(CODES_PER_CELL, device=device)
    for lambda_ in lambdas:
        sums: dict[str, list[float]] = {name: [] for name in FIGURES}
        for photo in photos[:limit]:
            image = centre(photo, size).to(device)
            analysed = model.analysis(2 * image - 1)
            cells = cell_distortion(model.distortion_head(analysed.features))
            levels = allocate(cells, cells_bits, torch.tensor([lambda_], device=device))
            masks, maps, sent, bits = level_masks(levels), [], [], 0.0
            for y in analysed.embeddings:
                index = model.codebook.nearest(y.permute(0, 2, 3, 1).flatten(0, 2))
                maps.append(index.view(y.shape[0], *y.shape[2:]))
                sent.append(model.codebook.lookup(maps[-1]).permute(0, 3, 1, 2))
            for level, y in enumerate(analysed.embeddings):
                bits += float_bits(model, level, y, masks, maps)
            output = model.synthesis(tuple(sent), levels).clamp(-1, 1)
            output = ((output + 1) * 127.5).round() / 255
            if residuals:
                output, more = with_residual(output, image, lambda_)
                bits += more
            _, _, metrics = distortion(output, image)
            sums["bpp"].append(bits / image[0, 0].numel())
            sums["psnr"].append(-10 * math.log10(metrics["mse"].item()))
            if min(image.shape[2:]) >= MIN_SIDE:
                sums["ms_ssim"].append(ms_ssim(output, image).item())
            for name in ("lpips", "dlp", "flat"):
                if name in metrics:
                    sums[name].append(metrics[name].item())
            if witness is not None:
                sums["effnet"].append(witness(output, image).item())
            if distortion.lpips is not None:
                pair = (t[:, :, MOVED:, MOVED:] for t in (output, image))
                sums["lpips_moved"].append(distortion.lpips(*pair).item())
        means = {k: round(float(np.mean(v)), 4) for k, v in sums.items() if v}
        yield {"lambda": lambda_} | means


def with_residual(decoded: Tensor, image: Tensor, lambda_: float) -> tuple[Tensor, float]:
    """RGB in [0, 1], (1, 3, H, W): the first with what it misses, and the bits of that."""
    original, mended = to_pixels(image)[0], to_pixels(decoded)[0]
    residual = ResidualFitter(original, mended, b"")(lambda_)
    if residual is None:
        return decoded, 0.0
    add(mended, residual.grids())
    levels = torch.from_numpy(mended).permute(2, 0, 1)[None].to(decoded)
    return levels / 255, 8.0 * len(residual.to_bytes())


def float_bits(
    model: Model, level: int, y: Tensor, masks: Sequence[Tensor], maps: Sequence[Tensor]
) -> float:
    """Bits of a level's indices and z by the float model, for one image."""
    mask, prior = masks[level], hyperprior(model, level)
    if not mask.any():
        return 0.0
    z = prior.latents(y, mask)
    z_bits = (prior.latent_bits(z) * latent_support(mask)).sum().item()
    pair = model.gaussians(level, z, [m[:, 0] for m in masks], maps)
    mu, sigma = (t[0].permute(1, 2, 0)[mask[0, 0]] for t in pair)
    index_bits = prior.index_bits(mu, sigma, model.codebook.entries(), maps[level][mask[:, 0]])
    return z_bits + index_bits.sum().item()


def centre(photo: Photo, size: int) -> Tensor:
    """The centre, at most size x size, sides multiples of 16; RGB in [0, 1], (1, 3, H, W)."""
    h, w = (min(s, size) // 16 * 16 for s in photo.shape[:2])
    top, left = (photo.shape[0] - h) // 2, (photo.shape[1] - w) // 2
    crop = photo[top : top + h, left : left + w].copy()
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
