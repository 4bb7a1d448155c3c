"""Which models there are: names, cards and fingerprints. Free of torch."""

import json
import os
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from hvqcodec.bitstream import FINGERPRINT_BYTES
from hvqcodec.errors import ModelError, UnknownFingerprintError
from hvqcodec.models import hub

DEFAULT = "base"


def list_models() -> list[str]:
    """Names of the models inside the package."""
    folder = resources.files("hvqcodec") / "weights"
    if not folder.is_dir():
        return []
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json"))


def model_path(name_or_path: str | PathLike[str]) -> Path:
    """The weights file of an embedded model, of one on the Hub, or the path itself.

    Raises ModelError.
    """
    if isinstance(name_or_path, str) and name_or_path.startswith(hub.PREFIX):
        return hub.download(name_or_path)
    if isinstance(name_or_path, str) and name_or_path in list_models():
        return Path(str(resources.files("hvqcodec") / "weights" / f"{name_or_path}.safetensors"))
    path = Path(name_or_path)
    if path.suffix == ".safetensors" and os.path.exists(path):
        return path
    raise ModelError(
        f"no model {str(name_or_path)!r}: give the path of a .safetensors file, "
        f"hub:organisation/name, or one of these: {', '.join(list_models())}"
    )


def card_text(name_or_path: str | PathLike[str]) -> str:
    """The card of a model, JSON. Raises ModelError."""
    path = model_path(name_or_path).with_suffix(".json")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: the card of the model cannot be read, which lies beside it ({error})"
        ) from error


def card_of(name_or_path: str | PathLike[str]) -> dict[str, Any]:
    """The card of a model, which names at least its fingerprint and the SHA-256 of its weights
    file. Raises ModelError."""
    try:
        card: dict[str, Any] = json.loads(card_text(name_or_path))
        for checksum in ("fingerprint", "sha256"):
            bytes.fromhex(card[checksum])
    except (ValueError, KeyError, TypeError) as error:
        path = model_path(name_or_path).with_suffix(".json")
        raise ModelError(f"{path}: not the card of a model ({error!r})") from error
    return card


def model_for(fingerprint: bytes) -> str:
    """Name of the embedded model that a file was made with.

    Raises UnknownFingerprintError; never looks elsewhere.
    """
    for name in list_models():
        if bytes.fromhex(card_of(name)["fingerprint"])[:FINGERPRINT_BYTES] == fingerprint:
            return name
    raise UnknownFingerprintError(
        f"the file was made with a model of fingerprint {fingerprint.hex()}, which is not in "
        "this package: pass the path of its .safetensors file, its card beside it, or its "
        "hub:organisation/name as the model, or use the release of hvqcodec that made the file"
    )
