"""What there is to work with on this machine, and whether it works."""

import importlib.metadata
import os
import platform
import time
from dataclasses import asdict, dataclass
from importlib import resources

import numpy as np
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from numpy.typing import NDArray

import hvqcodec
from hvqcodec.codec import Codec
from hvqcodec.errors import HvqError
from hvqcodec.metrics.measuring import to_tensor
from hvqcodec.metrics.similarity import psnr
from hvqcodec.models.cards import DEFAULT, model_path

PACKAGES = ("torch", "numpy", "pillow", "constriction", "safetensors", "huggingface-hub", "click")
EXTRAS = {
    "metrics": "ssimulacra2",
    "demo": "gradio",
    "ray": "ray",
    "remote": "aiohttp",
}
"""Extra: the package that shows that it is installed."""

MIN_PSNR = 26.0
"""In dB, of the sample picture after a round trip; a sound model stays above."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried, and what came of it."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Report:
    facts: dict[str, str]
    checks: list[Check]

    @property
    def well(self) -> bool:
        """Whether everything that was tried works."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"well": self.well}

    def lines(self) -> list[str]:
        """For people."""
        return [
            *(f"{name:<14} {fact}" for name, fact in self.facts.items()),
            *(f"{'ok' if c.passed else 'FAILED':<14} {c.name}: {c.detail}" for c in self.checks),
        ]


def examine(model: str = DEFAULT, device: str = "cpu", threads: int | None = None) -> Report:
    """Facts and checks; what goes wrong is a failed check, never an error."""
    if threads:
        torch.set_num_threads(threads)
    facts = machine_facts(device)
    try:
        codec = Codec.load(model, device=device)
    except HvqError as error:
        return Report(facts, [Check("load the model", False, str(error))])
    facts |= model_facts(codec, model)
    checks = [round_trip(codec)]
    if model == DEFAULT:
        checks.append(sample_of_elsewhere(codec))
    return Report(facts, checks)


def machine_facts(device: str) -> dict[str, str]:
    """Versions, processors and places."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = {name: version_of(name) for name in PACKAGES}
    versions["torch"] = torch.__version__  # which names its build as well
    installed = [extra for extra, package in EXTRAS.items() if version_of(package)]
    return {
        "hvqcodec": hvqcodec.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "extras": ", ".join(installed) or "none",
        "device": device,
        "gpus": ", ".join(gpus) or "none",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "hub cache": HF_HUB_CACHE,
    }


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def model_facts(codec: Codec, model: str) -> dict[str, str]:
    parameters = sum(p.numel() for p in codec.model.networks.parameters())
    return {
        "model": f"{model}, {parameters / 1e6:.1f} million parameters",
        "fingerprint": codec.model.fingerprint.hex(),
        "weights": str(model_path(model)),
    }


def round_trip(codec: Codec) -> Check:
    """Encode and decode the sample picture."""
    name, picture = "encode and decode", sample_picture()
    begin = time.perf_counter()
    try:
        data = codec.compress(picture)
        encoded = time.perf_counter()
        decoded = codec.decompress(data, output="numpy")
    # On a device that torch knows badly it raises errors of every kind.
    except Exception as error:
        return Check(name, False, str(error))
    seconds = encoded - begin, time.perf_counter() - encoded
    decibels = psnr(to_tensor(picture), to_tensor(decoded)).item()
    detail = f"{len(data)} bytes, {decibels:.1f} dB, {seconds[0]:.2f} s and {seconds[1]:.2f} s"
    return Check(name, decibels >= MIN_PSNR, detail)


def sample_of_elsewhere(codec: Codec) -> Check:
    """Decode the file of the sample picture that came with the model. Its checksum shows whether
    the tables of this machine are those of the machine that made it."""
    name = "decode a file of another machine"
    try:
        data = (resources.files("hvqcodec") / "weights" / f"{DEFAULT}.hvq").read_bytes()
        decoded = codec.decompress(data, output="numpy")
    except Exception as error:
        return Check(name, False, str(error))
    decibels = psnr(to_tensor(sample_picture()), to_tensor(decoded)).item()
    return Check(name, decibels >= MIN_PSNR, f"{len(data)} bytes, {decibels:.1f} dB")


def sample_picture() -> NDArray[np.uint8]:
    """A sky with a sun over water with ripples, (96, 128, 3): the same everywhere, since all
    is reckoned in integers."""
    rows, columns = np.mgrid[0:96, 0:128]
    red, green, blue = 90 + rows, 140 + columns // 4, 230 - rows
    water = rows >= 60
    ripple = (rows + columns // 8) % 6 < 3
    red = np.where(water, 30 + 25 * ripple, red)
    green = np.where(water, 80 + 25 * ripple, green)
    blue = np.where(water, 120 + 20 * ripple, blue)
    sun = (rows - 30) ** 2 + (columns - 90) ** 2 < 14**2
    channels = [np.where(sun, value, c) for c, value in ((red, 250), (green, 220), (blue, 120))]
    return np.stack(channels, 2).astype(np.uint8)
