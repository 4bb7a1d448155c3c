"""NORMATIVE: what is known around a code when its turn comes, and what follows from it.

The levels are sent coarse to fine, and each in four turns, so that a code can lean on the
embeddings of coarser blocks around it and of its own level's earlier turns. Nothing waits
for its immediate predecessor: all codes of a turn are coded at once.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.entropy.constants import ONE, SIGMA_STEPS
from hvqcodec.entropy.fixed_point import (
    ACTIVATION_MAX,
    EXACT,
    MU_LIMIT,
    IntegerConv,
    check_shifts,
    requantise,
)
from hvqcodec.granularity import repeat

TURNS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Row and column modulo 2 of the codes of each turn."""

FLAGS = 3
"""Planes beside the embeddings: sent at a coarser level; at this one; and known by then."""

STEP_ONE = 1 << 9
"""What a step of sigma counts among the inputs."""


def known_planes(
    entries: Tensor, masks: Sequence[Tensor], index_maps: Sequence[Tensor], turn: int, one: float
) -> Tensor:
    """What a level's grid shows at the beginning of a turn.

    entries: (K, D). masks, index_maps: of the levels from the coarsest to this one, (B, h, w)
    each; indices count only where they are known by then.
    Returns (B, D + FLAGS, h, w): embeddings, 0 where none is known, and flags of 0 or `one`.
    """
    batch, h, w = masks[-1].shape
    embeddings = entries.new_zeros(batch, entries.shape[1], h, w)
    flags = entries.new_zeros(batch, FLAGS, h, w)
    earlier = torch.zeros(h, w, dtype=torch.bool, device=entries.device)
    for row, column in TURNS[:turn]:
        earlier[row::2, column::2] = True
    own = len(masks) - 1
    for level, (mask, index) in enumerate(zip(masks, index_maps, strict=True)):
        known = mask & earlier if level == own else mask
        found = F.embedding(index * known, entries) * known[..., None]  # (B, h, w, D)
        embeddings += repeat(found.permute(0, 3, 1, 2), 1 << (own - level))
        if level == own:
            flags[:, 1], flags[:, 2] = mask, known
        else:
            flags[:, :1] += repeat(mask[:, None].to(flags.dtype), 1 << (own - level))
    return torch.cat([embeddings, flags * one], 1)


def turns(mask: Tensor, in_turns: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """mask (h, w) -> rows and columns of the codes of each turn, in raster order; all codes
    at once if a model has no context."""
    for row, column in TURNS if in_turns else ((0, 0),):
        stride = 2 if in_turns else 1
        rows, columns = mask[row::stride, column::stride].nonzero(as_tuple=True)
        yield rows * stride + row, columns * stride + column


def around(padded: Tensor, rows: Tensor, columns: Tensor, window: int) -> Tensor:
    """The squares around n places, (n, window^2 * C): by row, then column, then plane.

    padded: (h, w, C), contiguous, with window // 2 zeros on all sides.
    """
    height, width, planes = padded.shape
    # A row of a square is one piece of memory; so many begin at each place.
    size = height * width - window + 1, window * planes
    pieces = padded.as_strided(size, (planes, 1))
    corner = (rows * width + columns)[:, None]
    places = corner + width * torch.arange(window, device=padded.device)  # (n, window)
    return pieces.index_select(0, places.flatten()).view(len(rows), -1)


@dataclass(frozen=True)
class IntegerContext:
    """Corrects the Gaussian of each code by what is known around it."""

    layers: tuple[IntegerConv, ...]
    """Three, of kernel 1."""
    shifts: tuple[int, ...]
    """Of the two hidden layers, of mu and of the step."""
    dimensions: int

    def __post_init__(self) -> None:
        first, area = self.layers[0], self.window**2
        squares, gaussian = first.weight.tensor_split([(self.dimensions + FLAGS) * area], 1)
        squares = squares.view(len(first.bias), -1, area, 1, 1).transpose(1, 2).flatten(1, 2)
        reordered = IntegerConv(torch.cat([squares, gaussian], 1), first.bias)
        object.__setattr__(self, "_first", reordered)  # takes squares as `around` gives them

    @property
    def window(self) -> int:
        """Side of the square that it sees."""
        seen = self.layers[0].weight.shape[1] - 2 * self.dimensions
        return math.isqrt(seen // (self.dimensions + FLAGS))

    @property
    def inputs(self) -> int:
        """Numbers that it takes of a code: its surroundings, mu and step."""
        return (self.dimensions + FLAGS) * self.window**2 + 2 * self.dimensions

    def pad(self, planes: Tensor) -> Tensor:
        """(C, h, w) as `around` wants them."""
        margins = (self.window // 2,) * 4
        # Contiguous already, unless there is nothing to pad.
        return F.pad(planes.permute(1, 2, 0), (0, 0, *margins)).contiguous()

    def reveal(self, planes: Tensor, rows: Tensor, columns: Tensor, embeddings: Tensor) -> None:
        """Make the codes of a turn known in padded planes; embeddings: (n, D)."""
        places = rows + self.window // 2, columns + self.window // 2
        planes[..., : self.dimensions][places] = embeddings
        planes[..., -1][places] = ONE

    def __call__(self, surroundings: Tensor, mu: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """surroundings: (n, window^2 * C); mu, step: (D, n), as the hyper-synthesis gives
        them, and as they are returned; integers all, mu and step in float64."""
        x = torch.cat([surroundings.double(), mu.t(), step.t() * STEP_ONE], 1).t()[:, :, None]
        x = requantise(self._first(x), self.shifts[0], 0, ACTIVATION_MAX)  # type: ignore[attr-defined]
        x = requantise(self.layers[1](x), self.shifts[1], 0, ACTIVATION_MAX)
        more_mu, more_step = self.layers[2](x)[:, :, 0].chunk(2)
        more_mu = requantise(more_mu, self.shifts[2], -2 * MU_LIMIT, 2 * MU_LIMIT)
        more_step = requantise(more_step, self.shifts[3], -SIGMA_STEPS, SIGMA_STEPS)
        return (
            (mu + more_mu).clamp_(-MU_LIMIT, MU_LIMIT),
            (step + more_step).clamp_(0, SIGMA_STEPS - 1),
        )

    def check_exact(self) -> None:
        """Raise ValueError if any sum could leave the integers that float64 holds, or the
        window has no middle."""
        if self.window % 2 == 0:
            raise ValueError("the context sees no odd square")
        check_shifts(self.shifts)
        for layer in self.layers:
            if layer.largest_sum(ACTIVATION_MAX) >= EXACT // 2:
                raise ValueError("a sum of the context could exceed 2^53")
