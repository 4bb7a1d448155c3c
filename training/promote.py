"""The gate: a candidate becomes the embedded model only if real files say so.

    python -m training.promote runs/first/model.safetensors \\
        --validation ../shared/data/val.tar --perceptual ../shared/perceptual

Codes the validation photos with the candidate and with the embedded model. The candidate
is promoted if its BD-rate against the embedded one is below zero on the mean of LPIPS, DLP,
EffNet (`benchmarks.witness`: the one that is not in the loss) and MS-SSIM and above +2 % on none,
and if it looks no less natural: its Fréchet distance
(`benchmarks.frechet`) at equal rates at most 5 % larger. A graft (`training.graft`), which reads
the files that there are, is also promoted for looking more natural: its Fréchet distance more
than 10 % smaller and none of the four above +5 %; look at it as well. Those files, decoded by
it, may be no more than 5 % worse on anything. LPIPS counts as the mean of the picture and of the
picture without its first two rows and columns, so that nothing is won by looking right on the
grid of the codes alone.

With `--keep-as NAME` the embedded model stays in the package under another name, so that files
made with it are decoded as before: wanted where the candidate has another fingerprint.

Each promotion adds its megabytes to the history of the repository: expect at most ten in all.
Afterwards make golden streams for the new model with `tests/make_golden.py`, unless it is a
graft, and commit both.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.bd_rate import bd_rate
from benchmarks.codecs import Contender, hvq
from benchmarks.frechet import Crowd, crowd_of, frechet_distance
from benchmarks.photos import MOVED, load_photos, read_photo
from benchmarks.points import Point, curve, measure
from benchmarks.witness import Witness
from hvqcodec import Codec
from hvqcodec.arrays import Pixels
from hvqcodec.doctor import sample_picture
from hvqcodec.metrics import Metrics
from hvqcodec.metrics.measuring import Distance
from hvqcodec.metrics.perceptual import LPIPS
from hvqcodec.models.cards import DEFAULT, card_of, list_models, model_path
from training.graft import is_graft

RATES = (0.07, 0.1, 0.15, 0.2, 0.3)
JUDGES = ("lpips_anywhere", "dlp", "effnet", "ms_ssim")
WORSE_AT_MOST, LESS_NATURAL_AT_MOST = 2.0, 5.0
NATURAL_WORSE_AT_MOST, NATURAL_GAIN = 5.0, -10.0
"""Closeness and naturalness are at odds (Blau and Michaeli 2018, arXiv 1711.06077): the
second is not had for nothing."""
OLD_FILES_WORSE_AT_MOST = 5.0
WEIGHTS = Path(__file__).parent.parent / "src" / "hvqcodec" / "weights"


def judge(points: Sequence[Point], name: str = "candidate") -> dict[str, float]:
    """BD-rate of the points of this name against those of 'present' in percent, by metric, and
    by how much their Fréchet distance is larger."""
    verdict = {
        metric: bd_rate(
            *curve(points, "present", metric),
            *curve(points, name, metric),
            lower_is_better=metric != "ms_ssim",
        )
        for metric in JUDGES
    }
    return verdict | {"frechet": larger_frechet(points, name)}


def larger_frechet(points: Sequence[Point], name: str) -> float:
    """Percent, geometric mean over the rates, which both share. No BD-rate: its curves need a
    span of quality in common, which those of the best grafts lack."""
    logs = [
        np.log([p.means["frechet"] for p in points if p.codec == codec])
        for codec in (name, "present")
    ]
    return float(100 * np.expm1((logs[0] - logs[1]).mean()))


def passes(verdict: dict[str, float], old_files: dict[str, float] | None = None) -> bool:
    """old_files: of a graft, the verdict on the files of the present model."""
    close = [verdict[metric] for metric in JUDGES]
    better = (
        float(np.mean(close)) < 0
        and max(close) <= WORSE_AT_MOST
        and verdict["frechet"] <= LESS_NATURAL_AT_MOST
    )
    if old_files is None:
        return better
    natural = verdict["frechet"] < NATURAL_GAIN and max(close) <= NATURAL_WORSE_AT_MOST
    return (better or natural) and max(old_files.values()) <= OLD_FILES_WORSE_AT_MOST


def anywhere(distance: Distance) -> Distance:
    """The mean of a distance over the pictures and over the pictures without their first
    `MOVED` rows and columns."""

    def measured(a: Tensor, b: Tensor) -> Tensor:
        return (distance(a, b) + distance(a[..., MOVED:, MOVED:], b[..., MOVED:, MOVED:])) / 2

    return measured


def measure_model(
    name: str, contender: Contender, photos: list[Path], metrics: Metrics, originals: Crowd
) -> list[Point]:
    points = []
    for rate in RATES:
        crowd = Crowd(originals.network)

        def measured(photo: Pixels, decoded: Pixels, crowd: Crowd = crowd) -> dict[str, float]:
            crowd.add(decoded)
            return metrics(photo, decoded)

        means = measure(contender, rate, photos, measured).means
        means |= {"frechet": frechet_distance(originals, crowd)}
        points.append(Point(name, rate, means))
        shown = {k: round(means[k], 4) for k in ("bpp", "psnr", "lpips", *JUDGES, "frechet")}
        print(json.dumps({"model": name, "target": rate} | shown), flush=True)
    return points


def remembered(contender: Contender) -> Contender:
    """One that codes a photo at a rate once."""
    files: dict[tuple[bytes, float], bytes] = {}

    def encode(image: Image.Image, rate: float) -> bytes:
        key = hashlib.sha256(image.tobytes()).digest(), rate
        if key not in files:
            files[key] = contender.encode(image, rate)
        return files[key]

    return replace(contender, encode=encode)


def keep(name: str) -> None:
    """Give the embedded model another name, by which its files still find it."""
    for path in sorted(WEIGHTS.glob(f"{DEFAULT}.*")):
        path.rename(WEIGHTS / f"{name}{path.suffix}")


def install(model: Path, facts: dict[str, Any], name: str = DEFAULT) -> None:
    """Copy the model and its card, with the figures added, into the package, and beside them
    the file by which `hvq doctor` sees that other machines decode the same."""
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    card = card_of(model) | facts
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
    parser.add_argument("--keep-as", metavar="NAME", help="of the model that is embedded now")
    options = parser.parse_args(arguments)

    if options.keep_as in list_models():
        parser.error(f"there is a model {options.keep_as!r} already")
    metrics = Metrics(options.perceptual)
    network = metrics.distances.get("lpips")
    if not isinstance(network, LPIPS) or "dlp" not in metrics.distances:
        parser.error(f"{options.perceptual} does not hold the networks of both LPIPS and DLP")
    metrics.distances["lpips_anywhere"] = anywhere(network)
    metrics.distances["effnet"] = Witness()
    with tempfile.TemporaryDirectory() as folder:
        photos = []
        for number, pixels in enumerate(load_photos(options.validation, options.limit_photos)):
            photos.append(Path(folder) / f"{number:03}.png")
            Image.fromarray(pixels).save(photos[-1], compress_level=1)
        originals = crowd_of((read_photo(photo) for photo in photos), network)
        candidate = hvq(str(options.candidate), RATES)
        points = measure_model("candidate", candidate, photos, metrics, originals)
        facts: dict[str, Any] = {"validation": {f"{p.setting:g}": p.means for p in points}}
        if DEFAULT in list_models():
            path = model_path(DEFAULT)
            present = remembered(hvq(str(path), RATES))
            points += measure_model("present", present, photos, metrics, originals)
            verdict, old_files = judge(points), None
            print(json.dumps({"percent_against_present": verdict}))
            models = load_file(options.candidate), load_file(path)
            if is_graft(*models):
                old = replace(present, decode=candidate.decode)
                points += measure_model("old files", old, photos, metrics, originals)
                old_files = judge(points, "old files")
                print(json.dumps({"old_files_percent_against_present": old_files}))
            if not passes(verdict, old_files):
                raise SystemExit("not promoted: the embedded model stays")
            facts["percent_against_predecessor"] = verdict
    if options.keep_as:
        keep(options.keep_as)
    install(options.candidate, facts)
    print(f"promoted: {options.candidate} is now the embedded model {DEFAULT!r}")


if __name__ == "__main__":
    main()
