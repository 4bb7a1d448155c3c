"""Seconds and peak memory of the command line, from small photos to large ones.

    python -m benchmarks.large photo.png --megapixels 0.4 3 12 48 --plot large.svg

Each size is made of mirrored copies of the photo, so that only the number of pixels changes.
Every encode and decode is a process of its own, and the memory is that of the whole process
at its peak, interpreter and torch included.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photos import Photo, read_photo
from hvqcodec.optional import require

MEGAPIXELS = (0.4, 1.5, 3, 6, 12, 24, 48)


@dataclass(frozen=True)
class Cost:
    """Of one size."""

    megapixels: float
    encode_seconds: float
    decode_seconds: float
    encode_mib: float
    decode_mib: float


def enlarged(photo: Photo, pixels: float) -> Photo:
    """Mirrored copies side by side and above each other, in the proportions of the photo."""
    h, w = photo.shape[:2]
    scale = math.sqrt(pixels / (h * w))
    height, width = round(h * scale), round(w * scale)
    rows = np.pad(photo, ((0, max(0, height - h)), (0, 0), (0, 0)), "symmetric")[:height]
    return np.pad(rows, ((0, 0), (0, max(0, width - w)), (0, 0)), "symmetric")[:, :width]


PROGRAM = """
import atexit
from benchmarks.memory import peak_memory
from hvqcodec.cli import main
atexit.register(lambda: print(peak_memory()))
main()
"""
"""`hvq`, which says last what it took."""


def run(*arguments: str | Path) -> tuple[float, float]:
    """Seconds and peak MiB of `hvq ARGUMENTS`."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    begin = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"hvq {arguments[0]} failed")
    return seconds, int(done.stdout.split()[-1]) / 2**20


def measure(photo: Photo, megapixels: float, rate: float, threads: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        source, coded, decoded = (Path(folder) / f"photo{s}" for s in (".png", ".hvq", ".ppm"))
        Image.fromarray(enlarged(photo, megapixels * 1e6)).save(source, compress_level=1)
        common = ("--threads", str(threads))
        encode = run("encode", source, "-o", coded, "--rate", str(rate), *common)
        decode = run("decode", coded, "-o", decoded, *common)
    seconds, memory = zip(encode, decode, strict=True)
    return Cost(megapixels, *(round(value, 1) for value in (*seconds, *memory)))


def draw(path: Path, costs: Sequence[Cost]) -> None:
    figure = require("matplotlib.figure", "bench").Figure(figsize=(8.4, 3.4), layout="constrained")
    sizes = [cost.megapixels for cost in costs]
    for panel, unit, title in zip(
        figure.subplots(1, 2), ("seconds", "mib"), ("seconds", "MiB at the peak"), strict=True
    ):
        for verb in ("encode", "decode"):
            values = [getattr(cost, f"{verb}_{unit}") for cost in costs]
            panel.plot(sizes, values, marker="o", markersize=3, label=verb)
        panel.set(xlabel="megapixels", title=title, ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("--megapixels", type=float, nargs="+", default=MEGAPIXELS)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="PNG or SVG")
    options = parser.parse_args()
    photo, costs = read_photo(options.photo), []
    print("| megapixels | encode s | decode s | encode MiB | decode MiB |")
    print("|---|---|---|---|---|")
    for megapixels in options.megapixels:
        costs.append(measure(photo, megapixels, options.rate, options.threads))
        print(
            "| " + " | ".join(f"{value:g}" for value in asdict(costs[-1]).values()) + " |",
            flush=True,
        )
    if options.plot:
        draw(options.plot, costs)


if __name__ == "__main__":
    main()
