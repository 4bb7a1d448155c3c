"""BD-rates of models and checkpoints against the first, in floats: what a run has brought, in a
tenth of the time of the gate (`training.promote`), which alone codes real files. LPIPS and DLP
are in the loss; `effnet` (`benchmarks.witness`) is not.

    python -m training.compare base runs/everything/checkpoint runs/mean/checkpoint \\
        --validation ../shared/data/val.tar --perceptual ../shared/perceptual

Over the middles of the first photos, maps by the distortion head alone, pictures with their
residuals, bits of indices, z and residuals.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.bd_rate import bd_rate
from benchmarks.photos import load_photos
from benchmarks.witness import Witness
from hvqcodec.metrics import LOWER_IS_BETTER
from hvqcodec.metrics.perceptual import load_perceptual
from training.objective import Distortion, Weights
from training.train import start_from
from training.validate import validate

LAMBDAS = (5.0, 3.0, 1.6, 0.9, 0.5)
CODE_BITS = 8.0
"""About what a code costs, at any level."""
JUDGES = ("lpips", "dlp", "effnet", "ms_ssim", "psnr")

Points = list[dict[str, float]]


def difference(first: Points, other: Points, metric: str) -> float:
    """BD-rate in percent: below zero, the other needs fewer bits."""
    curves = [[p[name] for p in points] for points in (first, other) for name in ("bpp", metric)]
    return bd_rate(*curves, lower_is_better=metric in LOWER_IS_BETTER)


def anywhere(point: dict[str, float]) -> dict[str, float]:
    """LPIPS as in the gate: on the grid of the codes and off it."""
    moved = point.pop("lpips_moved", None)
    return point if moved is None else point | {"lpips": (point["lpips"] + moved) / 2}


def told(first: Points, other: Points, metric: str) -> float | str:
    try:
        return round(difference(first, other, metric), 1)
    except ValueError as error:
        return str(error)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="models or checkpoints")
    parser.add_argument("--validation", type=Path, nargs="+", required=True)
    parser.add_argument("--perceptual", type=Path)
    parser.add_argument("--limit-photos", type=int, default=12)
    options = parser.parse_args(arguments)
    photos = load_photos(options.validation, options.limit_photos)
    distortion = Distortion(Weights(), *load_perceptual(options.perceptual))
    witness = Witness()
    first: Points = []
    for name in options.models:
        model, _ = start_from(name, {})
        bits = torch.full((3,), CODE_BITS)
        found = validate(
            model.eval(), photos, distortion, bits, LAMBDAS, residuals=True, witness=witness
        )
        points = [anywhere(point) for point in found]
        first = first or points
        against = {metric: told(first, points, metric) for metric in JUDGES if metric in first[0]}
        print(json.dumps({"model": name, "bd_rate": against, "points": points}), flush=True)


if __name__ == "__main__":
    main()
