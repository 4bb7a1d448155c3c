"""The weighted mean of models of one descent: as good as either at what it is good at, or better.

    python -m training.average runs/mean/checkpoint base=0.3 runs/everything/checkpoint=0.7

Runs that begin from one model stay in one valley, and its floor lies between them (Wortsman et al.
2022, arXiv 2203.05482). Hyperpriors and contexts are averaged as well.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvqcodec.models.model import Model
from training import checkpoint
from training.train import start_from


def largest_of(models: Sequence[Model]) -> Model:
    return max(models, key=lambda model: len(model.state_dict()))


def mean_of(models: Sequence[Model], shares: Sequence[float]) -> dict[str, Tensor]:
    """Of their parameters, the sizes those of the largest. A residual block that another lacks adds
    nothing there: what it adds is scaled by the share of those that have it. Raises SystemExit if
    they differ in other sizes."""
    states = [model.state_dict() for model in models]
    for model, state in zip(models, states, strict=True):
        # Of entries their directions count alone; as long as in `start_from`.
        entries = model.codebook.entries().detach() * model.config.dimensions**0.5
        state["codebook.weight"] = entries
    largest = largest_of(models).state_dict()
    for state in states:
        lacking = largest.keys() - state.keys()
        fits = all(n in largest and v.shape == largest[n].shape for n, v in state.items())
        if not fits or not all(".trunk" in name for name in lacking):
            raise SystemExit("models of different sizes have no mean")
    mean: dict[str, Tensor] = {}
    for name in largest:
        found = [(s[name], share) for s, share in zip(states, shares, strict=True) if name in s]
        # The second convolution of a block ends it, and begins as nothing.
        total = sum(shares) if ".conv2." in name else sum(share for _, share in found)
        mean[name] = torch.stack([share / total * value for value, share in found]).sum(0)
    return mean


def named_share(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    if not name or not float(share) > 0:
        raise ValueError
    return name, float(share)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder of the checkpoint")
    parser.add_argument(
        "models", type=named_share, nargs="+", metavar="MODEL=SHARE", help="models or checkpoints"
    )
    options = parser.parse_args(arguments)
    if options.output.exists():
        parser.error(f"{options.output} exists already")
    models, earlier = [], list[dict[str, Any]]()
    for name, _ in options.models:
        model, runs = start_from(name, {})
        models.append(model)
        earlier += [run for run in runs if run not in earlier]
    tensors = mean_of(models, [share for _, share in options.models])
    facts = {
        "config": largest_of(models).config.to_dict(),
        "steps": 0,
        "seconds": 0,
        "options": {"mean_of": str([share for _, share in options.models])},
        "earlier": earlier,
    }
    checkpoint.save(options.output, {f"ema.{k}": v for k, v in tensors.items()}, facts)


if __name__ == "__main__":
    main()
