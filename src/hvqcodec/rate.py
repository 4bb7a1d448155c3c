"""From what is wanted, a quality or a size, to a lambda."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hvqcodec.errors import RateError, notice

LAMBDA_MIN, LAMBDA_MAX = 0.2, 1e6
"""Below the first, more bits no longer look better (on some validation photos PSNR falls by
0.1 dB): it is the model's maximum. The second makes all blocks coarse."""

DEFAULT_QUALITY = 50.0
LAMBDA_AT_0, LAMBDA_AT_100 = 8.0, LAMBDA_MIN

ENOUGH = 1 << 50
"""Bytes: no file has so many."""

OVERHEAD = 1.06
"""Of a file over the estimate that the search runs on, for z and map, as a first guess."""

TRIES = 8
TOLERANCE, TOLERANCE_BYTES = 0.01, 16
"""A target is met to within one or the other, whichever is larger."""


class Coded(NamedTuple):
    """A file, and how many of its bytes are no metadata."""

    data: bytes
    image_bytes: int


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
                f"this image has no file nearer to {self.describe(self.size)} than one of "
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
        raise RateError("give one of quality, bpp, max_bytes and ratios, not several")
    if ratios is not None and not are_shares(ratios):
        raise RateError(f"the ratios fine, medium, coarse must be shares of 1, not {ratios}")
    if quality is not None and not 0 <= quality <= 100:
        raise RateError(f"a quality lies between 0 and 100: {quality} does not")
    if strict_rate and bpp is None:
        raise RateError("strict_rate goes with bpp")
    for name, value in (("bpp", bpp), ("max_bytes", max_bytes)):
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
        size = round(min(bpp * pixels / 8, ENOUGH))
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


def meet_target(
    code: Callable[[float], Coded], estimate: Callable[[float], float], target: Target
) -> bytes:
    """The file nearest to the target, or the largest found that keeps within a limit.

    code: codes the image at a lambda. estimate: bits of the codes at a lambda, z and map
    not counted; the search runs on it, since it is quick and rises with the size.
    An image that has no use for so many bytes is coded at the model's maximum, and one that
    has no file of about that size at the nearest, both with a notice or, if the target is
    strict, a RateError. Raises RateError below the model's minimum.
    """
    least, most = estimate(LAMBDA_MAX), estimate(LAMBDA_MIN)
    limit = target.size if target.is_limit else target.size + target.slack
    tolerance = target.slack / 2 if target.is_limit else target.slack
    wanted = limit - tolerance
    below = above = None  # (estimate aimed at, bytes that it gave)
    aim = min(max(8 * (wanted - target.fixed) / OVERHEAD, least), most)
    results: list[Coded] = []
    for _ in range(TRIES):
        result = code(lambda_for(estimate, aim))
        results.append(result)
        size = target.counted(result)
        excess = size - wanted
        if abs(excess) <= tolerance:
            break
        if excess < 0:
            below = (aim, excess)
        else:
            above = (aim, excess)
        if below and above:
            aim = below[0] - below[1] * (above[0] - below[0]) / (above[1] - below[1])
        elif (aim >= most and excess < 0) or (aim <= least and excess > 0):
            break
        else:
            factor = (wanted - target.fixed) / (size - target.fixed)
            aim = min(max(aim * factor, least), most)
    fitting = [result for result in results if target.counted(result) <= limit]
    if not fitting:
        smallest = code(LAMBDA_MAX)
        size = target.counted(smallest)
        if size > limit:
            raise RateError(
                f"the smallest file of this image takes {target.describe(size)}: ask for no less"
            )
        fitting = [smallest]
    nearest = min(fitting, key=lambda result: abs(target.counted(result) - wanted))
    size = target.counted(nearest)
    if not target.is_limit and abs(size - wanted) > tolerance:
        target.report_missed(size, is_largest=aim >= most and size < wanted)
    return nearest.data
