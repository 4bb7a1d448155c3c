"""The encoder's last word on z: not what the hyper-analysis guesses, but what spares bits.

A hyper-analysis that has learned from many images does not give the best z of one: the gap of
amortisation, which Yang, Bamler and Mandt (2020, arXiv 2006.04240) close by descent on the rate
itself. Here z goes up or down by one wherever the gradient of the bits of the indices promises
more than z itself will cost, and keeps its promise. Not normative: any z gives a valid file.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.bitstream import WRITTEN
from hvqcodec.encoding import context, differentiable, hyperprior
from hvqcodec.entropy.constants import LATENT_MAX, LATENT_STRIDE
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.symbol_coding import (
    Symbols,
    index_maps,
    latent_frequencies,
    sent_latents,
    sent_positions,
)
from hvqcodec.granularity import BLOCK, COARSE, LATENT_GRID
from hvqcodec.models.model import Model
from hvqcodec.tiling import Progress, tiles

REACH = 2
"""Positions of z around one whose codes it bears on, to each side."""
AROUND = 2 * REACH + 1
TILE = 48
"""Side in positions of z of what is refined at a time: bounds the memory."""


def refine_latents(
    networks: Model,
    normative: Normative,
    symbols: Symbols,
    rounds: int,
    progress: Progress | None = None,
) -> Symbols:
    """The same map and indices, with z that takes fewer bits together with them. rounds: of
    changes at most; eight find nine tenths of what there is to be saved."""
    grids = [torch.from_numpy(mask) for mask in symbols.masks()], index_maps(symbols)
    refined = []
    with differentiable(networks) as learned:
        for level, z in enumerate(symbols.latents):
            masks, maps = (grid[: level + 1] for grid in grids)
            price = latent_prices(normative, level, z, masks[-1].numpy())
            refined.append(refined_level(learned, z, masks, maps, price, rounds))
            if progress:
                progress((level + 1) / len(symbols.latents))
    return replace(symbols, latents=tuple(refined))


def latent_prices(
    normative: Normative, level: int, z: NDArray[np.int8], mask: NDArray[np.bool_]
) -> Tensor:
    """Bits that each value from -16 to 16 costs each z as its turn comes, with tables that have
    learned from those before it, (33, C, hz, wz); the first and last value cannot be had."""
    channels = len(z)
    prices = np.full((*z.shape[1:], channels, 2 * LATENT_MAX + 3), np.inf, np.float32)
    prices[..., LATENT_MAX + 1] = 0  # where none is sent, it is zero for nothing
    pieces = latent_frequencies(normative, level, sent_latents(z, mask), WRITTEN)
    frequencies = [found.reshape(-1, channels, found.shape[1]) for _, found in pieces]
    if frequencies:
        tables = np.concatenate(frequencies)
        bits = np.log2(tables.sum(2, keepdims=True)) - np.log2(tables)
        prices[sent_positions(mask), :, 1:-1] = bits
    return torch.from_numpy(prices).permute(3, 2, 0, 1)


def refined_level(
    networks: Model,
    z: NDArray[np.int8],
    masks: Sequence[Tensor],
    maps: Sequence[Tensor],
    price: Tensor,
    rounds: int,
) -> NDArray[np.int8]:
    """z: (C, hz, wz). masks, maps: (h, w), from the coarsest level to this one. price: of
    `latent_prices`."""
    z = z.copy()
    # Counted in pixels as if the level were the coarse one: a position of z has 64, a code 16.
    rows, columns = (LATENT_GRID * side for side in z.shape[1:])
    for tile in tiles(rows, columns, 2 * REACH * LATENT_GRID, TILE * LATENT_GRID, LATENT_GRID):
        blocks = [BLOCK[COARSE] << finer for finer in reversed(range(len(masks)))]
        known = (
            [grid[tile.outer(block)] for grid, block in zip(grids, blocks, strict=True)]
            for grids in (masks, maps)
        )
        codes = Codes(networks, *known)
        if len(codes.index):
            outer, within = (slice(None), *tile.outer(LATENT_GRID)), tile.within(LATENT_GRID)
            seen = torch.from_numpy(z[outer]).float()
            refined = refined_tile(codes, seen, within, price[:, *outer], rounds)[:, *within]
            z[:, *tile.inner(LATENT_GRID)] = refined.to(torch.int8).numpy()
    return z


def refined_tile(
    codes: "Codes", z: Tensor, within: tuple[slice, slice], price: Tensor, rounds: int
) -> Tensor:
    """z: (C, hz, wz), of which what lies within may change. price: (33, C, hz, wz)."""
    channels = len(z)
    settled = torch.ones(2 * channels, *z.shape[1:], dtype=torch.bool, device=z.device)
    """Changes that are out of the question: minus one of each channel, then plus one."""
    settled[:, *within] = False
    for _ in range(rounds):
        bits, gradient = codes.bits_and_gradient(z)
        now = cost(z, price)
        promised = [cost(z + sign, price) - now + sign * gradient for sign in (-1, 1)]
        change = torch.cat(promised).masked_fill(settled, torch.inf)
        least, which = change.min(0)
        best = -F.max_pool2d(-least[None], AROUND, 1, REACH)[0]
        y, x = ((least < 0) & (least == best)).nonzero(as_tuple=True)
        if not len(y):
            break
        which = which[y, x]
        channel, sign = which % channels, 2 * (which // channels) - 1
        moved = z.clone()
        moved[channel, y, x] += sign
        more = codes.bits(moved) - bits + (cost(moved, price) - now).sum(0)
        more = F.avg_pool2d(more[None], AROUND, 1, REACH, divisor_override=1)[0]
        kept = more[y, x] < 0
        moved[channel, y, x] -= sign * ~kept
        settled[which, y, x] = True
        settled[(which + channels) % (2 * channels), y, x] |= kept
        z = moved
    return z


def cost(z: Tensor, price: Tensor) -> Tensor:
    """Bits of each value, (C, hz, wz)."""
    return price.gather(0, (z.long() + LATENT_MAX + 1)[None])[0]


class Codes:
    """The codes of a level in a tile, and what their bits depend on beside z."""

    def __init__(self, networks: Model, masks: Sequence[Tensor], maps: Sequence[Tensor]) -> None:
        """masks, maps: (h, w), from the coarsest level to this one."""
        level = len(masks) - 1
        self.device = networks.codebook.weight.device
        masks, maps = ([grid[None].to(self.device) for grid in grids] for grids in (masks, maps))
        self.prior, self.context = hyperprior(networks, level), context(networks, level)
        self.entries = networks.codebook.entries().detach()
        self.mask = masks[-1][:, None]
        numbers = torch.arange(self.mask.numel(), device=self.device).view_as(masks[-1])
        self.places = numbers[masks[-1]]
        """Of the codes in the grid of the level, (N,)."""
        if self.context:
            with torch.no_grad():
                turns = [
                    (numbers[:, *where][chosen], self.context.seen(surroundings))
                    for where, chosen, surroundings in self.context.by_turn(
                        self.entries, masks, maps
                    )
                ]
            if turns:
                self.places, self.seen = (torch.cat(parts) for parts in zip(*turns, strict=True))
        self.index = maps[-1].flatten()[self.places]

    def gaussians(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z: (C, hz, wz). Returns mu and step of each code, (N, D)."""
        pair = self.prior.synthesis(z[None].to(self.device), self.mask)
        mu, step = (t[0].flatten(1).t()[self.places] for t in pair)
        return self.context.correct(self.seen, mu, step) if self.context else (mu, step)

    def by_position(self, bits: Tensor) -> Tensor:
        """Bits of the codes, (N,), to those of the codes under each position of z, (hz, wz)."""
        h, w = self.mask.shape[2:]
        grid = bits.new_zeros(h * w).index_put((self.places,), bits).view(1, 1, h, w)
        grid = F.pad(grid, (0, -w % LATENT_STRIDE, 0, -h % LATENT_STRIDE))
        return F.avg_pool2d(grid, LATENT_STRIDE, divisor_override=1)[0, 0].cpu()

    @torch.no_grad()
    def bits(self, z: Tensor) -> Tensor:
        """By position, (hz, wz)."""
        return self.by_position(self.prior.index_bits(*self.gaussians(z), self.entries, self.index))

    def bits_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the gradient of their sum to z, (C, hz, wz)."""
        z = z.detach().requires_grad_()
        gaussians = self.gaussians(z)
        bits, *to_gaussians = self.prior.index_bits_and_gradients(
            *gaussians, self.entries, self.index
        )
        (gradient,) = torch.autograd.grad(gaussians, z, to_gaussians)
        return self.by_position(bits), gradient
