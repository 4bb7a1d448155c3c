"""Rate against distortion on real files, next to JPEG, WebP and AVIF.

    python -m benchmarks.rd photos/kodak --perceptual networks --csv rd.csv

Every point is the mean over all photos at one setting. The rate counts every byte of the
file, and every codec gets bare pixels: no profile, no EXIF. BD-rates compare the first of
`--codecs` with each of the others.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import AvifImagePlugin, Image

from benchmarks.metrics import LOWER_IS_BETTER, MIN_SIDE, Metrics, bd_rate
from training.data import SUFFIXES, read_photo

PILLOW: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "jpeg": ({"subsampling": "4:2:0", "optimize": True}, (3, 5, 8, 12, 18, 25, 32)),
    "webp": ({"method": 6}, (0, 2, 5, 10, 20, 35, 50)),
    # Tiles would cost bits, and their number depends on the machine's threads.
    "avif": ({"speed": 4, "autotiling": False}, (1, 8, 16, 24, 32, 42, 52)),
}
"""Options and qualities per format; the qualities span about 0.05 to 0.7 bpp."""

METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "lpips": "LPIPS", "dlp": "DLP"}
TABLE = {"bpp": "bpp"} | METRICS | {"encode_seconds": "encode s", "decode_seconds": "decode s"}


class UnreachableError(Exception):
    """A photo cannot be coded at the setting, so a mean would be over other photos."""


@dataclass(frozen=True)
class Contender:
    name: str
    settings: Sequence[float]
    encode: Callable[[Image.Image, float], bytes]
    decode: Callable[[bytes], Image.Image]
    inspect: Callable[[bytes], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Point:
    """Means over all photos at one setting."""

    codec: str
    setting: float
    means: dict[str, float]


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
        AvifImagePlugin.DEFAULT_MAX_THREADS = options.threads
    photos = list(find_photos(options.photos))[:: options.every]
    if not photos:
        sys.exit("no photos there")
    metrics = Metrics(options.perceptual)
    contenders = [
        hvq(options.model, options.rates) if name == "hvq" else pillow(name)
        for name in options.codecs
    ]
    print(f"{len(photos)} photos\n")
    print(" ".join([f"{'codec':<6} {'setting':>8}", *(f"{t:>9}" for t in TABLE.values())]))
    points = []
    for contender in contenders:
        for setting in contender.settings:
            try:
                point = measure(contender, setting, photos, metrics)
            except UnreachableError as error:
                print(f"{contender.name:<6} {setting:8g}  left out: {error}", flush=True)
                continue
            print_point(point)
            points.append(point)
    if options.csv:
        write_csv(options.csv, points)
    print_bd_rates(points, options.codecs)
    print_spending([p for p in points if "static_bits" in p.means])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+", help="files and folders")
    parser.add_argument("--model", help="name or path; the embedded one without it")
    parser.add_argument("--perceptual", type=Path, help="folder with the LPIPS and DLP networks")
    parser.add_argument(
        "--rates",
        type=lambda text: [float(rate) for rate in text.split(",")],
        default=[0.06, 0.08, 0.1, 0.15, 0.2, 0.3],
        help="target bpp of hvq, with commas between",
    )
    parser.add_argument(
        "--codecs",
        type=lambda text: text.split(","),
        default=["hvq", *PILLOW],
        help="some of these",
    )
    parser.add_argument("--csv", type=Path, help="write all points there")
    parser.add_argument("--every", type=int, default=1, help="take every Nth photo")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if unknown := set(options.codecs) - {"hvq", *PILLOW}:
        parser.error(f"unknown codec {', '.join(sorted(unknown))}")
    return options


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


def pillow(name: str) -> Contender:
    options, qualities = PILLOW[name]

    def encode(image: Image.Image, setting: float) -> bytes:
        file = io.BytesIO()
        image.save(file, name, quality=int(setting), **options)
        return file.getvalue()

    return Contender(name, qualities, encode, lambda data: Image.open(io.BytesIO(data)))


def hvq(model: str | None, rates: Sequence[float]) -> Contender:
    # Imported here: the other codecs are measured without the package's dependencies.
    from hvqcodec import Codec, RateError

    codec = Codec.load(model) if model else Codec.load()

    def encode(image: Image.Image, bpp: float) -> bytes:
        try:
            return codec.compress(image, bpp=bpp)
        except RateError as error:
            raise UnreachableError(error) from error

    return Contender("hvq", rates, encode, codec.decompress, codec.inspect)


def measure(
    contender: Contender, setting: float, photos: Sequence[Path], metrics: Metrics
) -> Point:
    rows = []
    for path in photos:
        pixels = read_photo(path)
        image = Image.fromarray(pixels)
        begin = time.perf_counter()
        data = contender.encode(image, setting)
        encoded = time.perf_counter()
        decoded = np.asarray(contender.decode(data).convert("RGB"))
        row = {
            "bpp": 8 * len(data) / (image.width * image.height),
            "encode_seconds": encoded - begin,
            "decode_seconds": time.perf_counter() - encoded,
        }
        row |= metrics(pixels, decoded)
        if contender.inspect:
            row |= spending(contender.inspect(data), len(data))
        rows.append(row)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return Point(contender.name, setting, means)


def spending(bits: Mapping[str, float], size: int) -> dict[str, float]:
    """What a file of `size` bytes is spent on, and what static coding would take."""
    keys = ("index_bits", "z_bits", "map_bits", "static_bits", "container_bytes")
    return {key: float(bits[key]) for key in keys} | {
        "z_share": bits["z_bits"] / (8 * size),
        "map_share": bits["map_bits"] / (8 * size),
        "container_share": bits["container_bytes"] / size,
    }


def print_point(point: Point) -> None:
    cells = (f"{point.means[k]:9.4f}" if k in point.means else f"{'-':>9}" for k in TABLE)
    print(" ".join([f"{point.codec:<6} {point.setting:8g}", *cells]), flush=True)


def write_csv(path: Path, points: Sequence[Point]) -> None:
    columns = dict.fromkeys(key for point in points for key in point.means)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["codec", "setting", *columns])
        writer.writeheader()
        for point in points:
            writer.writerow({"codec": point.codec, "setting": point.setting} | point.means)


def print_bd_rates(points: Sequence[Point], codecs: Sequence[str]) -> None:
    """Per metric the bits that the first codec needs for what each other one reaches."""
    subject, *anchors = codecs
    present = [m for m in METRICS if any(m in point.means for point in points)]
    if anchors:
        print(f"\nBD-rate of {subject}   " + " ".join(f"{METRICS[m]:>9}" for m in present))
    problems = {}
    for anchor in anchors:
        cells = []
        for metric in present:
            try:
                rate = bd_rate(
                    *curve(points, anchor, metric),
                    *curve(points, subject, metric),
                    lower_is_better=metric in LOWER_IS_BETTER,
                )
                cells.append(f"{rate:8.1f}%")
            except ValueError as error:
                cells.append(f"{'-':>9}")
                problems[f"{anchor}, {METRICS[metric]}"] = error
        print(f"  against {anchor:<{len(subject) + 5}}" + " ".join(cells))
    for where, problem in problems.items():
        print(f"  none for {where}: {problem}")


def curve(points: Sequence[Point], codec: str, metric: str) -> tuple[list[float], list[float]]:
    """(rates, qualities); MS-SSIM in dB, since it crowds towards 1."""
    means = [point.means for point in points if point.codec == codec]
    quality = [m[metric] for m in means]
    if metric == "ms_ssim":
        quality = [float(-10 * np.log10(1 - q)) for q in quality]
    return [m["bpp"] for m in means], quality


def print_spending(points: Sequence[Point]) -> None:
    if not points:
        return
    print("\nIndices and z against static coding of the same indices; shares of the file")
    print("setting   saved       z     map  container  container bytes")
    for point in points:
        m = point.means
        # A ratio of means is the pooled ratio: every mean is over the same photos.
        saved = 1 - (m["index_bits"] + m["z_bits"]) / m["static_bits"]
        print(
            f"{point.setting:7g} {saved:7.1%} {m['z_share']:7.1%} {m['map_share']:7.1%}"
            f" {m['container_share']:10.1%} {m['container_bytes']:16.1f}"
        )


if __name__ == "__main__":
    main()
