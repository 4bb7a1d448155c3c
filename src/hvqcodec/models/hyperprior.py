"""Hyperprior of one level: a Gaussian in the embedding space per block.

HVQ-CGIC (arXiv 2512.07192): the probability of index k is the softmax of
-1/2 * squared Mahalanobis distance of entry k to (mu, sigma). Ours adds a learned
log-prior b_k and bounds sigma. The decoder runs the integer form of the
hyper-synthesis (`hvqcodec.entropy.fixed_point`); by this float form the encoder
estimates prices, and it is trained.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.entropy.constants import LATENT_MAX, MU_MAX, SIGMA_STEPS
from hvqcodec.granularity import latent_support
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.layers import conv

SIGMA_MIN, SIGMA_MAX = 0.1, 4.0
"""sigma takes values between these, evenly spaced in the logarithm. The lower bound
keeps the model from betting everything on masks that it has not seen."""

ROWS = 512
"""Codes at a time in `Hyperprior.index_bits`: they fit into the processor's cache."""

STEP_UNIT = 8.0
"""Steps of sigma are learned in units of 8, so that mu and they have the same scale."""


def sigma_from_step(step: Tensor) -> Tensor:
    """Step 0 ... 63 (real in training) -> sigma."""
    ratio = math.log(SIGMA_MAX / SIGMA_MIN) / (SIGMA_STEPS - 1)
    return SIGMA_MIN * torch.exp(step * ratio)


