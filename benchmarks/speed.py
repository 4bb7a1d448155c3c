"""Seconds per photo, step by step, and peak memory.

    python -m benchmarks.speed photo.png --bpp 0.2 --repeat 5 --threads 2

The model is loaded once and the first pass is not counted.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import get_args

import torch
from PIL import Image

from benchmarks.memory import peak_memory
from benchmarks.photos import read_photo
from hvqcodec import Codec, timing
from hvqcodec.choices import DEFAULT_EFFORT, Effort
from hvqcodec.models.cards import DEFAULT

ENTROPY_STEPS = ("tables", "range coding")

Steps = dict[str, float]
"""Seconds by step; "total" is the whole call."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    try:
        photo = Image.fromarray(read_photo(options.photo))
    except OSError as error:
        sys.exit(f"{options.photo} is not a readable photo: {error}")
    codec = Codec.load(options.model)

    def coded() -> bytes:
        return codec.compress(photo, bpp=options.bpp, effort=options.effort)

    data = coded()
    codec.decompress(data)
    encode = median_steps(coded, options.repeat)
    decode = median_steps(lambda: codec.decompress(data), options.repeat)

    print(
        f"{photo.width}x{photo.height}, {len(data)} bytes,"
        f" {8 * len(data) / (photo.width * photo.height):.4f} bpp,"
        f" effort {options.effort}, {options.threads} threads, median of {options.repeat}"
    )
    print_table(encode, decode)
    print(f"\npeak memory {peak_memory() / 2**20:.0f} MiB")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default=DEFAULT, help="name or path")
    parser.add_argument("--bpp", type=float, default=0.2)
    parser.add_argument("--effort", choices=get_args(Effort), default=DEFAULT_EFFORT)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def median_steps(call: Callable[[], object], repeat: int) -> Steps:
    runs = [timed(call) for _ in range(repeat)]
    return {name: median(run.get(name, 0.0) for run in runs) for name in all_names(runs)}


def timed(call: Callable[[], object]) -> Steps:
    begin = time.perf_counter()
    with timing.record() as steps:
        call()
    return steps | {"total": time.perf_counter() - begin}


def all_names(runs: Sequence[Steps]) -> list[str]:
    """In order of first appearance, the total last."""
    names = dict.fromkeys(name for run in runs for name in run)
    return [name for name in names if name != "total"] + ["total"]


def print_table(encode: Steps, decode: Steps) -> None:
    print(f"\n{'seconds':<24} {'encode':>9} {'decode':>9}")
    for name in all_names([encode, decode]):
        cells = (f"{s[name]:9.4f}" if name in s else f"{'-':>9}" for s in (encode, decode))
        print(f"{name:<24} {' '.join(cells)}")
    shares = (sum(s.get(n, 0.0) for n in ENTROPY_STEPS) / s["total"] for s in (encode, decode))
    print(f"{' + '.join(ENTROPY_STEPS):<24} " + " ".join(f"{share:9.1%}" for share in shares))


if __name__ == "__main__":
    main()
