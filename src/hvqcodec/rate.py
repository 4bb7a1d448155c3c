"""From what is wanted, a quality or a size, to a lambda."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, Optional

from hvqcodec.errors import RateError, notice

if TYPE_CHECKING:  # it loads torch, which the command line does without as long as it can
    from hvqcodec.entropy.symbol_coding import Symbols

LAMBDA_MIN, LAMBDA_MAX = 0.2, 1e6
"""Below the first, more bits no longer look better (on some validation photos PSNR falls by
0.1 dB): it is the model's maximum. The second makes all blocks coarse."""

DEFAULT_QUALITY = 50.0
LAMBDA_AT_0, LAMBDA_AT_100 = 8.0, LAMBDA_MIN

ENOUGH = 1 << 50
"""Bytes: no file has so many."""

OVERHEAD = 1.06
"""Of a file over the estimate that the search runs on, for z and map, as a first guess."""
GROWTH_BYTES, GROWTH = 25, 0.004
"""Bytes and bits per pixel by which the search's file grows, likewise: the residual, less what
refined codes and z save. Medians of validation photos."""

TRIES = 8
FIRM_ROUNDS = 4
"""How much residual there can be depends on the codes: a second guess may be wrong as well."""
TOLERANCE, TOLERANCE_BYTES = 0.01, 16
"""A target is met to within one or the other, whichever is larger."""


class Coded(NamedTuple):
    """A file."""

    data: bytes
    image_bytes: int
    """That are no metadata."""
    lambda_: float = 0.0
    """At which it was coded."""
    symbols: Optional["Symbols"] = None


class Room(NamedTuple):
    """Bytes that a file may still grow by, to meet a target and to stay within it: by what is best,
    if that is about as much."""

    least: int = 0
    most: int = ENOUGH
    fill: bool = False
    """By the least at any price."""
    keep: bool = False
    """Never by more than the most."""


@dataclass(frozen=True)
class Target:
    """How many bytes a file is to have."""

    size: int
    pixels: int
    is_limit: bool = False
    """Never to be exceeded, and of the whole file; else to be met, metadata aside."""
    strict: bool = False
    """An image that cannot use so many is an error."""
    fixed: int = 0
    """Of the bytes that count, those that no lambda changes: alpha, and metadata in a limit."""

    @property
    def slack(self) -> float:
        share = TOLERANCE * (self.size - self.fixed if self.is_limit else self.size)
        return max(share, TOLERANCE_BYTES)

    @property
    def limit(self) -> float:
        return self.size if self.is_limit else self.size + self.slack

    @property
    def tolerance(self) -> float:
        return self.slack / 2 if self.is_limit else self.slack

    @property
    def wanted(self) -> float:
        """What is aimed at, in the middle of what will do."""
        return self.limit - self.tolerance

    @property
    def growth(self) -> float:
        """Bytes by which the search's file will grow, as a first guess."""
        return min(GROWTH_BYTES + GROWTH * self.pixels / 8, max(0, self.size - self.fixed))

    def excess(self, coded: Coded) -> float:
        """Bytes over what is wanted."""
        return self.counted(coded) - self.wanted

    def is_met(self, coded: Coded) -> bool:
        return abs(self.excess(coded)) <= self.tolerance

    def room(self, coded: Coded, fill: bool, keep: bool) -> Room:
        """For the residual of a file that has none."""
        size = self.counted(coded)
        least = math.ceil(self.wanted - self.tolerance - size)
        return Room(max(0, least), max(0, math.floor(self.limit - size)), fill, keep)

    def counted(self, coded: Coded) -> int:
        return len(coded.data) if self.is_limit else coded.image_bytes

    def describe(self, size: int) -> str:
        """A size in the words in which the target was given."""
        return f"{size} bytes" if self.is_limit else f"{8 * size / self.pixels:.4g} bpp"

    def report_missed(self, size: int, is_largest: bool) -> None:
        """Say that the image has no use for more bytes, or no file of a size between."""
        if is_largest:
            fact = f"this image cannot use more than {self.describe(size)}"
        else:
            fact = (
                f"found no file nearer to {self.describe(self.size)} than one of "
                f"{self.describe(size)}"
            )
        if self.strict:
            raise RateError(f"{fact}: ask for {'no more' if is_largest else 'that'}")
        notice(f"{fact}: coded at that")


