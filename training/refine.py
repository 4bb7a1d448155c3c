"""Train the hyperpriors alone, on a frozen autoencoder and on the maps that encoders make.

    python -m training.refine runs/base/checkpoint runs/base/refined \\
        --photos ../shared/data/train-*.tar --minutes 6

The rest of a model has its learning behind it and costs most of a step; this costs a
fraction. The output is a checkpoint to export from.
"""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hvqcodec.granularity import allocate, level_masks
from hvqcodec.models.model import Model
from training import checkpoint
from training.data import batches, load_photos
from training.export import networks_of
from training.masks import random_lambdas, random_maps
from training.objective import Distortion, Objective, Weights
from training.optimisers import make_optimisers

CODES_PER_CELL = (0.25, 1.0, 4.0)
LAMBDAS = (0.25, 12.0)
RANDOM_MAPS = 0.1
"""Share of maps of every other kind, so that none of them comes as a surprise."""


def bits_per_pixel(objective: Objective, image: Tensor) -> tuple[Tensor, float, float]:
    """Loss, index bits and z bits of a batch in bits per pixel; image: RGB in [0, 1]."""
    model = objective.model
    batch, _, height, width = image.shape
    with torch.no_grad():
        analysed = model.analysis(2 * image - 1)
        cells = 64 * model.distortion_head(analysed.features).clamp(-12, 6).exp()
        codes = torch.tensor(CODES_PER_CELL, device=image.device)
        lambdas = random_lambdas(batch, *LAMBDAS).to(image.device)
        levels = allocate(cells, objective.code_bits * codes, lambdas)
        odd = torch.rand(batch, device=image.device) < RANDOM_MAPS
        others = random_maps(batch, height // 8, width // 8, image.device)
        levels = torch.where(odd[:, None, None], others, levels)
    index_bits = z_bits = image.new_zeros(batch)
    for level, mask in enumerate(level_masks(levels)):
        y = analysed.embeddings[level]
        index = model.codebook.nearest(y.permute(0, 2, 3, 1)[mask[:, 0]])
        level_index_bits, level_z_bits, _ = objective.level_bits(level, y, mask, index, soft=False)
        index_bits = index_bits + level_index_bits
        z_bits = z_bits + level_z_bits
    pixels = image[:, 0].numel()
    loss = (index_bits.sum() + z_bits.sum()) / pixels
    return loss, index_bits.sum().item() / pixels, z_bits.sum().item() / pixels


def refine(model: Model, code_bits: Tensor, options: argparse.Namespace) -> Model:
    """The averaged model after so many minutes."""
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith("hyperpriors."))
    average = copy.deepcopy(model)
    weights = Weights()
    objective = Objective(
        model,
        Distortion(weights, None, None),
        weights,
        samples=options.samples,
        code_bits=code_bits,
    )
    optimiser = make_optimisers(model, 0.0, options.lr)["adamw"]
    source = batches(load_photos(options.photos), options.batch, options.crop, seed=1)
    begin = time.monotonic()
    sums = torch.zeros(2)
    step = 0
    while (share := (time.monotonic() - begin) / (60 * options.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * min(1.0, (step + 1) / 50) * (1 - share)
        with torch.autocast("cpu", torch.bfloat16):
            loss, index, z = bits_per_pixel(objective, next(source))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step += 1
        decay = min(0.998, 1 - 1 / step)
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        sums += torch.tensor([index, z])
        if step % 100 == 0:
            index, z = (sums / 100).tolist()
            minutes = round((time.monotonic() - begin) / 60, 2)
            print(
                json.dumps({"step": step, "minutes": minutes, "index": index, "z": z}), flush=True
            )
            sums.zero_()
    return average


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path, help="folder of the refined checkpoint")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--samples", type=int, default=1536, help="codes per level and batch")
    options = parser.parse_args(arguments)

    model, facts = networks_of(options.checkpoint)
    model = refine(model, torch.tensor(facts["code_bits"]), options)
    tensors, _ = checkpoint.load(options.checkpoint)
    tensors = {"usage": tensors["usage"]} | {f"ema.{k}": v for k, v in model.state_dict().items()}
    facts["refined_minutes"] = options.minutes
    checkpoint.save(options.output, tensors, facts)


if __name__ == "__main__":
    main()
