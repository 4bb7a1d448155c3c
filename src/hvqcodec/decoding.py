"""The decoder's side behind the symbols: what they stand for, and how it looks.

Nothing here is normative: pixels may differ by 1 of 255 between machines.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.entropy.symbol_coding import Symbols
from hvqcodec.granularity import level_masks
from hvqcodec.models.model import Model


@torch.inference_mode()
def synthesise(networks: Model, symbols: Symbols) -> Tensor:
    """(1, 3, H, W) about [-1, 1], on the device of the networks."""
    device = networks.codebook.weight.device
    entries = F.normalize(networks.codebook.weight.cpu(), dim=1)
    levels = torch.from_numpy(symbols.levels)[None]
    planes = []
    for mask, index in zip(level_masks(levels), symbols.indices, strict=True):
        plane = torch.zeros((*mask.shape[2:], entries.shape[1]))
        plane[mask[0, 0]] = entries[torch.from_numpy(index).long()]
        planes.append(plane.permute(2, 0, 1)[None].to(device))
    image: Tensor = networks.synthesis(tuple(planes), levels.to(device))
    return image