def check_choices(
    quality: float | None,
    bpp: float | None,
    max_bytes: int | None,
    ratios: Sequence[float] | None,
    strict_rate: bool = False,
) -> None:
    """Raises RateError if several are given, or one that is not what it could be."""
    if sum(choice is not None for choice in (quality, bpp, max_bytes, ratios)) > 1:
        raise RateError("give one of quality, bpp (--rate), max_bytes and ratios, not several")
    if ratios is not None and not are_shares(ratios):
        raise RateError(f"the ratios fine, medium, coarse must be shares of 1, not {ratios}")
    if quality is not None and not 0 <= quality <= 100:
        raise RateError(f"a quality lies between 0 and 100: {quality} does not")
    if strict_rate and bpp is None:
        raise RateError("strict_rate goes with bpp (--rate)")
    for name, value in (("bpp (--rate)", bpp), ("max_bytes (--max-bytes)", max_bytes)):
        if value is not None and not 0 < value < float("inf"):
            raise RateError(f"{name} must be a positive number, not {value}")


def are_shares(ratios: Sequence[float]) -> bool:
    return len(ratios) == 3 and min(ratios) >= 0 and abs(sum(ratios) - 1) <= 1e-6


def target_of(
    bpp: float | None,
    max_bytes: int | None,
    pixels: int,
    strict: bool = False,
    alpha_bytes: int = 0,
    metadata_bytes: int = 0,
) -> Target | None:
    """Of checked choices; None if neither is made."""
    if bpp is not None:
        size = round(min(min(bpp, ENOUGH) * pixels / 8, ENOUGH))
        return Target(size, pixels, strict=strict, fixed=alpha_bytes)
    if max_bytes is not None:
        fixed = alpha_bytes + metadata_bytes
        return Target(int(min(max_bytes, ENOUGH)), pixels, is_limit=True, fixed=fixed)
    return None


def lambda_of_quality(quality: float | None) -> float:
    """Quality 0 ... 100 to lambda, evenly in its logarithm."""
    quality = DEFAULT_QUALITY if quality is None else quality
    share = quality / 100
    return math.exp((1 - share) * math.log(LAMBDA_AT_0) + share * math.log(LAMBDA_AT_100))


def lambda_for(estimate: Callable[[float], float], bits: float) -> float:
    """The lambda at which the estimate, which falls with lambda, just stays within the bits."""
    if estimate(LAMBDA_MIN) <= bits:
        return LAMBDA_MIN
    low, high = math.log(LAMBDA_MIN), math.log(LAMBDA_MAX)
    for _ in range(30):
        middle = (low + high) / 2
        if estimate(math.exp(middle)) > bits:
            low = middle
        else:
            high = middle
    return math.exp(high)


