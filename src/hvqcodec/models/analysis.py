"""Analysis: an image to embeddings at three granularities."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.granularity import BLOCK, MEDIUM
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.layers import conv, residual_stack


class Analysed(NamedTuple):
    """What the analysis knows of an image of H x W pixels (multiples of 16)."""

    embeddings: tuple[Tensor, Tensor, Tensor]
    """Unit vectors, coarse to fine: (B, D, H/16, W/16), (B, D, H/8, W/8), (B, D, H/4, W/4)."""
    features: tuple[Tensor, Tensor, Tensor]
    """Trunk at f16, f8, f4, from which `DistortionHead` predicts."""


class Analysis(nn.Module):
    """RGB in [-1, 1], (B, 3, H, W) with H and W multiples of 16, to `Analysed`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.channels
        n4, n8, n16 = config.analysis_blocks
        self.stem = conv(3 * 16, c4)
        self.trunk4 = residual_stack(c4, n4)
        self.down8 = nn.Conv2d(c4, c8, 2, stride=2)
        self.trunk8 = residual_stack(c8, n8)
        self.down16 = nn.Conv2d(c8, c16, 2, stride=2)
        self.trunk16 = residual_stack(c16, n16)
        self.heads = nn.ModuleList(conv(c, config.dimensions, 1) for c in (c16, c8, c4))
        self.reach = 4 * (1 + 2 * n4) + 8 * 2 * n8 + 16 * 2 * n16
        """Pixels beyond a block, to each side, that bear on its embedding."""

    def forward(self, image: Tensor) -> Analysed:
        x4 = self.trunk4(self.stem(F.pixel_unshuffle(image, 4)))
        x8 = self.trunk8(self.down8(x4))
        x16 = self.trunk16(self.down16(x8))
        features = (x16, x8, x4)
        y = [
            F.normalize(head(x).float(), dim=1)
            for head, x in zip(self.heads, features, strict=True)
        ]
        return Analysed((y[0], y[1], y[2]), features)

    def unit_features(self, image: Tensor) -> list[Tensor]:
        """Features of unit length in each place, coarse to fine: by the squared distances of two
        images' it tells how differently they look. As LPIPS (Zhang et al. 2018, arXiv 1801.03924),
        without weights, of a network that has learned what is worth sending."""
        return [F.normalize(features.float(), dim=1) for features in self(image).features]


LOG_DISTORTION = (-12.0, 6.0)
"""Bounds of what the head may claim."""


class DistortionHead(nn.Module):
    """Predicts the distortion of every 8x8 cell at each of the three granularities.

    It lets the encoder allocate without a synthesis; the decoder never sees it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.channels
        hidden = c4 // 2
        self.from4 = nn.Conv2d(c4, hidden, 2, stride=2)
        self.from8 = conv(c8, hidden)
        self.from16 = conv(c16, hidden, 1)
        self.out = nn.Sequential(
            nn.LeakyReLU(0.1), conv(hidden, hidden), nn.LeakyReLU(0.1), conv(hidden, 3, 1)
        )
        self.reach = 16
        """Pixels beyond those that bear on the features: the next cell may lie in the next
        block of the coarsest."""

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(B, 3, H/8, W/8): log of the mean distortion per pixel if the cell is
        sent coarse, medium, fine."""
        x16, x8, x4 = features
        up = torch.repeat_interleave(self.from16(x16), 2, dim=2)
        up = torch.repeat_interleave(up, 2, dim=3)
        out: Tensor = self.out(self.from4(x4) + self.from8(x8) + up)
        return out.float()


def cell_distortion(log_distortion: Tensor) -> Tensor:
    """What a DistortionHead gives -> the distortion of each cell, summed over its pixels."""
    return BLOCK[MEDIUM] ** 2 * log_distortion.clamp(*LOG_DISTORTION).exp()