class HyperAnalysis(nn.Module):
    """Embeddings and mask of a level, (B, D, h, w) and (B, 1, h, w), to
    real z, (B, latent_channels, ceil(h/4), ceil(w/4))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n = config.hyper_channels
        self.layers = nn.Sequential(
            conv(config.dimensions + 1, n, stride=2),
            nn.ReLU(inplace=True),
            conv(n, n, stride=2),
            nn.ReLU(inplace=True),
            conv(n, n),
            nn.ReLU(inplace=True),
            conv(n, config.latent_channels, 1),
        )

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        m = mask.to(embeddings.dtype)
        z: Tensor = self.layers(torch.cat([embeddings * m, m], 1))
        return z.float()


class HyperSynthesis(nn.Module):
    """z and mask to the Gaussian of every block of a level.

    Four convolutions, the first two at the grid of z, the last two at twice that;
    two pixel shuffles lead to the grid of the level.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n = config.hyper_channels
        self.conv1 = conv(config.latent_channels, n)
        self.conv2 = conv(n, 4 * (n // 2), 1)
        self.conv3 = conv(n // 2 + 4, n)
        self.conv4 = conv(n, 4 * 2 * config.dimensions, 1)
        with torch.no_grad():  # wide Gaussians to begin with: the log-prior rules
            assert self.conv4.bias is not None
            self.conv4.weight.mul_(0.1)
            # A pixel shuffle reads 4 consecutive channels per output channel.
            self.conv4.bias[: 4 * config.dimensions] = 0
            self.conv4.bias[4 * config.dimensions :] = 40 / STEP_UNIT

    def forward(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        z: (B, latent_channels, ceil(h/4), ceil(w/4)); mask: (B, 1, h, w).
        Returns mu in [-2, 2] and the step of sigma in [0, 63], each (B, D, h, w).
        """
        h, w = mask.shape[-2:]
        x = F.relu(self.conv1(z))
        x = F.pixel_shuffle(F.relu(self.conv2(x)), 2)
        x = torch.cat([x, fold_mask(mask, x.shape[-2:]).to(x.dtype)], 1)
        x = F.relu(self.conv3(x))
        out = F.pixel_shuffle(self.conv4(x), 2)[..., :h, :w].float()
        mu, step = out.chunk(2, 1)
        return mu.clamp(-MU_MAX, MU_MAX), (STEP_UNIT * step).clamp(0, SIGMA_STEPS - 1)


def fold_mask(mask: Tensor, size: torch.Size) -> Tensor:
    """(B, 1, h, w) -> (B, 4, *size): 2x2 blocks as channels, zeros beyond the edge."""
    h, w = mask.shape[-2:]
    padded = F.pad(mask.float(), (0, 2 * size[1] - w, 0, 2 * size[0] - h))
    return F.pixel_unshuffle(padded, 2)


def factors(mu: Tensor, step: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2 D) and (K, 2 D), whose product is minus the squared Mahalanobis distance of each
    entry, less the term in mu alone."""
    w = sigma_from_step(step).pow(-2)
    return torch.cat([2 * w * mu, -w], 1), torch.cat([entries, entries.square()], 1)


def bits_and_weights(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Bits (N,) of indices (N,), and how probable all are, not normalised, (N, K), in the place
    of the logits."""
    best = logits.amax(1, keepdim=True)
    chosen = (logits.gather(1, index[:, None]) - best)[:, 0]
    weights = logits.sub_(best).exp_()
    return (weights.sum(1).log_() - chosen) / math.log(2), weights


class Hyperprior(nn.Module):
    """Hyper-analysis, hyper-synthesis and the log-prior of one level."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.analysis = HyperAnalysis(config)
        self.synthesis = HyperSynthesis(config)
        self.log_prior = nn.Parameter(torch.zeros(config.codes))
        self.latent_mean = nn.Parameter(torch.zeros(config.latent_channels))
        self.latent_log_scale = nn.Parameter(torch.zeros(config.latent_channels))

    def latents(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """z as it is sent: integers in float, (B, latent_channels, ceil(h/4), ceil(w/4))."""
        z: Tensor = self.analysis(embeddings, mask).round().clamp(-LATENT_MAX, LATENT_MAX)
        return z * latent_support(mask)

    def index_logits(self, mu: Tensor, step: Tensor, entries: Tensor) -> Tensor:
        """mu, step: (N, D); entries: (K, D). Returns (N, K), not normalised.

        The squared distance is expanded, so that it is one matrix product.
        """
        left, right = factors(mu, step, entries)
        return torch.addmm(self.log_prior, left, right.t(), alpha=0.5)

    def index_bits(self, mu: Tensor, step: Tensor, entries: Tensor, index: Tensor) -> Tensor:
        """Bits (N,) of indices (N,), in pieces and in place, so without gradients; else as
        `index_logits`."""
        bits = []
        for m, s, i in zip(*(torch.split(t, ROWS) for t in (mu, step, index)), strict=True):
            bits.append(bits_and_weights(self.index_logits(m, s, entries), i)[0])
        return torch.cat(bits)

    def index_bits_and_gradients(
        self, mu: Tensor, step: Tensor, entries: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the gradients of their sum to mu and step, (N, D) each."""
        found = []
        for *gaussian, i in zip(*(torch.split(t, ROWS) for t in (mu, step, index)), strict=True):
            m, s = (t.detach().requires_grad_() for t in gaussian)
            left, right = factors(m, s, entries)
            logits = torch.addmm(self.log_prior, left, right.t(), alpha=0.5).detach()
            bits, weights = bits_and_weights(logits, i)
            expected = weights @ right / weights.sum(1, keepdim=True)
            to_left = (expected - right[i]) / (2 * math.log(2))
            found.append((bits, *torch.autograd.grad(left, (m, s), to_left)))
        bits, to_mu, to_step = (torch.cat(pieces) for pieces in zip(*found, strict=True))
        return bits, to_mu, to_step

    def latent_bits(self, z: Tensor) -> Tensor:
        """Bits of each element of z (B, C, h, w) under a discretised logistic: the
        training's stand-in for the counted tables that a model ships with."""
        mean = self.latent_mean[:, None, None]
        scale = self.latent_log_scale.exp()[:, None, None]
        upper = torch.sigmoid((z + 0.5 - mean) / scale)
        lower = torch.sigmoid((z - 0.5 - mean) / scale)
        return -torch.log2((upper - lower).clamp_min(1e-6))