class Search:
    """For the lambda whose file has a certain size; it remembers what it has tried."""

    def __init__(
        self,
        code: Callable[[float], Coded],
        estimate: Callable[[float], float],
        target: Target,
    ) -> None:
        """As in `meet_target`."""
        self.code, self.estimate, self.target = code, estimate, target
        self.least, self.most = estimate(LAMBDA_MAX), estimate(LAMBDA_MIN)
        self.tried: list[tuple[float, Coded]] = []
        """Estimates that were aimed at, and what came of it."""

    def nearest(self, size: float) -> tuple[Coded, bool]:
        """The file nearest to a size within the target's limit, and whether no larger one is
        to be had. Raises RateError if the smallest is too large."""
        for _ in range(TRIES):
            aim = self.next_aim(size)
            if aim is None:
                break
            self.tried.append((aim, self.code(lambda_for(self.estimate, aim))))
        limit = self.target.limit
        if min(self.target.counted(coded) for _, coded in self.tried) > limit:
            smallest = self.code(LAMBDA_MAX)
            if self.target.counted(smallest) > limit:
                least = self.target.describe(self.target.counted(smallest))
                fixed = self.target.fixed
                if fixed > self.target.counted(smallest) / 4:
                    kinds = "transparency and metadata" if self.target.is_limit else "transparency"
                    least += f", {self.target.describe(fixed)} of them for {kinds}"
                raise RateError(f"the smallest file of this image takes {least}: ask for no less")
            self.tried.append((self.least, smallest))
        aim, chosen = min(
            (
                t
                for t in self.tried
                if not self.target.is_limit or self.target.counted(t[1]) <= limit
            ),
            # Of equal ones, that of the lowest price, which has most use for a residual.
            key=lambda t: (abs(self.target.counted(t[1]) - size), -t[0]),
        )
        return chosen, aim >= self.most and self.target.counted(chosen) < size

    def next_aim(self, size: float) -> float | None:
        """None if a file is near enough, or none can be nearer."""
        fixed = self.target.fixed
        if not self.tried:
            return min(max(8 * (size - fixed) / OVERHEAD, self.least), self.most)
        excess = [(aim, self.target.counted(coded) - size) for aim, coded in self.tried]
        if any(abs(bytes_) <= self.target.tolerance for _, bytes_ in excess):
            return None
        below = [point for point in excess if point[1] < 0]
        above = [point for point in excess if point[1] > 0]
        aim, last = excess[-1]
        # Tries on one side in a row, at the end: the steps were too small, then.
        row = len(list(takewhile(lambda point: (point[1] > 0) == (last > 0), excess[::-1])))
        if below and above:
            (low, short), (high, long) = below[-1], above[-1]
            share = 0.5 if row > 1 else short / (short - long)
            return low + share * (high - low)
        if (aim >= self.most and below) or (aim <= self.least and above):
            return None
        factor = ((size - fixed) / (size + last - fixed)) ** row
        return min(max(aim * factor, self.least), self.most)


def meet_target(
    code: Callable[[float], Coded],
    estimate: Callable[[float], float],
    target: Target,
    refine: Callable[[Coded], Coded],
    finish: Callable[[Coded, Room], Coded],
) -> bytes:
    """The file nearest to the target, or the largest found that keeps within a limit.

    code: codes the image at a lambda, without residual. estimate: bits of the codes at a lambda, z
    and map not counted; the search runs on it, since it is quick and rises with the size.
    refine: makes a file of the search better, and mostly smaller. finish: adds the residual to it.
    An image that has no use for so many bytes is coded at the model's maximum, and one that
    has no file of about that size at the nearest, both with a notice or, if the target is
    strict, a RateError. Raises RateError below the model's minimum.
    """
    search, growth = Search(code, estimate, target), target.growth
    finished: list[tuple[Coded, bool]] = []
    for firm in (False, *[True] * FIRM_ROUNDS):
        found, is_largest = search.nearest(target.wanted - growth)
        draft = refine(found)
        if firm and target.counted(draft) > target.limit:
            draft = min(found, draft, key=target.counted)
        # No file has more without residual, which may have whatever is left, then.
        coded = finish(draft, target.room(draft, fill=firm or is_largest, keep=firm))
        is_most = is_largest and target.excess(coded) < 0
        finished.append((coded, is_most))
        guess, growth = growth, target.counted(coded) - target.counted(found)
        if target.is_met(coded) or is_most or (firm and growth == guess):
            break
    # The first may be larger than a limit, those after it are not.
    allowed = [f for f in finished if not target.is_limit or target.counted(f[0]) <= target.limit]
    # Of equal ones, that which is known to be the largest.
    coded, is_most = min(allowed, key=lambda f: (abs(target.excess(f[0])), not f[1]))
    if not target.is_limit and not target.is_met(coded):
        target.report_missed(target.counted(coded), is_most)
    return coded.data
