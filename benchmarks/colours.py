"""How far pictures of one colour, which no photo has taught a model, come out of that colour.

    python -m benchmarks.colours

384x256 pixels of each colour at quality 100, without residual and with it: the pixel in the middle,
and the error in levels of 255, root mean square and at most.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.residual import WithoutResidual
from hvqcodec import Codec

COLOURS = ((128, 128, 128), (34, 85, 51), (0, 0, 255), (255, 0, 0), (100, 150, 220), (0, 255, 0))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="base", help="name or path")
    codec = Codec.load(parser.parse_args(given).model)
    print("| colour | residual | middle | rms | at most |")
    print("|---" * 5 + "|")
    for colour in COLOURS:
        picture = np.full((256, 384, 3), colour, np.uint8)
        for coder, said in ((WithoutResidual(codec.model), "without"), (codec, "with")):
            shown = codec.decompress(coder.compress(picture, quality=100), output="numpy")
            errors = shown.astype(float) - picture
            middle, rms = tuple(shown[128, 192].tolist()), np.sqrt(np.square(errors).mean())
            print(f"| {colour} | {said} | {middle} | {rms:.1f} | {np.abs(errors).max():.0f} |")


if __name__ == "__main__":
    main()
