"""The weighted mean of models of one descent: as good as either at what it is good at, or better.

    python -m training.average runs/mean/checkpoint base=0.3 runs/everything/checkpoint=0.7

Runs that begin from one model stay in one valley, and its floor lies between them (Wortsman et al.
2022, arXiv 2203.05482). Hyperpriors and contexts are averaged as well.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hvqcodec.models.model import Model
from training import checkpoint
from training.train import start_from


def mean_of(models: Sequence[Model], shares: Sequence[float]) -> dict[str, Tensor]:
    """Of their parameters, the sizes those of the largest. A residual block that another lacks adds
    nothing there: what it adds is scaled by the share of those that have it. Raises SystemExit if
    they differ in other sizes."""
    sizes = [{k: v.shape for k, v in model.state_dict().items()} for model in models]
    largest = max(sizes, key=len)
    for own in sizes:
        lacking = largest.keys() - own.keys()
        if own.items() - largest.items() or not all(".trunk" in name for name in lacking):
            raise SystemExit("models of different sizes have no mean")
    mean: dict[str, Tensor] = {}
    for name in largest:
        # The second convolution of a block ends it, and begins as nothing.
        counted = [
            share
            for own, share in zip(sizes, shares, strict=True)
            if name in own or ".conv2." in name
        ]
        for model, share in zip(models, shares, strict=True):
            state = model.state_dict()
            # Of entries their directions count alone; as long as in `start_from`.
            state["codebook.weight"] = (
                model.codebook.entries().detach() * model.config.dimensions**0.5
            )
            if name in state:
                mean[name] = mean.get(name, 0) + share / sum(counted) * state[name]
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
        "config": max(models, key=lambda model: len(model.state_dict())).config.to_dict(),
        "steps": 0,
        "seconds": 0,
        "options": {"mean_of": str([share for _, share in options.models])},
        "earlier": earlier,
    }
    checkpoint.save(options.output, {f"ema.{k}": v for k, v in tensors.items()}, facts)


if __name__ == "__main__":
    main()
