"""What models make of photos at several rates, for the benchmarks that look at the pictures of
all photos together."""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from benchmarks.photos import Photo
from hvqcodec import Codec, HvqWarning
from hvqcodec.choices import DEFAULT_EFFORT, Effort


def options_parser(description: str | None, rates: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+", help="folders and tar files")
    parser.add_argument("--models", nargs="+", default=["base"], help="names and paths")
    parser.add_argument("--perceptual", type=Path, help="folder with the LPIPS and DLP networks")
    parser.add_argument("--rates", default=rates, help="bits per pixel, with commas between")
    parser.add_argument("--effort", choices=get_args(Effort), default=DEFAULT_EFFORT)
    parser.add_argument("--limit-photos", type=int)
    return parser


def decoded(
    options: argparse.Namespace, photos: Sequence[Photo]
) -> Iterator[tuple[str, float, list[Photo]]]:
    """Model, rate, and the photos, coded by the one at the other and decoded again."""
    for model in options.models:
        codec = Codec.load(model)
        for rate in map(float, options.rates.split(",")):
            coded = files(codec, photos, rate, options.effort)
            yield model, rate, [codec.decompress(file, output="numpy") for file in coded]


def files(codec: Codec, photos: Sequence[Photo], rate: float, effort: Effort) -> list[bytes]:
    """Photos that cannot use a rate are coded at their maximum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HvqWarning)
        return [codec.compress(photo, bpp=rate, effort=effort) for photo in photos]
