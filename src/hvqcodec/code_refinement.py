"""The encoder's word on codes: not the nearest ones, but those that look better once decoded.

The analysis guesses embeddings for all images alike, and each code is the entry nearest to one.
Here the embeddings of one image go down the gradient of what matters, distortion + lambda x bits,
through the nearest entry straight to the synthesis (Campos et al. 2019, arXiv 1906.01879, for
latents that are rounded). Distortion is squared error and what the analysis sees of it, in ever
other views: in one and the same it would soon be deceived. Not normative: any indices give a
valid file.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from hvqcodec.arrays import Pixels
from hvqcodec.encoding import Scene, differentiable
from hvqcodec.entropy.symbol_coding import Symbols, index_maps
from hvqcodec.granularity import BLOCK, LATENT_GRID, MEDIUM, repeat
from hvqcodec.latent_refinement import Codes
from hvqcodec.memory import release_memory
from hvqcodec.models.model import Model
from hvqcodec.pixels import to_signal
from hvqcodec.tiling import Progress, Tile, tiles
from hvqcodec.views import View, random_view

FIRST_MOVE, LAST_MOVE = 0.12, 0.012
"""How far the codes of a level move in a step, on the unit sphere, in the root mean square: ever
less, evenly in the logarithm. In longer moves, or in many more of them, the analysis is deceived
all the same."""
FARTHEST = 3.0
"""Times that, for a single code."""
LEAST = 1e-30
"""Length of a gradient: not to divide by zero."""
ERROR, FEATURES = 44.0, 2.0
"""Weights: of the squared error of RGB in [0, 1], and of the squared distances of features of unit
length, summed over the scales of the analysis. A lambda then counts about as much as in training,
which knows LPIPS and DLP."""
SHIFT = 8
"""Pixels by which pictures move before the analysis looks: all places of its finer grids."""
TEMPERATURE = 0.04
"""Of the assignment of an embedding to the entries around it, whose bits it is taken to cost: as in
training, in squared distance."""
MOST_BITS = 18.0
"""That an index is taken to cost: about what the static share lets a seldom one."""
TILE, HALO = 512, 64
"""Pixels: side of what is refined at a time, and what is decoded around it. Bounds the memory."""
WHOLE = 768 * 768
"""Pixels up to which an image is refined as a whole: a small one has memory to spare, and halos
would be much of it."""
ROWS = 4096
"""Codes whose bits are weighed at a time, likewise."""


def refine_codes(
    scene: Scene,
    pixels: Pixels,
    symbols: Symbols,
    lambda_: float,
    steps: int,
    weights: Tensor | None = None,
    grey: bool = False,
    side: int | None = None,
    progress: Progress | None = None,
) -> Symbols:
    """The same map and z, with indices that look better for their bits.

    pixels: (H, W, 3), those that were analysed. steps: of the descent. weights: how much
    errors count in each 8x8 cell, (H/8, W/8). grey: colours will be dropped. side: of the tiles
    at most, where those are too large.
    """
    rows, columns = (-(-side // LATENT_GRID) * LATENT_GRID for side in pixels.shape[:2])
    most = max(rows, columns) if rows * columns <= WHOLE else TILE
    plan = list(tiles(rows, columns, HALO, min(side or most, most), LATENT_GRID))
    generator = Generator("cpu").manual_seed(0)  # on the CPU an image gives the same file each time
    with differentiable(scene.networks) as networks:
        scene = replace(scene, networks=networks)
        masks, maps = [torch.from_numpy(mask) for mask in symbols.masks()], index_maps(symbols)
        for number, tile in enumerate(plan):

            def told(share: float, number: int = number) -> None:
                if progress:
                    progress((number + share) / len(plan))

            part = part_of(scene, pixels, symbols, masks, maps, weights, grey, tile)
            found = part.refined(lambda_, moves(steps), generator, told)
            for index, refined, block in zip(maps, found, BLOCK, strict=True):
                index[tile.inner(block)] = refined[tile.within(block)]
            release_memory()
    indices = [
        index[mask].numpy().astype(np.int32) for index, mask in zip(maps, masks, strict=True)
    ]
    return replace(symbols, indices=tuple(indices))


def part_of(
    scene: Scene,
    pixels: Pixels,
    symbols: Symbols,
    masks: Sequence[Tensor],
    maps: Sequence[Tensor],
    weights: Tensor | None,
    grey: bool,
    tile: Tile,
) -> "Part":
    """The tile with its halo, on the networks' device."""
    networks, device = scene.networks, scene.networks.codebook.weight.device
    outer = [tile.outer(block) for block in BLOCK]
    sent = [mask[where] for mask, where in zip(masks, outer, strict=True)]
    free = [torch.zeros_like(mask) for mask in sent]
    for mask, inner, block in zip(sent, free, BLOCK, strict=True):
        inner[tile.within(block)] = mask[tile.within(block)]
    cells = tile.outer(BLOCK[MEDIUM])
    counts = None if weights is None else weights[cells][None, None].float()
    return Part(
        networks,
        (to_signal(pixels[tile.outer(1)]).to(device) + 1) / 2,
        torch.from_numpy(symbols.levels[cells])[None].to(device),
        sent,
        free,
        [index[where].clone() for index, where in zip(maps, outer, strict=True)],
        [y[..., *where][0].to(device) for y, where in zip(scene.embeddings, outer, strict=True)],
        [
            torch.from_numpy(z[:, *tile.outer(LATENT_GRID >> level)]).float()
            for level, z in enumerate(symbols.latents)
        ],
        None if counts is None else repeat(counts, BLOCK[MEDIUM]).to(device),
        grey,
    )


