"""Train a model, stages 1 and 2, from the beginning or from a checkpoint.

    python -m training.train --photos ../shared/data/train-*.tar \\
        --validation ../shared/data/val.tar --perceptual ../shared/perceptual \\
        --run runs/first --budget-minutes 120

Everything that decides the schedule is the share of the budget used so far, in steps
or in minutes, and it is kept in the checkpoint: stop and resume at will.
"""

import argparse
import copy
import json
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.photos import Photo, load_photos
from hvqcodec.metrics.perceptual import load_perceptual
from hvqcodec.models.analysis import Analysis
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.model import Model
from hvqcodec.models.zoo import load_model
from training import checkpoint
from training.crops import batches
from training.objective import Distortion, Objective, Weights, bits_per_pixel
from training.optimisers import make_optimisers
from training.peers import MEET_EVERY, Peers
from training.precision import fast_dtype
from training.validate import validate

ALLOCATE_SHARE = 0.85
"""Of the maps are made as the encoder makes them; the rest are of every other kind."""


def options_parser(description: str | None) -> argparse.ArgumentParser:
    """Of what every stage is told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="tar files, folders")
    parser.add_argument("--validation", type=Path, nargs="*", default=[])
    parser.add_argument("--perceptual", type=Path, help="folder with the LPIPS and DLP networks")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoint and log")
    parser.add_argument(
        "--start", help="a model or the folder of a checkpoint, to begin a new run from its weights"
    )
    parser.add_argument(
        "--fresh",
        nargs="*",
        default=[],
        metavar="PART",
        help="what not to take from --start: names of weights, or parts of them",
    )
    parser.add_argument(
        "--freeze", nargs="*", default=[], metavar="PART", help="what not to train: likewise"
    )
    parser.add_argument(
        "--entropy-only",
        action="store_true",
        help="hyperpriors and contexts alone, on a frozen autoencoder",
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="stop cleanly after so many")
    parser.add_argument("--budget-minutes", type=float, help="length of the whole schedule")
    parser.add_argument("--budget-steps", type=int, help="the same in steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument(
        "--smooth", type=float, default=0.0, help="share of crops that become backdrops"
    )
    parser.add_argument(
        "--bare",
        action="store_true",
        help="judge pictures without their residuals, which take a processor 20 ms a crop",
    )
    parser.add_argument(
        "--menders", type=int, default=0, metavar="N", help="processes that find residuals"
    )
    parser.add_argument("--muon-lr", type=float, default=0.003)
    parser.add_argument("--adamw-lr", type=float, default=1e-3)
    parser.add_argument("--anneal-from", type=float, default=0.3, help="share of the budget")
    parser.add_argument("--joint-from", type=float, default=0.15, help="share of the budget")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--peers",
        type=int,
        default=1,
        metavar="N",
        help="processes that train together, each with --threads",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile both trunks")
    parser.add_argument("--config", type=json.loads, default={}, help="ModelConfig as JSON")
    parser.add_argument("--weights", type=json.loads, default={}, help="loss weights as JSON")
    parser.add_argument("--limit-photos", type=int)
    parser.add_argument("--validate-every", type=float, default=15, help="minutes")
    parser.add_argument("--compact", action="store_true", help="small checkpoints, to carry")
    return parser


def arguments(
    given: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None
) -> argparse.Namespace:
    """parser: one of `options_parser` that has learned more options."""
    parser = parser or options_parser(__doc__)
    options = parser.parse_args(given)
    if not (options.budget_minutes or options.budget_steps):
        parser.error("give --budget-minutes or --budget-steps")
    return options


@dataclass
class Progress:
    """How far the schedule is; kept in the checkpoint."""

    steps: int = 0
    seconds: float = 0.0

    def share(self, options: argparse.Namespace) -> float:
        if options.budget_steps:
            return min(1.0, self.steps / options.budget_steps)
        return min(1.0, self.seconds / (60 * options.budget_minutes))


def ramp(value: float, start: float, end: float) -> float:
    """0 before start, 1 after end, linear between."""
    return min(1.0, max(0.0, (value - start) / (end - start)))


def holds_any(name: str, parts: Sequence[str]) -> bool:
    return any(part in name for part in parts)


def start_from(
    name: str, config: dict[str, Any], fresh: Sequence[str] = ()
) -> tuple[Model, list[dict[str, Any]]]:
    """The weights of a model or of a checkpoint, but for those whose names hold one of
    `fresh`, and with contexts and blocks of trunks added that the config asks for and they
    lack (a block begins as nothing); and the runs that led there, for the card."""
    if (Path(name) / "facts.json").exists():
        tensors, facts = checkpoint.load(Path(name))
        sizes, state = facts["config"], {k[4:]: v for k, v in tensors.items() if k[:4] == "ema."}
        runs = checkpoint.runs(facts)
    else:
        loaded = load_model(name)
        sizes, state = loaded.networks.config.to_dict(), loaded.networks.state_dict()
        # A model has unit vectors. Those of the training are as long as they were drawn:
        # the shorter, the further they turn in a step.
        state["codebook.weight"] = state["codebook.weight"] * loaded.networks.config.dimensions**0.5
        runs = loaded.card["training"].get("runs", [])
    model = Model(ModelConfig.from_dict(sizes | config))
    begun = model.state_dict()
    added = {k: v for k, v in begun.items() if k.startswith("contexts.") or ".trunk" in k}
    anew = {k: v for k, v in begun.items() if holds_any(k, fresh)}
    kept = {k: v for k, v in state.items() if not holds_any(k, fresh)}
    try:
        model.load_state_dict(added | kept | anew)
    except RuntimeError as error:
        raise SystemExit(f"{name} has other sizes than {config} asks for: {error}") from error
    return model, runs


class Trainer:
    """A run: model, optimisers, objective and schedule, from a checkpoint if there is one. A
    stage of its own kind overrides `learns`, and with `tensors` and `restore` what a checkpoint
    has."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.dtype = fast_dtype(self.device.type)
        torch.manual_seed(options.seed)
        folder = options.run / "checkpoint"
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {"config": options.config}
        self.earlier: list[dict[str, Any]] = []
        if checkpoint.exists(folder):
            tensors, facts = checkpoint.load(folder)
        if options.start and not tensors:
            self.model, self.earlier = start_from(options.start, options.config, options.fresh)
        else:
            self.model = Model(ModelConfig.from_dict(facts["config"]))
        self.model = self.model.to(self.device, memory_format=torch.channels_last)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.learns(name))
        self.optimisers = make_optimisers(self.model, options.muon_lr, options.adamw_lr)
        weights = Weights(**options.weights)
        distortion = self.distortion(weights, self.dtype)
        self.metrics = self.distortion(weights, torch.float32)
        self.objective = Objective(
            self.model,
            distortion,
            weights,
            entropy_only=options.entropy_only,
            corrects=not options.bare,
        )
        if options.compile:
            self.objective.analysis = torch.compile(self.model.analysis, dynamic=False)
            self.objective.synthesis = torch.compile(self.model.synthesis, dynamic=False)
            self.objective.distortion = torch.compile(distortion, dynamic=False)  # type: ignore[assignment]
        self.progress = Progress(facts.get("steps", 0), facts.get("seconds", 0.0))
        self.peers: Peers | None = None
        if tensors:
            self.earlier = facts.get("earlier", [])
            self.restore(tensors, facts)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        if tensors:
            for k, v in self.average.items():
                v.copy_(tensors[f"ema.{k}"])

    def learns(self, name: str) -> bool:
        """Whether a parameter is trained."""
        entropy = name.startswith(("hyperpriors.", "contexts."))
        return (entropy or not self.options.entropy_only) and not holds_any(
            name, self.options.freeze
        )

    def distortion(self, weights: Weights, dtype: torch.dtype) -> Distortion:
        lpips, dlp = load_perceptual(self.options.perceptual)
        return Distortion(
            weights,
            lpips.to(self.device, dtype) if lpips else None,
            dlp.to(self.device, dtype) if dlp else None,
            self.judge() if weights.features else None,
        )

    def judge(self) -> Analysis:
        """The analysis as it was when the run began, however often it has been resumed."""
        if not self.options.start:
            raise SystemExit("a weight of features goes with --start: whose analysis shall judge")
        model, _ = start_from(self.options.start, self.options.config)
        return model.analysis.requires_grad_(False).to(
            self.device, memory_format=torch.channels_last
        )

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        source = "raw." if any(k.startswith("raw.") for k in tensors) else "ema."
        state = {k.removeprefix(source): v for k, v in tensors.items() if k.startswith(source)}
        self.model.load_state_dict(state)
        parameters = dict(self.model.named_parameters())
        for name, optimiser in self.optimisers.items():
            checkpoint.restore_optimiser(name, optimiser, parameters, tensors)
        if "usage" in tensors:  # a mean has none
            self.objective.code_bits = torch.tensor(facts["code_bits"], device=self.device)
            self.objective.usage = tensors["usage"].to(self.device)

    def tensors(self) -> dict[str, Tensor]:
        """Of a checkpoint."""
        compact = self.options.compact
        tensors = {f"ema.{k}": v for k, v in self.average.items()}
        if not compact:
            tensors |= {f"raw.{k}": v for k, v in self.model.state_dict().items()}
        names = {p: name for name, p in self.model.named_parameters()}
        for name, optimiser in self.optimisers.items():
            tensors |= checkpoint.optimiser_tensors(name, optimiser, names, compact)
        return tensors | {"usage": self.objective.usage}

    def save(self) -> None:
        facts = {
            "config": self.model.config.to_dict(),
            "steps": self.progress.steps,
            "seconds": self.progress.seconds,
            "code_bits": self.objective.code_bits.tolist(),
            "options": {k: str(v) for k, v in vars(self.options).items()},
            "earlier": self.earlier,
        }
        checkpoint.save(self.options.run / "checkpoint", self.tensors(), facts)

    def log(self, **facts: object) -> None:
        line = json.dumps(
            {"step": self.progress.steps, "minutes": round(self.progress.seconds / 60, 2)} | facts
        )
        print(line, flush=True)
        with (self.options.run / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def photos(self) -> list[Photo]:
        """That `batches` takes crops of."""
        return load_photos(self.options.photos, self.options.limit_photos)

    def batches(self, photos: list[Photo], seed: int) -> Iterator[Any]:
        """Endless, of what `loss` takes."""
        options = self.options
        return batches(photos, options.batch, options.crop, seed, options.smooth)

    def loss(self, image: Tensor, share: float) -> tuple[Tensor, dict[str, float]]:
        """Of a batch at a share of the budget, and what the progress line says of it."""
        stage = ramp(share, self.options.joint_from, self.options.joint_from + 0.15)
        joint = 1.0 if self.options.entropy_only else stage
        # At first the head that tells the encoder what a map is worth knows nothing.
        knows = 1.0 if self.options.start else ramp(self.progress.steps, 300, 600)
        allocate_share = ALLOCATE_SHARE * knows
        image = image.contiguous(memory_format=torch.channels_last)
        return self.objective(image, joint, allocate_share)

    def step(self, batch: Any) -> dict[str, float]:
        share = self.progress.share(self.options)
        rate = ramp(self.progress.steps, 0, 100) * (1 - ramp(share, self.options.anneal_from, 1.0))
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * max(rate, 1e-3)
            optimiser.zero_grad(set_to_none=True)
        half = self.dtype == torch.bfloat16
        with torch.autocast(self.device.type, self.dtype, enabled=half):
            loss, report = self.loss(batch.to(self.device), share)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        for optimiser in self.optimisers.values():
            optimiser.step()
        decay = min(self.options.ema, 1 - 1 / (self.progress.steps + 1))
        with torch.no_grad():
            state = self.model.state_dict()
            torch._foreach_lerp_(list(self.average.values()), list(state.values()), 1 - decay)
        self.progress.steps += 1
        codes_move = self.model.codebook.weight.requires_grad and share < 0.7
        if codes_move and self.progress.steps % 100 == 0:
            self.objective.reseed_dead(self.optimisers["adamw"])
        return report | {"loss": loss.item()}

    def averaged_model(self) -> Model:
        model = Model(self.model.config)
        model.load_state_dict(self.average)
        return model.to(self.device).eval()

    def run(self, photos: list[Photo], held_out: list[Photo]) -> None:
        """Train to the end of the budget or of the minutes, or until SIGTERM."""
        options = self.options
        options.run.mkdir(parents=True, exist_ok=True)
        seed = options.seed + self.progress.steps
        source = self.batches(photos, seed)
        parameters = sum(p.numel() for p in self.model.parameters())
        self.log(photos=len(photos), validation=len(held_out), parameters=parameters)
        begin = last = time.monotonic()
        saved = validated = begin
        reports: dict[str, list[float]] = {}
        first = self.progress.steps
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        while not self.is_over(
            self.progress.steps - first,
            self.progress.share(options) >= 1
            or last - begin >= 60 * options.minutes
            or stop.is_set(),
        ):
            for key, value in self.step(next(source)).items():
                reports.setdefault(key, []).append(value)
            now = time.monotonic()
            self.progress.seconds += now - last
            last = now
            if self.progress.steps % 100 == 0:
                means = {k: sum(v) / len(v) for k, v in reports.items()}
                if "mse" in means:
                    means["psnr"] = -10 * torch.tensor(means.pop("mse")).log10().item()
                means["bpp"] = bits_per_pixel(means)
                self.log(
                    **{k: round(v, 4) for k, v in means.items()},
                    perplexity=round(self.objective.perplexity()),
                    bits_per_code=[round(b, 2) for b in self.objective.code_bits.tolist()],
                )
                reports = {}
            if now - saved > 600:
                self.save()
                saved = now
            if held_out and now - validated > 60 * options.validate_every:
                self.validate(held_out)
                validated = last = time.monotonic()
        self.save()
        if held_out and not stop.is_set():
            self.validate(held_out)

    def join(self, peers: Peers) -> None:
        """Go on from where the first is: a peer may have no checkpoint, or an older one."""
        self.peers = peers
        clock = torch.tensor([self.progress.steps, self.progress.seconds], dtype=torch.float64)
        peers.begin([clock, *self.model.state_dict().values(), *self.average.values()])
        steps, seconds = clock.tolist()
        self.progress = Progress(int(steps), seconds)

    def is_over(self, taken: int, wish: bool) -> bool:
        """taken: steps so far. Among peers the wish of one is what all do, where they meet."""
        if self.peers is None:
            return wish
        return taken % MEET_EVERY == 0 and self.peers.meet(self.model.state_dict().values(), wish)

    def validate(self, photos: list[Photo]) -> None:
        model = self.averaged_model()
        for result in validate(model, photos, self.metrics, self.objective.code_bits):
            self.log(validation=result)


def start(trainer: type[Trainer], options: argparse.Namespace) -> None:
    """Train, with what there is for the options."""
    if options.peers == 1:
        train_alone(trainer, options)
        return
    with tempfile.TemporaryDirectory() as name:
        ranks = range(1, options.peers)
        process = get_context("spawn").Process
        others = [process(target=train_among, args=(trainer, options, r, name)) for r in ranks]
        for other in others:
            other.start()
        try:
            train_among(trainer, options, 0, name)
            for other in others:
                other.join()
                if other.exitcode:
                    raise SystemExit(f"a peer ended with status {other.exitcode}")
        finally:
            for other in others:
                other.kill()


def train_among(
    trainer: type[Trainer], options: argparse.Namespace, rank: int, folder: str
) -> None:
    """As one of `options.peers`. The first has the run's folder, log and validation; in it the
    others have folders of their own, with the momenta that they go on from."""
    options = copy.copy(options)
    if rank:
        options.run = options.run / f"peer-{rank}"
        options.seed += 1000 * rank
        options.validation = []
    peers = Peers(rank, options.peers, Path(folder))
    with redirect_stdout(None) if rank else nullcontext():
        train_alone(trainer, options, peers)
    peers.part()


def train_alone(
    trainer: type[Trainer], options: argparse.Namespace, peers: Peers | None = None
) -> None:
    """In this process."""
    if options.threads:
        torch.set_num_threads(options.threads)
    held_out = load_photos(options.validation) if options.validation else []
    pool = get_context("spawn").Pool(options.menders) if options.menders else None
    with pool or nullcontext():
        run = trainer(options)
        run.objective.menders = pool
        if peers:
            run.join(peers)
        run.run(run.photos(), held_out)


def main(given: Sequence[str] | None = None) -> None:
    start(Trainer, arguments(given))


if __name__ == "__main__":
    main()
