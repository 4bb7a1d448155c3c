"""The decoder's side behind the symbols: what they stand for, and how it looks.

Nothing here is normative: pixels may differ by 1 of 255 between machines.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.arrays import Pixels
from hvqcodec.entropy.symbol_coding import Symbols, index_maps
from hvqcodec.granularity import BLOCK, MEDIUM
from hvqcodec.models.model import Model
from hvqcodec.pixels import from_signal
from hvqcodec.tiling import Progress, tiles


@torch.inference_mode()
def synthesise(
    networks: Model, symbols: Symbols, side: int | None = None, progress: Progress | None = None
) -> Pixels:
    """The image, (H, W, 3), sides multiples of 16. side: of the tiles, as in `tiling.tiles`."""
    device = networks.codebook.weight.device
    entries = F.normalize(networks.codebook.weight.cpu(), dim=1)
    levels, maps = torch.from_numpy(symbols.levels), index_maps(symbols)
    height, width = (BLOCK[MEDIUM] * length for length in levels.shape)
    pixels = np.empty((height, width, 3), np.uint8)
    plan = list(tiles(height, width, networks.synthesis.reach, side))
    for number, tile in enumerate(plan, 1):
        embeddings = [
            F.embedding(index[tile.outer(block)], entries).permute(2, 0, 1)[None].to(device)
            for index, block in zip(maps, BLOCK, strict=True)
        ]
        here = levels[tile.outer(BLOCK[MEDIUM])][None].to(device)
        signal: Tensor = networks.synthesis(tuple(embeddings), here)
        pixels[tile.inner(1)] = from_signal(signal[:, :, *tile.within(1)])
        if progress:
            progress(number / len(plan))
    return pixels
