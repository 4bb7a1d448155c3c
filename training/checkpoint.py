"""Checkpoints: a folder of safetensors parts below 15 MiB and a JSON file.

Small parts travel where large files do not. `compact` keeps the averaged weights and
the momenta in bfloat16: enough to go on from, at a third of the size.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PART_BYTES = 14 << 20

PLACES = {"photos", "validation", "perceptual", "run", "start"}
"""Options that say where things lay, which a card does not repeat."""


def save(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write beside the folder, then swap, so that a kill leaves the old or the new one."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    part: dict[str, Tensor] = {}
    number = size = 0
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        if part and size + tensor.nbytes > PART_BYTES:
            save_file(part, fresh / f"part-{number}.safetensors")
            part, size, number = {}, 0, number + 1
        part[name] = tensor
        size += tensor.nbytes
    save_file(part, fresh / f"part-{number}.safetensors")
    (fresh / "facts.json").write_text(json.dumps(facts, indent=1))
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)


def exists(folder: Path) -> bool:
    """Or the one it was about to replace."""
    return folder.exists() or folder.with_name(folder.name + ".old").exists()


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a checkpoint, or of the one it was about to replace."""
    if not (folder / "facts.json").exists():
        folder = folder.with_name(folder.name + ".old")
    tensors: dict[str, Tensor] = {}
    for part in sorted(folder.glob("part-*.safetensors")):
        tensors |= load_file(part)
    return tensors, json.loads((folder / "facts.json").read_text())


def optimiser_tensors(
    prefix: str, optimiser: torch.optim.Optimizer, names: dict[Tensor, str], compact: bool
) -> dict[str, Tensor]:
    """The optimiser's state as PREFIX:PARAMETER:KEY; names: parameter -> its name."""
    tensors = {}
    for p, state in optimiser.state.items():
        for key, value in state.items():
            small = compact and value.ndim > 0
            tensors[f"{prefix}:{names[p]}:{key}"] = value.bfloat16() if small else value
    return tensors


def restore_optimiser(
    prefix: str,
    optimiser: torch.optim.Optimizer,
    parameters: dict[str, Tensor],
    tensors: dict[str, Tensor],
) -> None:
    for name, value in tensors.items():
        if name.startswith(prefix + ":"):
            _, parameter, key = name.split(":")
            p = parameters[parameter]
            # AdamW keeps its step counts on the CPU.
            device = p.device if value.ndim else torch.device("cpu")
            optimiser.state[p][key] = value.float().to(device)


def runs(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that led to a checkpoint, itself the last: steps, hours and options."""
    own = {
        "steps": facts["steps"],
        "hours": round(facts["seconds"] / 3600, 2),
        "options": {k: v for k, v in facts["options"].items() if k not in PLACES},
    }
    return [*facts.get("earlier", []), own]
