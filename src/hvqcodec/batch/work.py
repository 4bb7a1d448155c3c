"""One file, wherever it is encoded or decoded: the same for all engines."""

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqcodec.bitstream import Bitstream
from hvqcodec.choices import DEFAULT_EFFORT
from hvqcodec.errors import HvqError, HvqWarning, ImageError, is_out_of_memory
from hvqcodec.files import read_file
from hvqcodec.models.cards import DEFAULT, card_of, model_for
from hvqcodec.optional import require
from hvqcodec.probing import probe
from hvqcodec.rate import DEFAULT_QUALITY
from hvqcodec.saving import format_of, to_file_bytes

if TYPE_CHECKING:
    from hvqcodec.codec import Codec

HVQ = ".hvq"

_WITHOUT_TRACE = ("tile", "max_pixels", "max_metadata_bytes", "progress")
"""Choices that leave none in the file."""


@dataclass(frozen=True)
class Settings:
    """What becomes of all files; plain values, since they travel to other processes."""

    model: str | None
    """None, to decode each file with the one inside the package that made it."""
    device: str
    threads: int
    """Of the processor, for each worker."""
    choices: dict[str, Any]
    """Of `Codec.compress`, or of `Codec.decompress`."""
    suffix: str = HVQ
    """Of the outputs: with any other one, `.hvq` files are decoded to images."""

    @property
    def encodes(self) -> bool:
        return self.suffix == HVQ

    def check(self) -> None:
        """Raises ValueError, and ImageError for the suffix of no format."""
        if self.threads < 1:
            raise ValueError(f"settings.threads must be at least 1, not {self.threads}")
        if not self.encodes:
            format_of(self.suffix)
        elif self.model is None:
            raise ValueError("settings.model: name the model to encode with")

    def digest(self) -> str:
        """Equal where equal files come out. Raises ModelError."""
        # Models of one fingerprint may differ in it.
        weights = [] if self.model is None else [card_of(self.model)["sha256"]]
        given = {
            name: float(value) if name in ("quality", "bpp") else value
            for name, value in self.choices.items()
            # What comes to the same as leaving it out; 0 is neither of these.
            if name not in _WITHOUT_TRACE and value is not None and value is not False
            if (name, value) not in (("effort", DEFAULT_EFFORT), ("quality", DEFAULT_QUALITY))
        }
        facts = [*weights, given] if self.encodes else [*weights, given, self.suffix.lower()]
        text = json.dumps(facts, sort_keys=True, default=int)  # numpy's integers
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    input: str
    """Path or URL."""
    output: str
    """Below the folder of the outputs, with slashes."""


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back: the output's bytes, or why there are none."""

    data: bytes | None
    seconds: float
    error: str | None = None
    notices: list[str] = field(default_factory=list)
    photo: str | None = None
    """SHA-256 of the input, if there is an output."""
    bpp: float | None = None
    """Of the `.hvq` file, be it output or input, likewise."""


@dataclass(frozen=True)
class Record:
    """A line of the manifest."""

    input: str
    output: str
    bytes: int | None
    """Of the output."""
    bpp: float | None
    """Of the `.hvq` file."""
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
"""Does jobs with so many workers, and yields them as they are done, in any order. Raises
ModelError if no worker can begin."""


class Worker:
    """Loaded models and what is to be done with them; each process has one.

    Raises ModelError for a model and for a device that cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        import torch
        from PIL import Image

        torch.set_num_threads(settings.threads)
        Image.MAX_IMAGE_PIXELS = None  # `max_pixels` among the choices is the limit
        self.settings = settings
        self.codecs: dict[str, Codec] = {}
        self.codec(settings.model or DEFAULT)  # so that a fault of model or device is told at once

    def codec(self, model: str) -> "Codec":
        from hvqcodec.codec import Codec

        if model not in self.codecs:
            self.codecs[model] = Codec.load(model, device=self.settings.device)
        return self.codecs[model]

    def convert(self, source: str) -> Outcome:
        """Never raises for what is wrong with an image, its file or its rate."""
        begin, data, fault, photo, bpp = time.perf_counter(), None, None, None, None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                content = read_source(source)
                data = self.encode(content) if self.settings.encodes else self.decode(content)
                photo = hashlib.sha256(content).hexdigest()
                bpp = probe(data if self.settings.encodes else content).bpp
            except HvqError as error:
                fault = " ".join(str(error).split())
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                fault = "not enough memory"
        if fault and source not in fault:
            fault = f"{source}: {fault.removeprefix('the image: ')}"
        notices = [str(w.message) for w in caught if issubclass(w.category, HvqWarning)]
        return Outcome(data, time.perf_counter() - begin, fault, notices, photo, bpp)

    def encode(self, photo: bytes) -> bytes:
        return self.codec(self.settings.model or DEFAULT).compress(photo, **self.settings.choices)

    def decode(self, file: bytes) -> bytes:
        model = self.settings.model or model_for(Bitstream.from_bytes(file).fingerprint)
        image = self.codec(model).decompress(file, **self.settings.choices)
        return to_file_bytes(image, self.settings.suffix)


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
