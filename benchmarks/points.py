"""What is measured: a row for each photo at a setting, and a curve's point, their means."""

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.codecs import Contender, UnreachableError
from benchmarks.photos import read_photo
from hvqcodec.arrays import Pixels

Measure = Callable[[Pixels, Pixels], dict[str, float]]
"""Of a photo and what is decoded, as `hvqcodec.metrics.Metrics`."""


@dataclass(frozen=True)
class Row:
    """One photo at one setting."""

    photo: Path
    pixels: int
    size: int
    """Bytes of the file."""
    figures: dict[str, float]


@dataclass(frozen=True)
class Point:
    """Means over all photos at one setting."""

    codec: str
    setting: float
    means: dict[str, float]
    rows: Sequence[Row] = ()


def measure(
    contender: Contender, setting: float, photos: Sequence[Path], metrics: Measure
) -> Point:
    rows = [measure_photo(contender, setting, photo, metrics) for photo in photos]
    means = {key: float(np.mean([row.figures[key] for row in rows])) for key in rows[0].figures}
    return Point(contender.name, setting, means, rows)


def measure_photo(contender: Contender, setting: float, photo: Path, metrics: Measure) -> Row:
    pixels = read_photo(photo)
    image = Image.fromarray(pixels)
    begin = time.perf_counter()
    try:
        data = contender.encode(image, setting)
    except UnreachableError as error:
        raise UnreachableError(f"{photo.name}: {error}") from error
    encoded = time.perf_counter()
    decoded = np.asarray(contender.decode(data).convert("RGB"))
    figures = {
        "bpp": 8 * len(data) / (image.width * image.height),
        "encode_seconds": encoded - begin,
        "decode_seconds": time.perf_counter() - encoded,
    }
    figures |= metrics(pixels, decoded)
    if contender.inspect:
        figures |= spending(contender.inspect(data), len(data))
    return Row(photo, image.width * image.height, len(data), figures)


def spending(bits: Mapping[str, float], size: int) -> dict[str, float]:
    """What a file of `size` bytes is spent on, and what static coding would take."""
    keys = ("index_bits", "z_bits", "map_bits", "static_bits", "container_bytes")
    return {key: float(bits[key]) for key in keys} | {
        "z_share": bits["z_bits"] / (8 * size),
        "map_share": bits["map_bits"] / (8 * size),
        "container_share": bits["container_bytes"] / size,
    }


def curve(points: Sequence[Point], codec: str, metric: str) -> tuple[list[float], list[float]]:
    """(rates, qualities), of the points that have it; MS-SSIM in dB, since it crowds towards 1."""
    means = [p.means for p in points if p.codec == codec and metric in p.means]
    quality = [m[metric] for m in means]
    if metric == "ms_ssim":
        quality = [float(-10 * np.log10(1 - q)) for q in quality]
    return [m["bpp"] for m in means], quality


def write_points(path: Path, points: Sequence[Point]) -> None:
    write_csv(path, [{"codec": p.codec, "setting": p.setting} | p.means for p in points])


def read_points(path: Path) -> list[Point]:
    """As `write_points` wrote them. Raises ValueError if the file holds something else."""
    with path.open(newline="") as file:
        records = list(csv.DictReader(file))
    try:
        return [
            Point(r.pop("codec"), float(r.pop("setting")), {k: float(v) for k, v in r.items() if v})
            for r in records
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no points in {path}") from error


def write_rows(path: Path, points: Sequence[Point]) -> None:
    records: list[dict[str, object]] = [
        {"codec": p.codec, "setting": p.setting, "photo": r.photo, "bytes": r.size} | r.figures
        for p in points
        for r in p.rows
    ]
    write_csv(path, records)


def write_csv(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    """All columns of all records, a cell empty where a record has none."""
    with path.open("w", newline="") as file:
        columns = dict.fromkeys(key for record in records for key in record)
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(records)