@dataclass
class Part:
    """Of an image, what is refined at a time, and what surrounds it. Lists go by level."""

    networks: Model
    target: Tensor
    """RGB in [0, 1], (1, 3, h, w)."""
    levels: Tensor
    """(1, h/8, w/8)."""
    sent: list[Tensor]
    free: list[Tensor]
    """Booleans on the grid of the level: codes that there are, and those that may change."""
    maps: list[Tensor]
    """Indices on that grid."""
    embeddings: list[Tensor]
    """(D, rows, columns) each."""
    latents: list[Tensor]
    weights: Tensor | None
    """How much errors count, (1, 1, h, w)."""
    grey: bool

    def refined(
        self,
        lambda_: float,
        sizes: Sequence[float],
        generator: Generator,
        progress: Callable[[float], None],
    ) -> list[Tensor]:
        """The maps, with better indices where they are free to change."""
        price = lambda_ / self.target[0, 0].numel()
        vectors = [
            y.permute(1, 2, 0)[free].clone().requires_grad_()
            for y, free in zip(self.embeddings, self.free, strict=True)
        ]
        counts = [self.counts(level) for level in range(len(vectors))]
        self.choose(vectors)
        # What entries cost changes little while so few codes do.
        bits = [self.bits(level) for level in range(len(vectors))]
        for step, size in enumerate(sizes, 1):
            units = [F.normalize(vector, dim=1) for vector in vectors]
            loss = self.distortion(self.decode(units), random_view(SHIFT, generator), generator)
            for unit, costs in zip(units, bits, strict=True):
                loss = loss + price * (unit * self.towards_bits(unit.detach(), costs)).sum()
            gradients = torch.autograd.grad(loss, vectors)
            for vector, gradient, weights in zip(vectors, gradients, counts, strict=True):
                move(vector, gradient, size, weights)
            self.choose(vectors)
            progress(step / len(sizes))
        return self.maps

    def choose(self, vectors: Sequence[Tensor]) -> None:
        """The nearest entries."""
        for index, free, vector in zip(self.maps, self.free, vectors, strict=True):
            found = self.networks.codebook.nearest(F.normalize(vector.detach(), dim=1))
            index[free] = found.cpu()

    def decode(self, units: Sequence[Tensor]) -> Tensor:
        """RGB about [0, 1], whose gradient goes straight to the embeddings of free codes."""
        entries, grids = self.networks.codebook.entries(), []
        for index, free, unit in zip(self.maps, self.free, units, strict=True):
            grid = F.embedding(index.to(entries.device), entries)
            places = free.to(entries.device).nonzero(as_tuple=True)
            moved = grid[places] + unit - unit.detach()
            grids.append(grid.index_put(places, moved).permute(2, 0, 1)[None])
        decoded: Tensor = self.networks.synthesis(tuple(grids), self.levels)
        if self.grey:
            decoded = decoded.mean(1, keepdim=True).expand_as(decoded)
        return (decoded + 1) / 2

    def distortion(self, decoded: Tensor, view: View, generator: Generator) -> Tensor:
        """Per pixel."""
        loss = ERROR * self.mean((decoded - self.target).square().mean(1, keepdim=True))
        seen = view.look(view.place(decoded), view.place(self.target), generator)
        features = self.networks.analysis.unit_features
        with torch.no_grad():
            original = features(2 * seen[1] - 1)
        for a, b in zip(features(2 * seen[0] - 1), original, strict=True):
            loss = loss + FEATURES * self.mean((a - b).square().sum(1, keepdim=True), view)
        return loss

    def mean(self, errors: Tensor, view: View | None = None) -> Tensor:
        """Of (1, 1, h, w), weighed."""
        if self.weights is None:
            return errors.mean()
        weights = view.place(self.weights) if view else self.weights
        size = errors.shape[2], errors.shape[3]
        return (errors * F.adaptive_avg_pool2d(weights, size)).mean()

    def counts(self, level: int) -> Tensor | None:
        """How much errors count in each free code of a level, (N,)."""
        if self.weights is None:
            return None
        counts = F.avg_pool2d(self.weights, BLOCK[level])[0, 0]
        return counts[self.free[level].to(counts.device)]

    @torch.no_grad()
    def bits(self, level: int) -> Tensor:
        """Of each entry for each free code of a level, given the codes around, (N, K)."""
        free, sent = self.free[level], self.sent[level]
        codes = Codes(self.networks, self.sent[: level + 1], self.maps[: level + 1])
        if not free.any():
            return codes.entries.new_zeros(0, len(codes.entries))
        order = codes.places.argsort()  # raster order
        chosen = order[free[sent].to(order.device)]
        mu, step = (t[chosen] for t in codes.gaussians(self.latents[level]))
        costs = []
        for m, s in zip(torch.split(mu, ROWS), torch.split(step, ROWS), strict=True):
            nats = -torch.log_softmax(codes.prior.index_logits(m, s, codes.entries), 1)
            costs.append((nats / math.log(2)).clamp_max_(MOST_BITS))
        return torch.cat(costs)

    def towards_bits(self, unit: Tensor, costs: Tensor) -> Tensor:
        """The gradient to embeddings (N, D) of the bits that the entries around them cost,
        weighed by how near they are. costs: (N, K)."""
        entries = self.networks.codebook.entries()
        found = []
        for u, bits in zip(torch.split(unit, ROWS), torch.split(costs, ROWS), strict=True):
            share = torch.softmax(2 / TEMPERATURE * u @ entries.t(), 1)
            mean = share @ entries
            paid = share.mul_(bits)
            expected = paid.sum(1, keepdim=True)
            found.append(2 / TEMPERATURE * (paid @ entries - expected * mean))
        return torch.cat(found)


def moves(steps: int) -> list[float]:
    """How far codes move in each step."""
    found: list[float] = np.geomspace(FIRST_MOVE, LAST_MOVE, steps).tolist()
    return found


@torch.no_grad()
def move(vectors: Tensor, gradients: Tensor, size: float, weights: Tensor | None = None) -> None:
    """Down the gradients, (N, D) both, by `size` in the root mean square over the vectors, in
    place. weights: how much each counts, (N,); those that do move as far as if all did."""
    lengths = gradients.norm(dim=1, keepdim=True)
    usual = lengths.square().mean().sqrt()
    if weights is not None:
        usual = usual * weights.square().mean().sqrt() / weights.mean()
    shorter = (FARTHEST * usual / lengths.clamp_min(LEAST)).clamp_max(1)
    vectors.sub_(size / usual.clamp_min(LEAST) * shorter * gradients)
