"""Models by name or path: a `.safetensors` file and its JSON card beside it.

The weights file holds the normative integers under `normative.` and all networks in
half precision under `network.`; the card holds the sizes, the checksum and what is to
be known of the training.
"""

import hashlib
import zlib
from dataclasses import dataclass
from os import PathLike
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from hvqcodec.bitstream import FINGERPRINT_BYTES
from hvqcodec.entropy.constants import ONE
from hvqcodec.entropy.corrections import SYNTHESIS_BYTES
from hvqcodec.entropy.normative import Normative
from hvqcodec.errors import ModelError
from hvqcodec.models.cards import card_of, model_path
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.model import Model


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use."""

    networks: Model
    """Float networks on their device, in evaluation mode."""
    normative: Normative
    """The integer part, always on the CPU."""
    card: dict[str, Any]
    synthesis: bytes
    """Names the weights of the synthesis: two bytes of a CRC-32."""

    @property
    def fingerprint(self) -> bytes:
        """What a file carries to name its model."""
        return bytes.fromhex(self.card["fingerprint"])[:FINGERPRINT_BYTES]


@torch.inference_mode(False)  # else the encoder could have no gradients of it
def load_model(name_or_path: str | PathLike[str], device: str = "cpu") -> LoadedModel:
    """Raises ModelError for a missing, damaged or unfit model."""
    path = model_path(name_or_path)  # once: the Hub is far
    card = card_of(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read ({error})") from error
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise ModelError(f"{path}: the checksum differs from the card's; fetch the model again")
    try:
        tensors = load(content)
        with torch.device("cpu"):  # whatever the default device and type
            normative = Normative.from_tensors(
                {
                    k.removeprefix("normative."): v
                    for k, v in tensors.items()
                    if k[:10] == "normative."
                }
            )
            networks = Model(ModelConfig.from_dict(card["config"])).float()
        networks.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k[:8] == "network."}
        )
    except (
        SafetensorError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        reason = shorten(str(error), 200)
        raise ModelError(f"{path}: not a model of this version of hvqcodec ({reason})") from error
    if normative.fingerprint() != card["fingerprint"]:
        raise ModelError(f"{path}: the fingerprint differs from the card's; fetch the model again")
    with torch.no_grad():
        entries = normative.index_tables.entries.float() / ONE
        networks.codebook.weight.copy_(entries)
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no numbers")
        networks = networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Torch raises either, by what is wrong with the name or with the machine.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the device {device!r} cannot be used: {reason}") from error
    name = name_of_synthesis(tensors)
    return LoadedModel(networks.eval().requires_grad_(False), normative, card, name)


def name_of_synthesis(tensors: dict[str, Tensor]) -> bytes:
    """Of the tensors of a weights file; see docs/format.md, section 9."""
    crc = 0
    for name in sorted(tensors):
        if name.startswith("network.synthesis."):
            crc = zlib.crc32(tensors[name].contiguous().numpy().tobytes(), crc)
    return crc.to_bytes(4, "little")[:SYNTHESIS_BYTES]
