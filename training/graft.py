"""Put analysis and synthesis of a checkpoint into a model, which stays what it is otherwise: every
file that there is keeps its symbols, and decodes to other pixels.

    python -m training.graft base runs/base-realism/checkpoint runs/base/model-realism.safetensors
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from hvqcodec.entropy.constants import ONE
from hvqcodec.models.cards import card_of, model_path
from training import checkpoint
from training.export import half_networks, networks_of, training_facts, write_model

SYNTHESIS = ("network.synthesis.",)
TAKEN = ("network.analysis.", "network.distortion_head.", *SYNTHESIS)
SIZES = ("channels", "analysis_blocks", "synthesis_blocks", "detail_channels")
"""Of what is taken; the checkpoint may differ in others, such as those of contexts."""
ENTRIES_APART = 4
"""Units of the integer entries by which half precision may have moved the codebook."""
OF_THE_PIXELS = ("validation", "percent_against_predecessor")
"""What a card says that holds no more."""


def is_graft(
    tensors: dict[str, Tensor], model: dict[str, Tensor], taken: tuple[str, ...] = TAKEN
) -> bool:
    """Whether two models differ in nothing else; so in nothing that decides how files are read
    or, if the synthesis alone was taken, written."""
    rest, own = (
        {name: value for name, value in m.items() if not name.startswith(taken)}
        for m in (tensors, model)
    )
    return rest.keys() == own.keys() and all(value.equal(own[name]) for name, value in rest.items())


def graft(model: str, folder: Path, output: Path, told: dict[str, Any] | None = None) -> None:
    """Write `output`, a .safetensors file, and its card beside it.

    told: what else the card shall say, or say anew.

    Raises SystemExit if the checkpoint has another codebook than the model: its synthesis has
    learned to decode something else.
    """
    tensors, card = load_file(model_path(model)), card_of(model)
    networks, facts = networks_of(folder)
    own = half_networks(networks)
    entries = (networks.codebook.entries() * ONE).round()
    present = tensors["normative.index_tables.entries"]
    if entries.shape != present.shape or (entries - present).abs().max() > ENTRIES_APART:
        raise SystemExit(f"{folder} has another codebook than {model}")
    # Trunks may have grown.
    tensors = {k: v for k, v in tensors.items() if not k.startswith(TAKEN)}
    tensors |= {k: v for k, v in own.items() if k.startswith(TAKEN)}
    sizes = networks.config.to_dict()
    card["config"] |= {name: sizes[name] for name in SIZES}
    kept = {k: v for k, v in card.items() if k not in OF_THE_PIXELS} | (told or {})
    known = card["training"].get("runs", [])
    runs = [*known, *(run for run in checkpoint.runs(facts) if run not in known)]
    write_model(output, tensors, kept | {"training": training_facts(runs)})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a name, or a .safetensors file with its card beside it")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path, help="a .safetensors file")
    parser.add_argument("--card", type=Path, help="JSON with what else the card shall say")
    options = parser.parse_args(arguments)
    told = json.loads(options.card.read_text()) if options.card else {}
    graft(options.model, options.checkpoint, options.output, told)


if __name__ == "__main__":
    main()
