"""One image, wherever it is encoded: the same for all engines."""

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hvqcodec.choices import DEFAULT_EFFORT
from hvqcodec.errors import HvqError, HvqWarning, ImageError, is_out_of_memory
from hvqcodec.files import read_file
from hvqcodec.models.cards import card_of
from hvqcodec.optional import require
from hvqcodec.rate import DEFAULT_QUALITY

_WITHOUT_TRACE = ("tile", "max_pixels", "progress")
"""Choices that leave none in the file."""


@dataclass(frozen=True)
class Settings:
    """How all images are encoded; plain values, since they travel to other processes."""

    model: str
    device: str
    threads: int
    """Of the processor, for each worker."""
    choices: dict[str, Any]
    """Of `Codec.compress`."""

    def digest(self) -> str:
        """Equal where equal files come out. Raises ModelError."""
        weights = card_of(self.model)["sha256"]  # models of one fingerprint may differ in it
        given = {
            name: float(value) if name in ("quality", "bpp") else value
            for name, value in self.choices.items()
            # What comes to the same as leaving it out; 0 is neither of these.
            if name not in _WITHOUT_TRACE and value is not None and value is not False
            if (name, value) not in (("effort", DEFAULT_EFFORT), ("quality", DEFAULT_QUALITY))
        }
        text = json.dumps([weights, given], sort_keys=True, default=int)  # numpy's integers
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    input: str
    """Path or URL."""
    output: str
    """Below the folder of the outputs, with slashes."""


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back: a file's bytes, or why there are none."""

    data: bytes | None
    seconds: float
    error: str | None = None
    notices: list[str] = field(default_factory=list)
    photo: str | None = None
    """SHA-256 of the input, if it was encoded."""


@dataclass(frozen=True)
class Record:
    """A line of the manifest."""

    input: str
    output: str
    bytes: int | None
    bpp: float | None
    seconds: float
    """In the worker, reading included."""
    error: str | None
    notices: list[str]
    sha256: str | None
    """Of the output; with `settings` it tells whether there is anything left to do."""
    settings: str
    """A digest of the model and the choices."""
    photo: str | None = None
    """SHA-256 of the input; releases before 0.8 did not note it."""

    def to_line(self) -> str:
        """JSON in ASCII: names may hold what ends a line, or what is no UTF-8."""
        return json.dumps(asdict(self))


Engine = Callable[[Settings, Sequence[Job], int], Iterator[tuple[Job, Outcome]]]
"""Encodes jobs with so many workers, and yields them as they are done, in any order. Raises
ModelError if no worker can begin."""


class Worker:
    """A loaded model and its choices; each process has one."""

    def __init__(self, settings: Settings) -> None:
        import torch
        from PIL import Image

        from hvqcodec.codec import Codec

        torch.set_num_threads(settings.threads)
        Image.MAX_IMAGE_PIXELS = None  # `max_pixels` among the choices is the limit
        self.codec = Codec.load(settings.model, device=settings.device)
        self.choices = settings.choices

    def encode(self, source: str) -> Outcome:
        """Never raises for what is wrong with an image, its file or its rate."""
        begin, data, fault, photo = time.perf_counter(), None, None, None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                content = read_source(source)
                data = self.codec.compress(content, **self.choices)
                photo = hashlib.sha256(content).hexdigest()
            except HvqError as error:
                fault = " ".join(str(error).split())
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                fault = "not enough memory"
        if fault and source not in fault:
            fault = f"{source}: {fault.removeprefix('the image: ')}"
        notices = [str(w.message) for w in caught if issubclass(w.category, HvqWarning)]
        return Outcome(data, time.perf_counter() - begin, fault, notices, photo)


def read_source(source: str) -> bytes:
    """What a path or URL holds. Raises FileError, and ImageError for URLs."""
    if not is_url(source):
        return read_file(Path(source))
    fsspec = require("fsspec", "remote")
    try:
        with fsspec.open(source, "rb") as file:
            content: bytes = file.read()
            return content
    # Each kind of storage has errors of its own.
    except Exception as error:
        raise ImageError(f"{source}: cannot be read ({error})") from error


def is_url(name: str) -> bool:
    """Also one of a chain, such as zip://a.png::photos.zip or simplecache::https://..."""
    return re.match(r"([A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://", name) is not None
