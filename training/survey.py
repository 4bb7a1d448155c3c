"""Statistics of a model's symbols on photos, from which export counts its tables."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hvqcodec.encoding import Scene, analyse, hyperprior
from hvqcodec.entropy.constants import LATENT_MAX
from hvqcodec.entropy.map_coding import CONTEXTS, Levels, map_flags
from hvqcodec.entropy.symbol_coding import Symbols, sent_latents
from hvqcodec.granularity import level_masks
from hvqcodec.image import to_blocks
from hvqcodec.models.model import Model
from training.data import Photo


@dataclass
class Survey:
    """Counts over photos at many lambdas."""

    indices: NDArray[np.int64]
    """(3, K)."""
    latents: NDArray[np.int64]
    """(3, latent_channels, 31)."""
    map_flags: NDArray[np.int64]
    """(maps, CONTEXTS, 2)."""
    activation_max: NDArray[np.float64]
    """(3, 3): largest output of each hidden layer of each hyper-synthesis."""


def scenes(networks: Model, photos: list[Photo]) -> Iterator[Scene]:
    device = networks.codebook.weight.device
    for photo in photos:
        yield analyse(networks, to_blocks(photo).to(device))


@torch.inference_mode()
def survey(networks: Model, photos: list[Photo], lambdas: tuple[float, ...]) -> Survey:
    config = networks.config
    result = Survey(
        np.zeros((3, config.codes), np.int64),
        np.zeros((3, config.latent_channels, 2 * LATENT_MAX + 1), np.int64),
        np.zeros((0, CONTEXTS, 2), np.int64),
        np.zeros((3, 3)),
    )
    maps = []
    for scene in scenes(networks, photos):
        for lambda_ in lambdas:
            levels = scene.allocate(lambda_)
            symbols = scene.symbols(levels)
            maps.append(flag_counts(levels))
            count_symbols(result, symbols)
            note_activations(result, networks, symbols)
    result.map_flags = np.stack(maps)
    return result


def count_symbols(result: Survey, symbols: Symbols) -> None:
    codes = result.indices.shape[1]
    masks = symbols.masks()
    for level, (z, mask) in enumerate(zip(symbols.latents, masks, strict=True)):
        result.indices[level] += np.bincount(symbols.indices[level], minlength=codes)
        sent = sent_latents(z, mask).reshape(-1, len(z)).astype(np.int64) + LATENT_MAX
        for channel in range(len(z)):
            result.latents[level, channel] += np.bincount(
                sent[:, channel], minlength=2 * LATENT_MAX + 1
            )


def note_activations(result: Survey, networks: Model, symbols: Symbols) -> None:
    masks = level_masks(torch.from_numpy(symbols.levels)[None])
    for level, mask in enumerate(masks):
        if not mask.any():
            continue
        synthesis = hyperprior(networks, level).synthesis
        largest: list[float] = []

        def note(
            module: nn.Module, inputs: object, output: Tensor, into: list[float] = largest
        ) -> None:
            into.append(output.max().item())

        hidden = (synthesis.conv1, synthesis.conv2, synthesis.conv3)
        hooks = [conv.register_forward_hook(note) for conv in hidden]
        z = torch.from_numpy(symbols.latents[level])[None].float()
        device = networks.codebook.weight.device
        synthesis(z.to(device), mask.to(device))
        for hook in hooks:
            hook.remove()
        np.maximum(result.activation_max[level], largest, out=result.activation_max[level])


def flag_counts(levels: Levels) -> NDArray[np.int64]:
    """(CONTEXTS, 2) of one map."""
    contexts, flags = map_flags(levels)
    return np.bincount(2 * contexts + flags, minlength=2 * CONTEXTS).reshape(CONTEXTS, 2)
