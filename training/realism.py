"""Stage 3: the synthesis alone goes on, against a discriminator. All that decides bits stays as
it is, so that every file keeps its bytes and only looks better.

    python -m training.realism --start runs/base/model.safetensors --run runs/base-realism \\
        --photos ../shared/data/train-*.tar --validation ../shared/data/val.tar \\
        --perceptual ../shared/perceptual --budget-minutes 80 --batch 4 --crop 192 \\
        --muon-lr 0.0007 --adamw-lr 0.0005 --anneal-from 0.2 --joint-from -1

With `--coded FOLDER` it learns from what the encoder really sends (`training.coded`), not from what
the analysis guesses. With `--learn analysis` the analysis learns as well, but neither codebook nor
entropy model. Files that there are can still be read then, but the codes come to mean something a
little different. `training.graft` puts the result of both into a model. With `--learn everything`
all does, as in stage 2: `training.export` makes a new model of it. Further options are those of
`training.train`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.photos import Photo
from training import checkpoint, train
from training.coded import CodedCrops, coded_batches

HEAD_START = 150
"""Steps in which the discriminator's word does not count yet; then it counts more and more,
fully from twice as many on."""
OPPONENT_LR = 4e-4
LEARNS = {
    "synthesis": ("synthesis.",),
    "analysis": ("analysis.", "distortion_head.", "synthesis."),
    "everything": ("",),
}
"""Beginnings of the names of parameters, by what is asked for."""


class Discriminator(nn.Module):
    """PatchGAN (Isola et al. 2017, arXiv 1611.07004) with spectral norm (Miyato et al. 2018,
    arXiv 1802.05957): RGB in [0, 1], (B, 3, H, W), to how real each patch of 46 pixels looks,
    (B, 1, H/8 - 1, W/8 - 1)."""

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        n = channels
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(3, n, 4, 2, 1)),
            nn.LeakyReLU(0.2, inplace=True),
            spectral_norm(nn.Conv2d(n, 2 * n, 4, 2, 1)),
            nn.LeakyReLU(0.2, inplace=True),
            spectral_norm(nn.Conv2d(2 * n, 4 * n, 4, 2, 1)),
            nn.LeakyReLU(0.2, inplace=True),
            spectral_norm(nn.Conv2d(4 * n, 1, 4, 1, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers(2 * image - 1)
        return out.float()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


class Realism(train.Trainer):
    """Distortion + weight x what the discriminator finds unreal; see `train.Trainer`."""

    def __init__(self, options: argparse.Namespace) -> None:
        if not (options.start or checkpoint.exists(options.run / "checkpoint")):
            raise SystemExit("--start: give a model whose synthesis shall go on")
        torch.manual_seed(options.seed)
        self.discriminator = Discriminator().to(options.device)
        self.opponent = torch.optim.AdamW(
            self.discriminator.parameters(), OPPONENT_LR, betas=(0.5, 0.99), weight_decay=0.0
        )
        super().__init__(options)
        self.objective.critic = self.unreal

    def photos(self) -> list[Photo]:
        return [] if self.options.coded else super().photos()

    def batches(self, photos: list[Photo], seed: int) -> Iterator[Any]:
        options = self.options
        if options.coded:
            return coded_batches(options.coded, options.batch, options.crop, seed)
        return super().batches(photos, seed)

    def loss(self, batch: Any, share: float) -> tuple[Tensor, dict[str, float]]:
        if isinstance(batch, CodedCrops):
            return self.objective.of_coded(batch)
        return super().loss(batch, share)

    def learns(self, name: str) -> bool:
        return name.startswith(LEARNS[self.options.learn]) and super().learns(name)

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
        super().restore(tensors, facts)
        prefix = "discriminator."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        self.discriminator.load_state_dict(state)
        parameters = dict(self.discriminator.named_parameters())
        checkpoint.restore_optimiser("opponent", self.opponent, parameters, tensors)

    def tensors(self) -> dict[str, Tensor]:
        names = {p: name for name, p in self.discriminator.named_parameters()}
        return (
            super().tensors()
            | {f"discriminator.{k}": v for k, v in self.discriminator.state_dict().items()}
            | checkpoint.optimiser_tensors("opponent", self.opponent, names, False)
        )

    def unreal(self, shown: Tensor, image: Tensor) -> tuple[Tensor, dict[str, float]]:
        """See `Objective.critic`; the discriminator takes a step as well."""
        # Unlike networks that do not learn, this one had better meet the grid of the codes
        # always at the same place: so it is best at finding what is woven along it.
        self.opponent.zero_grad(set_to_none=True)
        verdict = hinge(self.discriminator(image), self.discriminator(shown.detach()))
        verdict.backward()
        self.opponent.step()

        self.discriminator.requires_grad_(False)
        unreal = -self.discriminator(shown).mean()
        self.discriminator.requires_grad_(True)
        weight = train.ramp(self.progress.steps, HEAD_START, 2 * HEAD_START)
        report = {"verdict": verdict.item(), "unreal": unreal.item()}
        return weight * self.options.adversarial * unreal, report


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = train.options_parser(__doc__)
    parser.add_argument("--adversarial", type=float, default=0.1, help="weight of the verdict")
    parser.add_argument("--learn", choices=LEARNS, default="synthesis", help="see above")
    parser.add_argument("--coded", type=Path, help="folder of `training.coded`; synthesis only")
    options = train.arguments(given, parser)
    if options.coded and options.learn != "synthesis":
        parser.error("--coded teaches the synthesis alone")
    return options


def main(given: Sequence[str] | None = None) -> None:
    train.start(Realism, arguments(given))


if __name__ == "__main__":
    main()
