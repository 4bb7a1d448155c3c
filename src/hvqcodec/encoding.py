"""The encoder's side: what an image could be sent as, and at what price.

Nothing here is normative: any choice gives a valid file.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqcodec.allocation import allocate
from hvqcodec.arrays import Pixels
from hvqcodec.decoding import synthesise
from hvqcodec.entropy.symbol_coding import Symbols
from hvqcodec.entropy.tables import STATIC_BITS, STATIC_SHARE
from hvqcodec.granularity import BLOCK, COARSE, FINE, LATENT_GRID, MEDIUM, Levels, level_masks
from hvqcodec.models.analysis import cell_distortion
from hvqcodec.models.context import Context
from hvqcodec.models.hyperprior import Hyperprior
from hvqcodec.models.model import Model
from hvqcodec.pixels import to_signal
from hvqcodec.refinement import refine
from hvqcodec.tiling import Progress, Tile, tiles
from hvqcodec.timing import step

ERROR_SHARE, FEATURE_SHARE = 0.25, 0.4
"""How much weight what trial decodings show has beside the predicted distortion, in a geometric
mean: squared error, and what the analysis sees of it. Chosen on validation photos
(training/LOG.md): none of the three is right alone, and they are wrong in different ways."""

ROUNDING_ERROR = 1 / 12
"""Squared, of pixels that are rounded to integers."""
LEAST_DIFFERENCE = 1e-6
"""Of features."""


@dataclass(frozen=True)
class Scene:
    """An analysed image: every block at every granularity, with its price."""

    networks: Model
    embeddings: tuple[Tensor, Tensor, Tensor]
    """Coarse to fine, (1, D, h, w) each."""
    indices: tuple[Tensor, Tensor, Tensor]
    """Nearest entries, (h, w) each."""
    cell_distortion: Tensor
    """(1, 3, H/8, W/8), as `allocate` takes it."""
    cell_bits: Tensor
    """(1, 3, H/8, W/8)."""

    def allocate(self, lambda_: float) -> Levels:
        """The map that minimises distortion + lambda x bits of the codes."""
        price = torch.tensor([lambda_], dtype=torch.float32, device="cpu")
        levels = allocate(self.cell_distortion, self.cell_bits, price)
        return levels[0].to(torch.uint8).numpy()

    def refine(self, levels: Levels, lambda_: float, tables: NDArray[np.int32]) -> Levels:
        """The map with what it costs itself counted in; tables: of the model."""
        cost = self.cell_distortion.double() + lambda_ * self.cell_bits.double()
        refined: Levels = refine(levels[None], cost.numpy(), np.array([lambda_]), tables)[0]
        return refined

    def choose(self, lambda_: float, tables: NDArray[np.int32]) -> Levels:
        """The map that is sent at a lambda."""
        return self.refine(self.allocate(lambda_), lambda_, tables)

    def estimated_bits(self, levels: Levels) -> float:
        """Bits of the codes of a map, z and the map itself not counted."""
        index = torch.from_numpy(levels).long()[None, None]
        return self.cell_bits.gather(1, index).sum().item()

    def measured(
        self, pixels: Pixels, side: int | None = None, progress: Progress | None = None
    ) -> "Scene":
        """With the distortion of every cell corrected by what it is when the whole image is
        sent coarse, medium, or fine. pixels, side: as given to `analyse`."""
        decoded = []
        for level in range(len(self.indices)):
            decoded.append(synthesise(self.networks, self.at_level(level), side))
            if progress:
                progress((level + 1) / (len(self.indices) + 1))
        errors = torch.stack([cell_errors(shown, pixels) for shown in decoded])[None]
        differences = feature_differences(self.networks, decoded, pixels, side)[None]
        if progress:
            progress(1)
        mean = self.cell_distortion.mean()
        errors = scaled(errors.clamp_min(ROUNDING_ERROR), mean)
        differences = scaled(differences.clamp_min(LEAST_DIFFERENCE), mean)
        mixed = self.cell_distortion ** (1 - ERROR_SHARE - FEATURE_SHARE)
        mixed = mixed * errors**ERROR_SHARE * differences**FEATURE_SHARE
        return replace(self, cell_distortion=mixed)

    def at_level(self, level: int) -> Symbols:
        """The whole image at one granularity, without z."""
        rows, columns = self.cell_bits.shape[2:]
        sent = [np.zeros(0, np.int32)] * len(self.indices)
        sent[level] = self.indices[level].flatten().numpy()
        return Symbols(np.full((rows, columns), level, np.uint8), (), tuple(sent))

    def symbols(self, levels: Levels) -> Symbols:
        """What is to be sent for a map; runs the hyper-analysis."""
        device = self.networks.codebook.weight.device
        masks = level_masks(torch.from_numpy(levels)[None])
        latents, indices = [], []
        with step("hyper-analysis"):
            for level, mask in enumerate(masks):
                prior = hyperprior(self.networks, level)
                z = prior.latents(self.embeddings[level].to(device), mask.to(device))
                latents.append(z[0].to(torch.int8).cpu().numpy())
                sent = self.indices[level][mask[0, 0]]
                indices.append(sent.numpy().astype(np.int32))
        return Symbols(levels, tuple(latents), tuple(indices))


def cell_errors(decoded: Pixels, pixels: Pixels) -> Tensor:
    """Mean squared error of each 8x8 cell, (H/8, W/8); a row of cells at a time."""
    columns = pixels.shape[1] // 8
    rows = []
    for top in range(0, len(pixels), 8):
        error = decoded[top : top + 8].astype(np.float32) - pixels[top : top + 8]
        rows.append(np.square(error).reshape(8, columns, -1).mean((0, 2)))
    return torch.from_numpy(np.stack(rows))


def scaled(values: Tensor, mean: Tensor) -> Tensor:
    return values * (mean / values.mean())


@torch.inference_mode()
def feature_differences(
    networks: Model, decoded: Sequence[Pixels], pixels: Pixels, side: int | None
) -> Tensor:
    """How differently the analysis sees each 8x8 cell of decoded images and of the original,
    (N, H/8, W/8): over its three scales, the squared distances of features of unit length,
    summed (`Analysis.unit_features`)."""
    device = networks.codebook.weight.device

    def seen(shown: Pixels) -> list[Tensor]:
        return networks.analysis.unit_features(to_signal(shown).to(device))

    height, width = pixels.shape[:2]
    cell = BLOCK[MEDIUM]
    size = len(decoded), height // cell, width // cell
    differences = torch.zeros(size, dtype=torch.float32, device="cpu")
    for tile in tiles(height, width, networks.analysis.reach, side):
        with step("analysis"):
            # Once more: to keep those of `analyse` would take 35 bytes a pixel.
            original = seen(pixels[tile.outer(1)])
            for cells, shown in zip(differences, decoded, strict=True):
                pairs = zip(seen(shown[tile.outer(1)]), original, strict=True)
                for level, (a, b) in enumerate(pairs):
                    away = BLOCK[level] ** 2 * (a - b).square().sum(1)[0].cpu()
                    cells[tile.inner(cell)] += per_cell(away, level)[tile.within(cell)]
    return differences


@contextmanager
def differentiable(networks: Model) -> Iterator[Model]:
    """Within it there are gradients of the networks, even where a caller has turned them off, and
    where they were copied or unpickled in such a mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield copy.deepcopy(networks) if networks.codebook.weight.is_inference() else networks


