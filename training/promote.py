"""The gate: a candidate becomes the embedded model only if real files say so.

    python -m training.promote runs/first/model.safetensors \\
        --validation ../shared/data/val.tar --perceptual ../shared/perceptual

Codes the validation photos with the candidate and with the embedded model. The candidate
is promoted if its BD-rate against the embedded one is below zero on the mean of LPIPS, DLP
and MS-SSIM and above +2 % on none. LPIPS counts as the mean of the picture and of the picture
without its first two rows and columns, so that nothing is won by looking right on the grid of
the codes alone. Each promotion adds its megabytes to the history of
the repository: expect at most ten in all. Afterwards make golden streams for the new
model with `tests/make_golden.py` and commit both.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from benchmarks.bd_rate import bd_rate
from benchmarks.codecs import hvq
from benchmarks.points import Point, curve, measure
from hvqcodec import Codec
from hvqcodec.doctor import sample_picture
from hvqcodec.metrics import Metrics
from hvqcodec.metrics.measuring import Distance
from hvqcodec.models.cards import DEFAULT, list_models, model_path
from training.data import load_photos
from training.validate import MOVED

RATES = (0.07, 0.1, 0.15, 0.2, 0.3)
JUDGES = ("lpips_anywhere", "dlp", "ms_ssim")
WORSE_AT_MOST = 2.0
WEIGHTS = Path(__file__).parent.parent / "src" / "hvqcodec" / "weights"


def judge(points: Sequence[Point]) -> dict[str, float]:
    """BD-rate of 'candidate' against 'present' in percent, by metric."""
    return {
        metric: bd_rate(
            *curve(points, "present", metric),
            *curve(points, "candidate", metric),
            lower_is_better=metric != "ms_ssim",
        )
        for metric in JUDGES
    }


def passes(verdict: dict[str, float]) -> bool:
    return float(np.mean(list(verdict.values()))) < 0 and max(verdict.values()) <= WORSE_AT_MOST


def anywhere(distance: Distance) -> Distance:
    """The mean of a distance over the pictures and over the pictures without their first
    `MOVED` rows and columns."""

    def measured(a: Tensor, b: Tensor) -> Tensor:
        return (distance(a, b) + distance(a[..., MOVED:, MOVED:], b[..., MOVED:, MOVED:])) / 2

    return measured


def measure_model(name: str, model: Path, photos: list[Path], metrics: Metrics) -> list[Point]:
    contender = hvq(str(model), RATES)
    points = []
    for rate in RATES:
        point = measure(contender, rate, photos, metrics)
        points.append(Point(name, rate, point.means))
        shown = {k: round(point.means[k], 4) for k in ("bpp", "psnr", "lpips", *JUDGES)}
        print(json.dumps({"model": name, "target": rate} | shown), flush=True)
    return points


def install(model: Path, facts: dict[str, Any], name: str = DEFAULT) -> None:
    """Copy the model and its card, with the figures added, into the package, and beside them
    the file by which `hvq doctor` sees that other machines decode the same."""
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    card = json.loads(model.with_suffix(".json").read_text()) | facts
    (WEIGHTS / f"{name}.hvq").write_bytes(Codec.load(model).compress(sample_picture()))
    shutil.copyfile(model, WEIGHTS / f"{name}.safetensors")
    (WEIGHTS / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("candidate", type=Path, help="a .safetensors file with its card beside it")
    parser.add_argument("--validation", type=Path, nargs="+", required=True)
    parser.add_argument("--perceptual", type=Path, required=True)
    parser.add_argument("--limit-photos", type=int)
    options = parser.parse_args(arguments)

    metrics = Metrics(options.perceptual)
    metrics.distances["lpips_anywhere"] = anywhere(metrics.distances["lpips"])
    with tempfile.TemporaryDirectory() as folder:
        photos = []
        for number, pixels in enumerate(load_photos(options.validation, options.limit_photos)):
            photos.append(Path(folder) / f"{number:03}.png")
            Image.fromarray(pixels).save(photos[-1], compress_level=1)
        points = measure_model("candidate", options.candidate, photos, metrics)
        facts: dict[str, Any] = {"validation": {f"{p.setting:g}": p.means for p in points}}
        if DEFAULT in list_models():
            points += measure_model("present", model_path(DEFAULT), photos, metrics)
            verdict = judge(points)
            print(json.dumps({"bd_rate_percent": verdict}))
            if not passes(verdict):
                raise SystemExit("not promoted: the embedded model stays")
            facts["bd_rate_against_predecessor"] = verdict
    install(options.candidate, facts)
    print(f"promoted: {options.candidate} is now the embedded model {DEFAULT!r}")


if __name__ == "__main__":
    main()
