"""How exactly files have the rate that was asked for, and whether more bits ever look worse."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.points import Point, Row

TOLERANCE, TOLERANCE_BYTES = 0.01, 16
PROMISE = f"{TOLERANCE:.0%} or {TOLERANCE_BYTES} bytes, whichever is larger"

PSNR_FALL, LPIPS_RISE = 0.05, 0.01
"""The goals, in dB and relative, from one rate to the next, for each photo."""


@dataclass(frozen=True)
class Deviation:
    """By how much a file misses its rate."""

    row: Row
    rate: float

    @property
    def target(self) -> int:
        """In bytes."""
        return round(self.rate * self.row.pixels / 8)

    @property
    def excess(self) -> int:
        return self.row.size - self.target

    @property
    def share(self) -> float:
        return self.excess / self.target

    @property
    def is_within(self) -> bool:
        return abs(self.excess) <= max(TOLERANCE * self.target, TOLERANCE_BYTES)

    def __str__(self) -> str:
        return f"{self.share:+.2%}, {self.excess:+} bytes, {self.row.photo.name} at {self.rate:g}"


def print_deviations(points: Sequence[Point], largest: Callable[[Path], int]) -> None:
    """points: of a codec whose settings are bpp. largest: bytes of its largest file of a
    photo. A photo that cannot use so many bits is named, and is no deviation."""
    short: list[Deviation] = []
    rest: list[Deviation] = []
    for deviation in (Deviation(row, point.setting) for point in points for row in point.rows):
        below = deviation.excess < 0 and not deviation.is_within
        full = below and deviation.row.size >= largest(deviation.row.photo)
        (short if full else rest).append(deviation)
    missed = [deviation for deviation in rest if not deviation.is_within]

    print(f"\nRates asked for, {len(short) + len(rest)} files")
    if rest:
        verdict = f"{len(missed)} are not" if missed else "all are"
        print(f"  of {len(rest)} that can have their rate {verdict} within {PROMISE}")
        print(f"  furthest off in percent: {max(rest, key=lambda d: abs(d.share))}")
        print(f"  furthest off in bytes: {max(rest, key=lambda d: abs(d.excess))}")
    for deviation in missed:
        print(f"  missed: {deviation}")
    for deviation in short:
        row = deviation.row
        most = 8 * row.size / row.pixels
        print(f"  {row.photo.name} cannot use {deviation.rate:g} bpp: {most:.4f} is its most")


@dataclass(frozen=True)
class Step:
    """From one rate to the next higher one, for one photo."""

    photo: str
    low: float
    high: float
    psnr_fall: float
    lpips_rise: float | None
    """Relative."""

    def __str__(self) -> str:
        return f"{self.photo}, {self.low:g} to {self.high:g}"


def steps(points: Sequence[Point]) -> Iterator[Step]:
    for low, high in pairwise(sorted(points, key=lambda point: point.setting)):
        for before, after in zip(low.rows, high.rows, strict=True):
            a, b = before.figures, after.figures
            yield Step(
                before.photo.name,
                low.setting,
                high.setting,
                a["psnr"] - b["psnr"],
                b["lpips"] / a["lpips"] - 1 if "lpips" in a else None,
            )


def print_ladder(points: Sequence[Point]) -> None:
    """points: of a codec whose settings are bpp."""
    climbed = list(steps(points))
    if not climbed:
        return
    print(f"\nFrom each rate to the next, {len(climbed)} steps of single photos")
    worst = max(climbed, key=lambda step: step.psnr_fall)
    print_worst("PSNR falls", worst, worst.psnr_fall, "{:.3f} dB", PSNR_FALL)
    with_lpips = [(step.lpips_rise, step) for step in climbed if step.lpips_rise is not None]
    if with_lpips:
        rise, worst = max(with_lpips, key=lambda pair: pair[0])
        print_worst("LPIPS rises", worst, rise, "{:.2%}", LPIPS_RISE)


def print_worst(what: str, step: Step, amount: float, unit: str, goal: float) -> None:
    if amount <= 0:
        print(f"  {what} nowhere")
        return
    verdict = "met" if amount <= goal else "missed"
    print(f"  {what} by at most {unit.format(amount)}: {step}; goal {unit.format(goal)}, {verdict}")
