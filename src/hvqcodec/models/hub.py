"""Models from the Hugging Face Hub: `hub:organisation/name[@revision]`."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvqcodec.errors import ModelError

PREFIX = "hub:"
WEIGHTS, CARD = "model.safetensors", "model.json"

_levels: list[int] = []
"""Of the client's logger, as each download that goes on has found it."""

_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def download(name: str) -> Path:
    """The weights file of `hub:organisation/name[@revision]`, its card beside it; from the
    cache if the revision is the hash of a commit that is there, else if the Hub has no newer one
    or cannot be reached.

    Raises ModelError. The checksum in the card is verified when the model is loaded.
    """
    # Imported here: the rest of the package works without a word to the network.
    from huggingface_hub import hf_hub_download

    match = _ID.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise ModelError(f"{name!r} is no model of the Hub: write hub:organisation/name[@revision]")
    try:
        with _quiet():
            hf_hub_download(match["repo"], CARD, revision=match["revision"])
            return Path(hf_hub_download(match["repo"], WEIGHTS, revision=match["revision"]))
    # The client raises its own errors, those of its HTTP library and OSError.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{name} could not be fetched: {reason[0]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What the client logs of its retries would stand beside the one line of the error."""
    logger = logging.getLogger("huggingface_hub")
    _levels.append(logger.level)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        level = _levels.pop()
        if not _levels:  # the first that was noted, whichever download ends last
            logger.setLevel(level)
