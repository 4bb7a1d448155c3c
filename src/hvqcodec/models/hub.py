"""Models from the Hugging Face Hub: `hub:organisation/name[@revision]`."""

import logging
import re
from pathlib import Path

from hvqcodec.errors import ModelError

PREFIX = "hub:"
WEIGHTS, CARD = "model.safetensors", "model.json"

_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def download(name: str) -> Path:
    """The weights file of `hub:organisation/name[@revision]`, its card beside it, from the
    cache if it is there or the Hub cannot be reached.

    Raises ModelError. The checksum in the card is verified when the model is loaded.
    """
    # Imported here: the rest of the package works without a word to the network.
    from huggingface_hub import hf_hub_download

    match = _ID.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise ModelError(f"{name!r} is no model of the Hub: write hub:organisation/name[@revision]")
    # What it logs of its retries would stand beside the one line of the error.
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        hf_hub_download(match["repo"], CARD, revision=match["revision"])
        return Path(hf_hub_download(match["repo"], WEIGHTS, revision=match["revision"]))
    # The client raises its own errors, those of its HTTP library and OSError.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{name} could not be fetched: {reason[0]}") from error
    finally:
        logger.setLevel(level)
