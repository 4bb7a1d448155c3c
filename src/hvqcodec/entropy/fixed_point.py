"""NORMATIVE: the hyper-synthesis in integers.

Encoder and decoder must agree on every bit of the tables, on any machine. All values
here are integers held in float64; each sum stays below 2^53 (checked at export, from
the weights), so it is exact in whatever order the machine adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.entropy.constants import MU_MAX, ONE, SIGMA_STEPS
from hvqcodec.granularity import BLOCK, COARSE, LATENT_GRID
from hvqcodec.tiling import tiles

MU_LIMIT = MU_MAX * ONE
ACTIVATION_MAX = 32767
EXACT = 2**53
MAX_SHIFT = 52


TILE = 64
"""Side in positions of z of what the hyper-synthesis takes at a time: bounds the memory."""
TILE_REACH = 2
"""Positions of z beyond a tile, to each side, that bear on it."""


def requantise(acc: Tensor, shift: int, low: int, high: int) -> Tensor:
    """clamp(floor((acc + 2^(shift-1)) / 2^shift), low, high), for shift >= 1."""
    return ((acc + 2.0 ** (shift - 1)) * 2.0**-shift).floor_().clamp_(low, high)


def check_shifts(shifts: Sequence[int]) -> None:
    """Raise ValueError unless `requantise` is exact by them for all sums below 2^52."""
    if not all(1 <= shift <= MAX_SHIFT for shift in shifts):
        raise ValueError(f"a shift is not between 1 and {MAX_SHIFT}")


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
        reach = kernel // 2
        width = w + 2 * reach
        if reach:  # one row more, so that what follows the last tap is there as well
            x = F.pad(x, (reach, reach, reach, reach + 1))
        places = x.flatten(1)  # row by row
        # A product for each tap, in place of columns that repeat the input for all of them.
        first, *others = self.weight.double().flatten(2).unbind(2)
        acc = torch.addmm(self.bias.double()[:, None], first, places[:, : h * width])
        for tap, weight in enumerate(others, 1):
            begin = tap // kernel * width + tap % kernel
            acc.addmm_(weight, places[:, begin : begin + h * width])
        return acc.view(outputs, h, width)[:, :, :w]

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
        mu, step = torch.empty(2, dimensions, *mask.shape, dtype=torch.int16, device=mask.device)
        # Counted in pixels of the coarse level, so that a position of z has 64 and a block 16.
        rows, columns = (LATENT_GRID * side for side in z.shape[1:])
        for tile in tiles(rows, columns, LATENT_GRID * TILE_REACH, LATENT_GRID * TILE, LATENT_GRID):
            seen = z[:, *tile.outer(LATENT_GRID)], mask[tile.outer(BLOCK[COARSE])]
            for whole, part in zip((mu, step), self._tile(*seen), strict=True):
                whole[:, *tile.inner(BLOCK[COARSE])] = part[:, *tile.within(BLOCK[COARSE])]
        return mu, step

    def _tile(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The same for all of z at once, as float64 integers."""
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
        """Raise ValueError if any sum could leave the integers that float64 holds."""
        check_shifts(self.shifts)
        if not 0 <= self.mask_one <= ACTIVATION_MAX:
            raise ValueError("a sent block counts more than any activation")
        for conv, input_max in zip(
            self.convs, (latent_max, ACTIVATION_MAX, ACTIVATION_MAX, ACTIVATION_MAX), strict=True
        ):
            if conv.largest_sum(input_max) >= EXACT // 2:
                raise ValueError("a sum of the hyper-synthesis could exceed 2^53")
