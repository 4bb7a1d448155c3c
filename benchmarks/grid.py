"""Does a model weave the grid of its codes into the picture?

    python -m benchmarks.grid photos --perceptual networks --rates 0.1,0.2 \\
        --models base other.safetensors

Real files, over all photos. `weave` is the power of the error in flat areas at a period of 4
pixels (the side of a fine code), beside that at periods close to it: 1 without a pattern.
`tiles` is the power in what repeats there every 16 pixels (the side of a coarse code), beside that
which would by chance: 1 without a pattern, 16 with nothing else. LPIPS and DLP are those of the
picture, and of the picture without its first two rows and columns: AlexNet's first layer has a
stride of 4, so a model may learn to look right where that falls on the grid of its codes, and
nowhere else.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks import decoded
from benchmarks.photos import MOVED, Photo, load_photos
from hvqcodec.arrays import Floats
from hvqcodec.metrics import to_tensor
from hvqcodec.metrics.perceptual import load_perceptual

SIDE = 32
"""Of the squares whose spectrum is taken, in pixels."""
FLAT = 4.0
"""Standard deviation of the brightness, out of 255, that no flat square exceeds."""
LINE = SIDE // 4
CLOSE = (LINE - 2, LINE - 1, LINE + 1, LINE + 2)
TILE, TILES = 16, 4
"""Side of what may repeat, and how many there are along a side of the squares judged for it."""


def main(given: Sequence[str] | None = None) -> None:
    options = decoded.options_parser(__doc__, rates="0.1,0.2").parse_args(given)
    photos = load_photos(options.photos, options.limit_photos)
    networks = [n for n in load_perceptual(options.perceptual) if n is not None]
    names = [f"{type(n).__name__}{where}" for n in networks for where in ("", " beside")]
    print("| " + " | ".join(["model", "bpp", "weave", "tiles", *names]) + " |")
    print("|---" * (4 + len(names)) + "|")
    for model, rate, pictures in decoded.decoded(options, photos):
        figures = [weave(pictures, photos), tiles(pictures, photos)]
        for network in networks:
            for start in (0, MOVED):
                pairs = (
                    [to_tensor(photo[start:, start:]) for photo in pair]
                    for pair in zip(pictures, photos, strict=True)
                )
                figures.append(float(np.mean([network(*pair).item() for pair in pairs])))
        cells = " | ".join(f"{figure:.4f}" for figure in figures)
        print(f"| {model} | {rate:g} | {cells} |", flush=True)


def weave(decoded: Sequence[Photo], originals: Sequence[Photo]) -> float:
    """Of RGB (H, W, 3) each; NaN if nothing in the originals is flat."""
    power = np.zeros((SIDE, SIDE))
    for error in flat_errors(decoded, originals, SIDE):
        power += np.square(np.abs(np.fft.fft2(error)))
    lines = power.sum(0) + power.sum(1)  # the spectrum of a real error is even
    return float(lines[LINE] / lines[list(CLOSE)].mean()) if power.any() else float("nan")


def tiles(decoded: Sequence[Photo], originals: Sequence[Photo]) -> float:
    """Likewise."""
    repeated = power = 0.0
    for error in flat_errors(decoded, originals, TILE * TILES):
        power += error.var()
        repeated += error.reshape(TILES, TILE, TILES, TILE).mean((0, 2)).var()
    return float(TILES**2 * repeated / power) if power else float("nan")


def flat_errors(
    decoded: Sequence[Photo], originals: Sequence[Photo], side: int
) -> Iterator[Floats]:
    """Of the brightness, (side, side), in each square of the originals that is flat."""
    for found, original in zip(decoded, originals, strict=True):
        bright, error = original.mean(2), found.astype(np.float64).mean(2) - original.mean(2)
        for top in range(0, len(bright) - side + 1, side):
            for left in range(0, bright.shape[1] - side + 1, side):
                square = slice(top, top + side), slice(left, left + side)
                if bright[square].std() <= FLAT:
                    yield error[square]


if __name__ == "__main__":
    main()
