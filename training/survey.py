"""Statistics of a model's symbols on photos, from which export counts its tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.photos import Photo
from hvqcodec.encoding import Scene, analyse, hyperprior
from hvqcodec.entropy.constants import LATENT_MAX
from hvqcodec.entropy.symbol_coding import Symbols, index_maps, sent_latents
from hvqcodec.models.model import Model
from hvqcodec.pixels import to_blocks


@dataclass
class Survey:
    """Counts over photos at many lambdas."""

    indices: NDArray[np.int64]
    """(3, K)."""
    latents: NDArray[np.int64]
    """(3, latent_channels, 31)."""
    activation_max: NDArray[np.float64]
    """(3, 3): largest output of each hidden layer of each hyper-synthesis."""
    context_max: NDArray[np.float64]
    """(3, 2): of each context, if there are any."""


def scenes(networks: Model, photos: list[Photo]) -> Iterator[Scene]:
    for photo in photos:
        yield analyse(networks, to_blocks(photo))


@torch.inference_mode()
def survey(
    networks: Model,
    photos: list[Photo],
    lambdas: tuple[float, ...],
    map_tables: NDArray[np.int32],
) -> Survey:
    """On the maps that the encoder chooses, under the tables of the map."""
    config = networks.config
    result = Survey(
        np.zeros((3, config.codes), np.int64),
        np.zeros((3, config.latent_channels, 2 * LATENT_MAX + 1), np.int64),
        np.zeros((3, 3)),
        np.zeros((3, 2)),
    )
    for scene in scenes(networks, photos):
        for lambda_ in lambdas:
            symbols = scene.symbols(scene.choose(lambda_, map_tables))
            count_symbols(result, symbols)
            note_activations(result, networks, symbols)
    return result


def count_symbols(result: Survey, symbols: Symbols) -> None:
    codes = result.indices.shape[1]
    masks = symbols.masks()
    for level, (z, mask) in enumerate(zip(symbols.latents, masks, strict=True)):
        result.indices[level] += np.bincount(symbols.indices[level], minlength=codes)
        sent = sent_latents(z, mask).astype(np.int64) + LATENT_MAX
        for channel in range(len(z)):
            result.latents[level, channel] += np.bincount(
                sent[:, channel], minlength=2 * LATENT_MAX + 1
            )


def gaussians(networks: Model, symbols: Symbols, level: int) -> tuple[Tensor, Tensor]:
    """mu and step of the codes of a level in raster order, (N, D), by the float networks."""
    device = networks.codebook.weight.device
    masks = [torch.from_numpy(mask)[None].to(device) for mask in symbols.masks()]
    z = torch.from_numpy(symbols.latents[level])[None].float().to(device)
    maps = [index[None].to(device) for index in index_maps(symbols)]
    pair = networks.gaussians(level, z, masks, maps)
    mu, step = (t[0].permute(1, 2, 0)[masks[level][0]] for t in pair)
    return mu, step


def note_activations(result: Survey, networks: Model, symbols: Symbols) -> None:
    for level, index in enumerate(symbols.indices):
        if not len(index):
            continue
        synthesis = hyperprior(networks, level).synthesis
        hidden: list[tuple[nn.Module, NDArray[np.float64], int]] = [
            (layer, result.activation_max[level], number)
            for number, layer in enumerate((synthesis.conv1, synthesis.conv2, synthesis.conv3))
        ]
        if networks.contexts:
            context = networks.contexts[level]
            hidden += [
                (layer, result.context_max[level], number)
                for number, layer in enumerate((context.layer1, context.layer2))
            ]
        hooks = [layer.register_forward_hook(note_in(*place)) for layer, *place in hidden]
        gaussians(networks, symbols, level)
        for hook in hooks:
            hook.remove()


def note_in(maxima: NDArray[np.float64], place: int) -> Callable[[nn.Module, Any, Tensor], None]:
    """A hook that raises one of the maxima to the largest output."""

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        maxima[place] = max(maxima[place], output.max().item())

    return note
