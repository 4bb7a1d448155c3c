"""Vector quantiser on the unit sphere: one codebook for the three levels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.models.config import ModelConfig

ROWS = 512
"""Vectors at a time: their scores then fit into the cache, and memory stays bounded."""


class Codebook(nn.Module):
    """K unit vectors. Without the bound that the sphere sets, the straight-through
    estimator lets the scale of the embeddings explode."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(config.codes, config.dimensions))

    def entries(self) -> Tensor:
        """(K, D), of unit length."""
        return F.normalize(self.weight, dim=1)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """(N, D) unit vectors -> (N,) int64, the index of the nearest entry."""
        entries = self.entries().t()
        return torch.cat([(v @ entries).argmax(1) for v in torch.split(vectors, ROWS)])

    def lookup(self, indices: Tensor) -> Tensor:
        """(...,) -> (..., D)."""
        return F.embedding(indices, self.entries())
