"""Conditional synthesis: embeddings of three granularities to an image (not normative)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.granularity import level_masks, repeat
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.layers import conv, residual_stack


class Synthesis(nn.Module):
    """Features at f16, f8, f4 in turn, each told of the embeddings known there.

    Coarser embeddings are repeated, finer ones folded into channels, so that no
    stage lacks anything that was sent; a one-hot granularity map goes with them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.dimensions
        c4, c8, c16 = config.channels
        n4, n8, n16 = config.synthesis_blocks
        c2 = config.detail_channels
        self.inject16 = conv(d * (1 + 4 + 16) + 3 * 4, c16)
        self.inject8 = conv(d * (1 + 1 + 4) + 3, c8)
        self.inject4 = conv(d * 3 + 3, c4)
        self.trunk16 = residual_stack(c16, n16)
        self.trunk8 = residual_stack(c8, n8)
        self.trunk4 = residual_stack(c4, n4)
        self.up8 = conv(c16, 4 * c8, 1)
        self.up4 = conv(c8, 4 * c4, 1)
        self.up2 = conv(c4, 4 * c2, 1)
        self.trunk2 = residual_stack(c2, 1)
        self.up1 = conv(c2, 4 * 12, 1)
        self.to_rgb = conv(12, 3)
        self.reach = 16 * (1 + 2 * n16) + 8 * 2 * n8 + 4 * 2 * n4 + 2 * 2 + 1
        """Pixels beyond a pixel's block, to each side, whose codes bear on it."""

    def forward(self, embeddings: tuple[Tensor, Tensor, Tensor], levels: Tensor) -> Tensor:
        """
        embeddings: codebook entries, coarse to fine: (B, D, H/16, W/16), (B, D, H/8, W/8),
            (B, D, H/4, W/4); what stands outside of a level's blocks is ignored.
        levels: granularity map, (B, H/8, W/8), 0 coarse, 1 medium, 2 fine.
        Returns RGB about [-1, 1], (B, 3, H, W), not clamped.
        """
        masks = level_masks(levels)
        c, m, f = (e * mask.to(e.dtype) for e, mask in zip(embeddings, masks, strict=True))
        one_hot = F.one_hot(levels.long(), 3).permute(0, 3, 1, 2).to(c.dtype)

        x = self.inject16(
            torch.cat([c, *(F.pixel_unshuffle(t, s) for t, s in ((m, 2), (f, 4), (one_hot, 2)))], 1)
        )
        x = F.pixel_shuffle(self.up8(self.trunk16(x)), 2)
        x = x + self.inject8(torch.cat([repeat(c, 2), m, F.pixel_unshuffle(f, 2), one_hot], 1))
        x = F.pixel_shuffle(self.up4(self.trunk8(x)), 2)
        x = x + self.inject4(torch.cat([repeat(c, 4), repeat(m, 2), f, repeat(one_hot, 2)], 1))
        x = F.pixel_shuffle(self.up2(self.trunk4(x)), 2)
        # Convolutions after each of the last two shuffles: without them the four
        # phases of a shuffle show as a faint grid in smooth areas.
        x = F.pixel_shuffle(self.up1(self.trunk2(x)), 2)
        out: Tensor = self.to_rgb(x)
        return out.float()
