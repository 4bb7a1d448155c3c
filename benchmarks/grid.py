"""Does a model weave the grid of its codes into the picture?

    python -m benchmarks.grid photos --perceptual networks --rates 0.1,0.2 \\
        --models base other.safetensors

Real files, over all photos. `weave` is the power of the error in flat areas at a period of 4
pixels (the side of a fine code), beside that at periods close to it: 1 without a pattern.
LPIPS and DLP are those of the picture, and of the picture without its first two rows and
columns: AlexNet's first layer has a stride of 4, so a model may learn to look right where that
falls on the grid of its codes, and nowhere else.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hvqcodec import Codec, HvqWarning
from hvqcodec.metrics import to_tensor
from hvqcodec.metrics.perceptual import load_perceptual
from training.data import Photo, load_photos

SIDE = 32
"""Of the squares whose spectrum is taken, in pixels."""
FLAT = 4.0
"""Standard deviation of the brightness, out of 255, that no flat square exceeds."""
LINE = SIDE // 4
CLOSE = (LINE - 2, LINE - 1, LINE + 1, LINE + 2)
BESIDE = 2


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+", help="folders and tar files")
    parser.add_argument("--models", nargs="+", default=["base"], help="names and paths")
    parser.add_argument("--perceptual", type=Path, help="folder with the LPIPS and DLP networks")
    parser.add_argument("--rates", default="0.1,0.2", help="bits per pixel, with commas between")
    parser.add_argument("--limit-photos", type=int)
    options = parser.parse_args(given)
    photos = load_photos(options.photos, options.limit_photos)
    networks = [n for n in load_perceptual(options.perceptual) if n is not None]
    names = [f"{type(n).__name__}{where}" for n in networks for where in ("", " beside")]
    print("| " + " | ".join(["model", "bpp", "weave", *names]) + " |")
    print("|---" * (3 + len(names)) + "|")
    # Photos that cannot use a rate are coded at their maximum.
    warnings.simplefilter("ignore", HvqWarning)
    for model in options.models:
        codec = Codec.load(model)
        for rate in map(float, options.rates.split(",")):
            decoded = [
                codec.decompress(codec.compress(p, bpp=rate), output="numpy") for p in photos
            ]
            figures = [weave(decoded, photos)]
            for network in networks:
                for start in (0, BESIDE):
                    pairs = (
                        [to_tensor(p[start:, start:].copy()) for p in pair]
                        for pair in zip(decoded, photos, strict=True)
                    )
                    figures.append(float(np.mean([network(*pair).item() for pair in pairs])))
            cells = " | ".join(f"{figure:.4f}" for figure in figures)
            print(f"| {model} | {rate:g} | {cells} |", flush=True)


def weave(decoded: Sequence[Photo], originals: Sequence[Photo]) -> float:
    """Of RGB (H, W, 3) each; NaN if nothing in the originals is flat."""
    power = np.zeros((SIDE, SIDE))
    for found, original in zip(decoded, originals, strict=True):
        bright, error = original.mean(2), found.astype(np.float64).mean(2) - original.mean(2)
        for top in range(0, len(bright) - SIDE + 1, SIDE):
            for left in range(0, bright.shape[1] - SIDE + 1, SIDE):
                square = slice(top, top + SIDE), slice(left, left + SIDE)
                if bright[square].std() <= FLAT:
                    power += np.square(np.abs(np.fft.fft2(error[square])))
    lines = power.sum(0) + power.sum(1)  # the spectrum of a real error is even
    return float(lines[LINE] / lines[list(CLOSE)].mean()) if power.any() else float("nan")


if __name__ == "__main__":
    main()
