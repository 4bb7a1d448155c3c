"""Rate against distortion on real files, next to JPEG, WebP, AVIF and JPEG XL.

    python -m benchmarks.rd photos/kodak --perceptual networks --csv rd.csv --plot rd.svg

Every point is the mean over all photos at one setting. The rate counts every byte of the
file, and every codec gets bare pixels: no profile, no EXIF, no transparency. BD-rates
compare the first of `--codecs` with each of the others, and with those that `--beside` brings
of an earlier run. For hvq two checks of the single photos follow: how exactly its files have the
rate that was asked for, and whether a higher rate ever looks worse (`--ladder` takes smaller
steps).

A metric or codec whose package is not installed is left out, with a line that names it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from benchmarks import plot
from benchmarks.bd_rate import bd_rate, compared_rates
from benchmarks.codecs import PILLOW, Contender, UnreachableError, hvq, pillow
from benchmarks.photos import SUFFIXES, read_photo
from benchmarks.points import Point, curve, measure, read_points, write_points, write_rows
from benchmarks.rate_checks import print_deviations, print_ladder
from benchmarks.witness import add_witness
from hvqcodec.choices import DEFAULT_EFFORT, Effort
from hvqcodec.errors import MissingError
from hvqcodec.metrics import LOWER_IS_BETTER, MIN_SIDE, TITLES, Metrics
from hvqcodec.models.cards import DEFAULT
from hvqcodec.optional import require

RATES = (0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
LADDER = (0.06, 0.07, 0.08, 0.1, 0.12, 0.14, 0.17, 0.2, 0.25, 0.3)
EFFORTS: dict[str, Effort] = {"hvq": DEFAULT_EFFORT, "hvq-fast": "fast", "hvq-max": "max"}
TABLE = {"bpp": "bpp"} | TITLES | {"encode_seconds": "encode s", "decode_seconds": "decode s"}


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    photos = list(find_photos(options.photos))[:: options.every]
    if not photos:
        sys.exit("no photos there")
    metrics = Metrics(options.perceptual)
    for line in metrics.add_optional() + add_witness(metrics):
        print(line)
    contenders = list(find_contenders(options))
    points = measure_all(contenders, photos, metrics)
    if not points:
        sys.exit("nothing could be measured")
    measured = {point.codec for point in points}
    beside = [point for point in options.beside if point.codec not in measured]
    compared = points + beside
    if options.csv:
        write_points(options.csv, points)
    if options.rows:
        write_rows(options.rows, points)
    if options.plot:
        plot.draw(options.plot, compared)
    codecs = [contender.name for contender in contenders] + [point.codec for point in beside]
    print_bd_rates(compared, list(dict.fromkeys(codecs)))
    print_spending([p for p in points if "static_bits" in p.means])
    for contender in contenders:
        if contender.largest:
            own = [p for p in points if p.codec == contender.name]
            print_deviations(own, largest_files(contender.largest))
            print_ladder(own)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+", help="files and folders")
    parser.add_argument("--model", default=DEFAULT, help="name or path")
    parser.add_argument("--perceptual", type=Path, help="folder with the LPIPS and DLP networks")
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--rates",
        type=lambda text: [float(rate) for rate in text.split(",")],
        default=RATES,
        help="target bpp of hvq, with commas between",
    )
    rates.add_argument(
        "--ladder",
        dest="rates",
        action="store_const",
        const=LADDER,
        help=f"{len(LADDER)} rates between {LADDER[0]} and {LADDER[-1]} bpp",
    )
    parser.add_argument(
        "--codecs",
        type=lambda text: text.split(","),
        default=["hvq", *PILLOW],
        help=f"some of {','.join([*EFFORTS, *PILLOW])}; hvq-fast and hvq-max take that effort",
    )
    parser.add_argument(
        "--beside",
        type=points_of_file,
        default=[],
        metavar="CSV",
        help="other codecs, as an earlier run on these photos wrote them with --csv",
    )
    parser.add_argument("--csv", type=Path, help="write all points there")
    parser.add_argument("--rows", type=Path, help="write the figures of each photo there")
    parser.add_argument("--plot", type=Path, help="draw the curves there, as PNG or SVG")
    parser.add_argument("--every", type=int, default=1, help="take every Nth photo")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if unknown := set(options.codecs) - {*EFFORTS, *PILLOW}:
        parser.error(f"unknown codec {', '.join(sorted(unknown))}")
    # What would otherwise come to light only after all the work.
    for path in (options.csv, options.rows, options.plot):
        if path and not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent}")
    if options.plot:
        if options.plot.suffix not in plot.SUFFIXES:
            parser.error(f"--plot writes {' or '.join(plot.SUFFIXES)}, not {options.plot}")
        try:
            require("matplotlib", "bench")
        except MissingError as error:
            parser.error(f"--plot: {error}")
    return options


def points_of_file(name: str) -> list[Point]:
    try:
        return read_points(Path(name))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def find_photos(paths: list[Path]) -> Iterator[Path]:
    """The photos of files and folders, in a fixed order; only their headers are read."""
    for path in paths:
        inside = path.iterdir() if path.is_dir() else [path]
        for photo in sorted(p for p in inside if p == path or p.suffix.lower() in SUFFIXES):
            try:
                with Image.open(photo) as image:
                    side = min(image.size)
            except OSError as error:
                sys.exit(f"{photo} is not a readable photo: {error}")
            if side < MIN_SIDE:
                sys.exit(f"{photo} is too small: MS-SSIM needs sides of at least {MIN_SIDE} pixels")
            yield photo


def find_contenders(options: argparse.Namespace) -> Iterator[Contender]:
    for name in options.codecs:
        try:
            if name in EFFORTS:
                yield hvq(options.model, options.rates, EFFORTS[name])
            else:
                yield pillow(name, options.threads)
        except MissingError as error:
            print(f"{name} is left out: {error}")


def measure_all(
    contenders: Sequence[Contender], photos: Sequence[Path], metrics: Metrics
) -> list[Point]:
    """All points, each printed when it is there."""
    print(f"\n{len(photos)} photos\n")
    print(" ".join([f"{'codec':<8} {'setting':>8}", *(f"{t:>{width(t)}}" for t in TABLE.values())]))
    points = []
    for contender in contenders:
        for setting in contender.settings:
            try:
                point = measure(contender, setting, photos, metrics)
            except UnreachableError as error:
                print(f"{contender.name:<8} {setting:8g}  left out: {error}", flush=True)
                continue
            print_point(point)
            points.append(point)
    return points


def width(title: str) -> int:
    return max(9, len(title))


def print_point(point: Point) -> None:
    cells = (
        f"{point.means[key]:{width(title)}.4f}" if key in point.means else f"{'-':>{width(title)}}"
        for key, title in TABLE.items()
    )
    print(" ".join([f"{point.codec:<8} {point.setting:8g}", *cells]), flush=True)


def print_bd_rates(points: Sequence[Point], codecs: Sequence[str]) -> None:
    """Per metric the bits that the first codec needs for what each other one reaches."""
    if len(codecs) < 2:
        return
    subject, *anchors = codecs
    present = [m for m in TITLES if any(m in point.means for point in points)]
    widths = [width(TITLES[m]) for m in present]
    titles = (f"{TITLES[m]:>{w}}" for m, w in zip(present, widths, strict=True))
    print(f"\nBD-rate of {subject}   " + " ".join(titles))
    notes = []
    for anchor in anchors:
        cells = []
        for metric, w in zip(present, widths, strict=True):
            curves = *curve(points, anchor, metric), *curve(points, subject, metric)
            lower = metric in LOWER_IS_BETTER
            try:
                cells.append(f"{bd_rate(*curves, lower_is_better=lower):{w - 1}.1f}%")
                theirs, ours = compared_rates(*curves, lower_is_better=lower)
                spans = f"{subject} at {span(ours)}, {anchor} at {span(theirs)} bpp"
                notes.append(f"  {TITLES[metric]}: {spans}")
            except ValueError as error:
                cells.append(f"{'-':>{w}}")
                notes.append(f"  none for {anchor}, {TITLES[metric]}: {error}")
        print(f"  against {anchor:<{len(subject) + 5}}" + " ".join(cells))
    print("\nOver what both reach:", *notes, sep="\n")


def span(rates: tuple[float, float]) -> str:
    return f"{rates[0]:.3f} to {rates[1]:.3f}"


def print_spending(points: Sequence[Point]) -> None:
    if not points:
        return
    print("\nIndices and z against static coding of the same indices; shares of the file")
    print("setting   saved       z     map  container  container bytes")
    for point in points:
        m = point.means
        print(
            f"{point.setting:7g} {saved([point]):7.1%} {m['z_share']:7.1%} {m['map_share']:7.1%}"
            f" {m['container_share']:10.1%} {m['container_bytes']:16.1f}"
        )
    print(f" pooled {saved(points):7.1%}")


def saved(points: Sequence[Point]) -> float:
    """Of the bits of indices and z of all photos: every mean is over the same photos."""
    spent = sum(point.means["index_bits"] + point.means["z_bits"] for point in points)
    return 1 - spent / sum(point.means["static_bits"] for point in points)


def largest_files(largest: Callable[[Image.Image], int]) -> Callable[[Path], int]:
    """By the path of the photo; each photo is coded once."""
    return cache(lambda photo: largest(Image.fromarray(read_photo(photo))))


if __name__ == "__main__":
    main()
