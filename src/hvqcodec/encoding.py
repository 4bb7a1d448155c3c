"""The encoder's side: what an image could be sent as, and at what price.

Nothing here is normative: any choice gives a valid file.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.decoding import synthesise
from hvqcodec.entropy.map_coding import Levels
from hvqcodec.entropy.symbol_coding import Symbols
from hvqcodec.entropy.tables import STATIC_BITS, STATIC_SHARE
from hvqcodec.granularity import COARSE, FINE, allocate, level_masks
from hvqcodec.models.analysis import cell_distortion
from hvqcodec.models.hyperprior import Hyperprior
from hvqcodec.models.model import Model
from hvqcodec.timing import step

MEASURED_SHARE = 0.2
"""How much weight the measured error has beside the predicted distortion, which knows of
looks as well, in a geometric mean. Chosen on validation photos: half of it gains PSNR alone."""


@dataclass(frozen=True)
class Scene:
    """An analysed image: every block at every granularity, with its price."""

    networks: Model
    embeddings: tuple[Tensor, Tensor, Tensor]
    """Coarse to fine, (1, D, h, w) each."""
    indices: tuple[Tensor, Tensor, Tensor]
    """Nearest entries, (h, w) each."""
    cell_distortion: Tensor
    """(1, 3, H/8, W/8), as `allocate` takes it."""
    cell_bits: Tensor
    """(1, 3, H/8, W/8)."""

    def allocate(self, lambda_: float) -> Levels:
        """The map that minimises distortion + lambda x bits."""
        price = torch.tensor([lambda_])
        levels = allocate(self.cell_distortion, self.cell_bits, price)
        return levels[0].to(torch.uint8).numpy()

    def estimated_bits(self, levels: Levels) -> float:
        """Bits of the codes of a map, z and the map itself not counted."""
        index = torch.from_numpy(levels).long()[None, None]
        return self.cell_bits.gather(1, index).sum().item()

    def measured(self, image: Tensor) -> "Scene":
        """With the distortion of every cell corrected by the error that it has when the
        whole image is sent coarse, medium, or fine. image: (1, 3, H, W) in [-1, 1]."""
        errors = []
        for level, index in enumerate(self.indices):
            levels = np.full(tuple(self.cell_bits.shape[2:]), level, np.uint8)
            sent = [np.zeros(0, np.int32)] * 3
            sent[level] = index.flatten().numpy()
            decoded = synthesise(self.networks, Symbols(levels, (), tuple(sent))).cpu()
            error = (decoded - image.cpu()).square().mean(1, keepdim=True)
            errors.append(F.avg_pool2d(error, 8)[:, 0])
        measured = torch.stack(errors, 1).clamp_min(1e-9)
        measured = measured * (self.cell_distortion.mean() / measured.mean())
        mixed = self.cell_distortion ** (1 - MEASURED_SHARE) * measured**MEASURED_SHARE
        return replace(self, cell_distortion=mixed)

    def symbols(self, levels: Levels) -> Symbols:
        """What is to be sent for a map; runs the hyper-analysis."""
        device = self.embeddings[0].device
        masks = level_masks(torch.from_numpy(levels)[None])
        latents, indices = [], []
        with step("hyper-analysis"):
            for level, mask in enumerate(masks):
                prior = hyperprior(self.networks, level)
                z = prior.latents(self.embeddings[level], mask.to(device))
                latents.append(z[0].to(torch.int8).cpu().numpy())
                sent = self.indices[level][mask[0, 0]]
                indices.append(sent.numpy().astype(np.int32))
        return Symbols(levels, tuple(latents), tuple(indices))


def hyperprior(networks: Model, level: int) -> Hyperprior:
    prior = networks.hyperpriors[level]
    assert isinstance(prior, Hyperprior)
    return prior


@torch.inference_mode()
def analyse(networks: Model, image: Tensor, static: Tensor | None = None) -> Scene:
    """image: (1, 3, H, W) in [-1, 1] on the device of the networks. static: the static
    frequencies (3, K) that the tables mix in, if there are any yet."""
    with step("analysis"):
        analysed = networks.analysis(image)
        distortion = cell_distortion(networks.distortion_head(analysed.features)).cpu()
    indices, bits = [], []
    for level, y in enumerate(analysed.embeddings):
        with step("quantiser"):
            vectors = y[0].flatten(1).t()  # (N, D)
            index = networks.codebook.nearest(vectors)
        with step("estimate of bits"):
            code_bits = estimate_bits(networks, level, y, index)
            if static is not None:
                code_bits = mix_static(code_bits, static[level].to(index.device)[index])
            code_bits = code_bits.view(y.shape[2:])
        indices.append(index.view(y.shape[2:]).cpu())
        bits.append(per_cell(code_bits.cpu(), level))
    return Scene(
        networks,
        analysed.embeddings,
        (indices[0], indices[1], indices[2]),
        distortion,
        torch.stack(bits)[None],
    )


def estimate_bits(networks: Model, level: int, y: Tensor, index: Tensor) -> Tensor:
    """Bits (N,) of each index of a level if all blocks were sent at it: the float model
    of the very tables that code them."""
    prior = hyperprior(networks, level)
    h, w = y.shape[2:]
    everywhere = torch.ones_like(y[:, :1], dtype=torch.bool)
    nothing = [everywhere.new_zeros(1, h >> k, w >> k) for k in range(level, 0, -1)]
    masks = [*nothing, everywhere[:, 0]]
    maps = [*(mask.long() for mask in nothing), index.view(1, h, w)]
    pair = networks.gaussians(level, prior.latents(y, everywhere), masks, maps)
    mu, sigma = (t[0].flatten(1).t() for t in pair)
    return prior.index_bits(mu, sigma, networks.codebook.entries(), index)


def mix_static(bits: Tensor, static: Tensor) -> Tensor:
    """Bits (N,) once the static share is mixed in; static: frequencies of the indices, (N,)."""
    share = 2.0**-STATIC_SHARE
    mixed: Tensor = -((2.0**-bits + share * static / 2**STATIC_BITS) / (1 + share)).log2()
    return mixed


def per_cell(code_bits: Tensor, level: int) -> Tensor:
    """(h, w) of a level -> bits of each 8x8 cell, (H/8, W/8)."""
    if level == COARSE:
        return (code_bits / 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    if level == FINE:
        return (
            code_bits[::2, ::2]
            + code_bits[1::2, ::2]
            + code_bits[::2, 1::2]
            + code_bits[1::2, 1::2]
        )
    return code_bits
