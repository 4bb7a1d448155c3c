"""Crops with the codes that the encoder chooses for them by descent: what the synthesis will be
given, which is not what the analysis guesses.

    python -m training.coded runs/coded --photos ../shared/data/train-*.tar --minutes 20 --seed 0

Adds parts to a folder, of which `training.realism --coded` makes batches. Several processes, each
with a seed of its own, may fill the same one.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.photos import Photo, load_photos
from hvqcodec.codec import CODE_STEPS
from hvqcodec.entropy.symbol_coding import index_maps
from hvqcodec.granularity import BLOCK, MEDIUM
from hvqcodec.image import read_picture
from hvqcodec.models.cards import DEFAULT
from hvqcodec.models.zoo import LoadedModel, load_model
from hvqcodec.picture_coding import PictureCoder
from hvqcodec.tiling import Stages
from training.crops import random_crop
from training.masks import LAMBDAS

CROPS = 32
"""In a part."""
GRIDS = ("coarse", "medium", "fine")


@dataclass(frozen=True)
class CodedCrops:
    """A batch of crops and how they are sent."""

    image: Tensor
    """RGB in [0, 1], (B, 3, H, W)."""
    levels: Tensor
    """(B, H/8, W/8)."""
    maps: list[Tensor]
    """Indices, coarse to fine, (B, H/16, W/16), (B, H/8, W/8), (B, H/4, W/4); zero where none is
    sent."""
    lambdas: Tensor
    """(B,)."""

    def to(self, device: torch.device) -> "CodedCrops":
        return CodedCrops(
            self.image.to(device),
            self.levels.to(device),
            [grid.to(device) for grid in self.maps],
            self.lambdas.to(device),
        )


def coded(model: LoadedModel, crop: Photo, lambda_: float) -> dict[str, NDArray[Any]]:
    """As the encoder would code it, in arrays as small as can be."""
    coder = PictureCoder(model, read_picture(crop), None, Stages(None))
    draft = coder.refine_codes(coder.at(lambda_), CODE_STEPS["best"])
    assert draft.symbols
    grids = zip(GRIDS, index_maps(draft.symbols), strict=True)
    return {
        "image": crop,
        "levels": draft.symbols.levels,
        "lambdas": np.float32(lambda_),
        **{name: grid.numpy().astype(np.int16) for name, grid in grids},
    }


def coded_batches(folder: Path, batch: int, size: int, seed: int) -> Iterator[CodedCrops]:
    """Endless batches of what a folder has, cut to crops of `size`, a multiple of 16. Raises
    SystemExit where it has nothing."""
    parts = [np.load(path) for path in sorted(folder.glob("*.npz"))]
    if not parts:
        raise SystemExit(f"{folder} has no coded crops: training.coded makes them")
    kept = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
    side, rng = kept["image"].shape[1], np.random.default_rng(seed)
    while True:
        picks = rng.integers(len(kept["image"]), size=batch)
        corners = 16 * rng.integers((side - size) // 16 + 1, size=(batch, 2))
        places = list(zip(picks, *corners.T, strict=True))
        image = cut(kept["image"], places, size, 1).permute(0, 3, 1, 2)
        yield CodedCrops(
            image.float().div_(255).contiguous(memory_format=torch.channels_last),
            cut(kept["levels"], places, size, BLOCK[MEDIUM]).long(),
            [cut(kept[n], places, size, b).long() for n, b in zip(GRIDS, BLOCK, strict=True)],
            torch.from_numpy(kept["lambdas"][picks]),
        )


def cut(
    arrays: NDArray[Any], places: Sequence[tuple[int, int, int]], size: int, block: int
) -> Tensor:
    """Squares of `size` pixels at (picture, top, left), of arrays that have a row and a column
    for each so many."""
    side = size // block
    rows = [(k, y // block, x // block) for k, y, x in places]
    return torch.from_numpy(np.stack([arrays[k, y : y + side, x : x + side] for k, y, x in rows]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="tar files, folders")
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--crop", type=int, default=224, help="side, a multiple of 16")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-photos", type=int)
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    model, photos = load_model(options.model), load_photos(options.photos, options.limit_photos)
    options.folder.mkdir(parents=True, exist_ok=True)
    first = len(list(options.folder.glob(f"{options.seed}-*.npz")))
    rng = np.random.default_rng([options.seed, first])
    for number in count(first):
        made = []
        for _ in range(CROPS):
            photo = photos[rng.integers(len(photos))]
            crop = np.ascontiguousarray(random_crop(photo, options.crop, rng))
            made.append(coded(model, crop, math.exp(rng.uniform(*np.log(LAMBDAS)))))
        part = {name: np.stack([one[name] for one in made]) for name in made[0]}
        path = options.folder / f"{options.seed}-{number}.npz"
        np.savez_compressed(path, **part)
        print(f"{path}: {len(made)} crops", flush=True)
        if time.monotonic() >= end:
            break


if __name__ == "__main__":
    main()