def hyperprior(networks: Model, level: int) -> Hyperprior:
    prior = networks.hyperpriors[level]
    assert isinstance(prior, Hyperprior)
    return prior


def context(networks: Model, level: int) -> Context | None:
    """None if the model has none."""
    if not networks.contexts:
        return None
    found = networks.contexts[level]
    assert isinstance(found, Context)
    return found


@torch.inference_mode()
def analyse(
    networks: Model,
    pixels: Pixels,
    static: Tensor | None = None,
    side: int | None = None,
    progress: Progress | None = None,
) -> Scene:
    """pixels: (H, W, 3), sides multiples of 16. static: the static frequencies (3, K) that the
    tables mix in, if there are any yet. side: of the tiles, as in `tiling.tiles`."""
    height, width = pixels.shape[:2]
    coarse, medium, fine = ((height // block, width // block) for block in BLOCK)
    d = networks.config.dimensions
    scene = Scene(
        networks,
        (empty(1, d, *coarse), empty(1, d, *medium), empty(1, d, *fine)),
        (empty_map(*coarse), empty_map(*medium), empty_map(*fine)),
        empty(1, 3, *medium),
        empty(1, 3, *medium),
    )
    reach = networks.analysis.reach + networks.distortion_head.reach
    # On that grid, so that no tile sees another z than the whole image.
    plan = list(tiles(height, width, reach, side, LATENT_GRID))
    for number, tile in enumerate(plan, 1):
        analyse_tile(scene, tile, to_signal(pixels[tile.outer(1)]), static)
        if progress:
            progress(number / len(plan))
    return scene


def empty(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32, device="cpu")


def empty_map(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.int64, device="cpu")


def analyse_tile(scene: Scene, tile: Tile, signal: Tensor, static: Tensor | None) -> None:
    """Fill in what the scene holds of a tile. signal: (1, 3, h, w), halo included."""
    networks = scene.networks
    with step("analysis"):
        analysed = networks.analysis(signal.to(networks.codebook.weight.device))
        distortion = cell_distortion(networks.distortion_head(analysed.features))
    cells, inner_cells = (..., *tile.within(BLOCK[MEDIUM])), (..., *tile.inner(BLOCK[MEDIUM]))
    scene.cell_distortion[inner_cells] = distortion[cells].cpu()
    for level, y in enumerate(analysed.embeddings):
        within, inner = (..., *tile.within(BLOCK[level])), (..., *tile.inner(BLOCK[level]))
        with step("quantiser"):
            index = networks.codebook.nearest(y[0].flatten(1).t())
        with step("estimate of bits"):
            code_bits = estimate_bits(networks, level, y, index)
            if static is not None:
                code_bits = mix_static(code_bits, static[level].to(index.device)[index])
        scene.embeddings[level][inner] = y[within].cpu()
        scene.indices[level][inner] = index.view(y.shape[2:])[within].cpu()
        cell_bits = per_cell(code_bits.view(y.shape[2:]).cpu(), level)
        scene.cell_bits[:, level][inner_cells] = cell_bits[cells]


def estimate_bits(networks: Model, level: int, y: Tensor, index: Tensor) -> Tensor:
    """Bits (N,) of each index of a level if all blocks were sent at it: the float model
    of the very tables that code them."""
    prior = hyperprior(networks, level)
    h, w = y.shape[2:]
    everywhere = torch.ones_like(y[:, :1], dtype=torch.bool)
    nothing = [everywhere.new_zeros(1, h >> k, w >> k) for k in range(level, 0, -1)]
    masks = [*nothing, everywhere[:, 0]]
    maps = [*(mask.long() for mask in nothing), index.view(1, h, w)]
    pair = networks.gaussians(level, prior.latents(y, everywhere), masks, maps)
    mu, sigma = (t[0].flatten(1).t() for t in pair)
    return prior.index_bits(mu, sigma, networks.codebook.entries(), index)


def mix_static(bits: Tensor, static: Tensor) -> Tensor:
    """Bits (N,) once the static share is mixed in; static: frequencies of the indices, (N,)."""
    share = 2.0**-STATIC_SHARE
    mixed: Tensor = -((2.0**-bits + share * static / 2**STATIC_BITS) / (1 + share)).log2()
    return mixed


def per_cell(values: Tensor, level: int) -> Tensor:
    """Values of the blocks of a level, (h, w) -> of each 8x8 cell, with the same sum,
    (H/8, W/8)."""
    if level == COARSE:
        return (values / 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    if level == FINE:
        return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    return values
