"""All networks of a model in one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvqcodec.models.analysis import Analysis, DistortionHead
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.context import Context
from hvqcodec.models.hyperprior import Hyperprior
from hvqcodec.models.quantiser import Codebook
from hvqcodec.models.synthesis import Synthesis


class Model(nn.Module):
    """
    image -> analysis -> y_c, y_m, y_f -> codebook -> indices -> synthesis -> image
                             |
                             +-> hyperpriors[0..2] -> contexts[0..2] -> probabilities of the indices
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.codebook = Codebook(config)
        self.hyperpriors = nn.ModuleList(Hyperprior(config) for _ in range(3))
        self.contexts = nn.ModuleList(
            Context(config) for _ in range(3 if config.context_window else 0)
        )
        self.distortion_head = DistortionHead(config)
        self.synthesis = Synthesis(config)

    def gaussians(
        self, level: int, z: Tensor, masks: Sequence[Tensor], index_maps: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """mu and step of sigma of a level's codes, (B, D, h, w), by its hyperprior and, if the
        model has one, its context.

        z: (B, latent_channels, ceil(h/4), ceil(w/4)). masks, index_maps: (B, h, w), from the
        coarsest level to this one at least.
        """
        mu, step = self.hyperpriors[level].synthesis(z, masks[level][:, None])  # type: ignore[operator]
        if self.contexts:
            known = masks[: level + 1], index_maps[: level + 1]
            with torch.autocast(z.device.type, enabled=False):
                mu, step = self.contexts[level](self.codebook.entries().detach(), *known, mu, step)
        return mu, step
