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


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a checkpoint, or of the one it was about to replace."""
    if not (folder / "facts.json").exists():
        folder = folder.with_name(folder.name + ".old")
    tensors: dict[str, Tensor] = {}
    for part in sorted(folder.glob("part-*.safetensors")):
        tensors |= load_file(part)
    return tensors, json.loads((folder / "facts.json").read_text())


def optimiser_tensors(
    prefix: str, optimiser: torch.optim.Optimizer, compact: bool
) -> dict[str, Tensor]:
    tensors = {}
    for i, p in enumerate(optimiser.param_groups[0]["params"]):
        for key, value in optimiser.state.get(p, {}).items():
            small = compact and value.ndim > 0
            tensors[f"{prefix}.{i}.{key}"] = value.bfloat16() if small else value
    return tensors


def restore_optimiser(
    prefix: str, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    for name, value in tensors.items():
        if name.startswith(prefix + "."):
            i, key = name.removeprefix(prefix + ".").split(".")
            p = optimiser.param_groups[0]["params"][int(i)]
            target = value.float() if value.ndim else value.float().cpu()
            optimiser.state[p][key] = target.to(p.device) if value.ndim else target
