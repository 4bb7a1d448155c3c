"""Race recipes and forms: every arm on the same photos and crops, for the same steps and seeds.

    python -m training.race --photos ../shared/data/train-*.tar \\
        --validation ../shared/data/val.tar --perceptual ../shared/perceptual \\
        --run runs/race --start base --budget-steps 400 --seeds 0 1 --threads 1 \\
        --arm as-is --arm 'D16 {"config": {"dimensions": 16}}' --arm 'slow {"muon_lr": 0.001}'

An arm is a name and, as JSON, what it does otherwise: options of `training.train`, with _ for -.
All other options are those of `training.train` and hold for every arm. The first arm is the
one that the others are held against. Each result is a line of RUN/results.jsonl, and what
stands there already is not run again: processes with other seeds may share a folder.

At the end: BD-rate against the first arm over the validation photos, averaged over the seeds,
and its spread, which is how far either arm's seeds lie apart. A margin within the spread says
nothing. `--time` measures nothing but milliseconds per step instead, the arms in turns, on a
machine that should be idle.
"""

import argparse
import json
import shutil
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.photos import Photo, load_photos
from hvqcodec.metrics import TITLES
from training import train
from training.compare import difference
from training.crops import batches
from training.validate import validate

LAMBDAS = (4.0, 1.6, 0.8, 0.4, 0.2)
JUDGES = ("lpips", "dlp", "ms_ssim")
TIMED_STEPS, TIMED_ROUNDS = 10, 4

Result = dict[str, Any]
"""An arm's name, changes and seed; steps; points, one per lambda."""


@dataclass(frozen=True)
class Arm:
    name: str
    changes: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Arm":
        name, _, changes = text.partition(" ")
        return cls(name, json.loads(changes or "{}"))

    def options(self, common: Namespace, seed: int) -> Namespace:
        """Those of `training.train` for this arm; a dict is merged, not replaced."""
        values = vars(common).copy()
        for name, value in self.changes.items():
            if name not in values:
                raise SystemExit(f"arm {self.name}: training.train has no option {name}")
            values[name] = values[name] | value if isinstance(value, dict) else value
        values |= {"seed": seed, "run": common.run / f"{self.name}-{seed}"}
        return Namespace(**values)


def run_arm(
    arm: Arm, common: Namespace, seed: int, photos: list[Photo], held_out: list[Photo]
) -> Result:
    """Train an arm to the end, from its checkpoint if there is one, and validate it."""
    options = arm.options(common, seed)
    trainer = train.Trainer(options)
    trainer.run(photos, [])
    if trainer.progress.share(options) < 1:
        raise SystemExit("stopped: the same command goes on")
    model = trainer.averaged_model()
    points = validate(model, held_out, trainer.metrics, trainer.objective.code_bits, LAMBDAS)
    result = {"arm": arm.name, "changes": arm.changes, "seed": seed}
    result |= {"steps": trainer.progress.steps, "points": list(points)}
    shutil.rmtree(options.run)
    return result


def time_arms(arms: Sequence[Arm], common: Namespace, photos: list[Photo]) -> dict[str, float]:
    """Median milliseconds per step of each arm, after ten to warm up."""
    trainers = [train.Trainer(arm.options(common, 0)) for arm in arms]
    sources = [batches(photos, t.options.batch, t.options.crop, 0) for t in trainers]
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(TIMED_ROUNDS + 1):
        for arm, trainer, source in zip(arms, trainers, sources, strict=True):
            for _ in range(TIMED_STEPS):
                image = next(source)
                begin = time.perf_counter()
                trainer.step(image)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if number:
                    seconds[arm.name].append(time.perf_counter() - begin)
    return {name: round(1000 * median(values), 1) for name, values in seconds.items()}


def margin(first: Sequence[Result], other: Sequence[Result], metric: str) -> tuple[float, float]:
    """How far `other` lies from `first`, both of the same seeds in order, and the spread."""

    def between(a: Result, b: Result) -> float:
        return difference(a["points"], b["points"], metric)

    margins = [between(a, b) for a, b in zip(first, other, strict=True)]
    within = [abs(between(a, b)) for own in (first, other) for a, b in combinations(own, 2)]
    return mean(margins), max([*within, max(margins) - min(margins)])


def read_results(path: Path) -> list[Result]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(results: Sequence[Result], arms: Sequence[Arm]) -> list[str]:
    """The table, in the order of the arms; an arm counts with the seeds that it shares with
    the first."""

    def of(arm: Arm) -> dict[int, Result]:
        return {
            r["seed"]: r for r in results if (r["arm"], r["changes"]) == (arm.name, arm.changes)
        }

    titles = " | ".join(f"BD-rate {TITLES[m]} %" for m in JUDGES)
    lines = [f"| arm | seeds | {titles} |", "|---" * (2 + len(JUDGES)) + "|"]
    first = of(arms[0])
    for arm in arms[1:]:
        own = of(arm)
        seeds = sorted(first.keys() & own.keys())
        cells = [arm.name, ", ".join(map(str, seeds))]
        for metric in JUDGES:
            if not seeds or metric not in own[seeds[0]]["points"][0]:
                cells.append("")
                continue
            try:
                value, spread = margin([first[s] for s in seeds], [own[s] for s in seeds], metric)
            except ValueError as error:
                cells.append(str(error))
                continue
            cells.append(f"{value:+.1f} ± {spread:.1f}" if len(seeds) > 1 else f"{value:+.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--arm", type=Arm.parse, action="append", required=True, dest="arms")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--time", action="store_true", help="milliseconds per step only")
    own, rest = parser.parse_known_args(given)
    common = train.arguments(rest)
    if common.threads:
        torch.set_num_threads(common.threads)
    photos = load_photos(common.photos, common.limit_photos)
    if own.time:
        print(json.dumps({"milliseconds_per_step": time_arms(own.arms, common, photos)}))
        return
    held_out = load_photos(common.validation)
    common.run.mkdir(parents=True, exist_ok=True)
    path = common.run / "results.jsonl"
    for seed in own.seeds:
        for arm in own.arms:
            done = {(r["arm"], json.dumps(r["changes"]), r["seed"]) for r in read_results(path)}
            if (arm.name, json.dumps(arm.changes), seed) in done:
                continue
            result = run_arm(arm, common, seed, photos, held_out)
            with path.open("a") as file:
                file.write(json.dumps(result) + "\n")
    print("\n".join(report(read_results(path), own.arms)))


if __name__ == "__main__":
    main()
