"""NORMATIVE: the hyper-synthesis in integers.

Encoder and decoder must agree on every bit of the tables, on any machine. All values
here are integers held in float64; each sum stays below 2^53 (checked at export, from
the weights), so it is exact in whatever order the machine adds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.entropy.constants import LATENT_STRIDE, MU_MAX, SIGMA_STEPS

MU_BITS = 12
"""mu is in units of 2^-12."""
MU_LIMIT = MU_MAX << MU_BITS
ACTIVATION_MAX = 32767
EXACT = 2**53


STRIP = 4096
"""Positions of z at a time in the hyper-synthesis: bounds the memory."""
STRIP_REACH = 2
"""Rows of z beyond a strip that bear on it."""


def requantise(acc: Tensor, shift: int, low: int, high: int) -> Tensor:
    """clamp(floor((acc + 2^(shift-1)) / 2^shift), low, high), for shift >= 1."""
    return ((acc + 2.0 ** (shift - 1)) * 2.0**-shift).floor_().clamp_(low, high)


@dataclass(frozen=True)
class IntegerConv:
    """A convolution with 'same' padding: int16 weights, bias at the accumulator's scale."""

    weight: Tensor
    """(outputs, inputs, k, k) int16."""
    bias: Tensor
    """(outputs,) int64."""

    def __call__(self, x: Tensor) -> Tensor:
        """(inputs, h, w) float64 integers -> (outputs, h, w) accumulators."""
        outputs, _, kernel, _ = self.weight.shape
        _, h, w = x.shape
        columns = x.flatten(1) if kernel == 1 else F.unfold(x[None], kernel, padding=kernel // 2)[0]
        matrix = self.weight.flatten(1).double()
        acc = torch.addmm(self.bias.double()[:, None], matrix, columns)
        return acc.view(outputs, h, w)

    def largest_sum(self, input_max: int) -> int:
        """Bound of the absolute accumulator, and of its partial sums."""
        magnitude = self.weight.long().abs().flatten(1).sum(1) * input_max
        # Not abs(): that of the smallest int64 is negative.
        return int(magnitude.max()) + max(int(self.bias.max()), -int(self.bias.min()))


@dataclass(frozen=True)
class IntegerHyperSynthesis:
    """z and mask of one level to mu and the step of sigma of every block of it."""

    convs: tuple[IntegerConv, ...]
    shifts: tuple[int, ...]
    """Five: of the three hidden layers, of mu and of the step."""
    mask_one: int
    """What a sent block counts in the third convolution's mask inputs."""

    def __call__(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        z: (latent_channels, ceil(h/4), ceil(w/4)) integers; mask: (h, w) bool.
        Returns mu (D, h, w) in units of 2^-12 and steps (D, h, w), int16.
        """
        dimensions = len(self.convs[3].bias) // 8
        mu, step = torch.empty(2, dimensions, *mask.shape, dtype=torch.int16)
        rows = max(1, STRIP // z.shape[2])
        for top in range(0, z.shape[1], rows):
            first, last = max(0, top - STRIP_REACH), top + rows + STRIP_REACH
            strip = slice(LATENT_STRIDE * first, LATENT_STRIDE * last)
            inner = slice(LATENT_STRIDE * (top - first), LATENT_STRIDE * (top - first + rows))
            into = slice(LATENT_STRIDE * top, LATENT_STRIDE * (top + rows))
            for whole, part in zip(
                (mu, step), self._strip(z[:, first:last], mask[strip]), strict=True
            ):
                whole[:, into] = part[:, inner]
        return mu, step

    def _strip(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The same for all rows of z at once, as float64 integers."""
        h, w = mask.shape
        conv1, conv2, conv3, conv4 = self.convs
        x = requantise(conv1(z.double()), self.shifts[0], 0, ACTIVATION_MAX)
        x = requantise(conv2(x), self.shifts[1], 0, ACTIVATION_MAX)
        x = F.pixel_shuffle(x, 2)
        h2, w2 = x.shape[1:]
        padded = F.pad(mask.double(), (0, 2 * w2 - w, 0, 2 * h2 - h))
        folded = F.pixel_unshuffle(padded[None], 2) * self.mask_one
        x = requantise(conv3(torch.cat([x, folded])), self.shifts[2], 0, ACTIVATION_MAX)
        acc = F.pixel_shuffle(conv4(x), 2)[:, :h, :w]
        mu, step = acc.chunk(2)
        return (
            requantise(mu, self.shifts[3], -MU_LIMIT, MU_LIMIT),
            requantise(step, self.shifts[4], 0, SIGMA_STEPS - 1),
        )

    def check_exact(self, latent_max: int) -> None:
        """Raise if any sum could leave the integers that float64 holds."""
        for conv, input_max in zip(
            self.convs, (latent_max, ACTIVATION_MAX, ACTIVATION_MAX, ACTIVATION_MAX), strict=True
        ):
            if conv.largest_sum(input_max) >= EXACT // 2:
                raise ValueError("a sum of the hyper-synthesis could exceed 2^53")
