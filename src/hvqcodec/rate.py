"""From what is wanted, a quality or a size, to a lambda."""

import math
from collections.abc import Callable
from typing import NamedTuple

from hvqcodec.errors import RateError

LAMBDA_MIN, LAMBDA_MAX = 1e-4, 1e6
"""All fine and all coarse on photos."""

DEFAULT_QUALITY = 50.0
LAMBDA_AT_0, LAMBDA_AT_100 = 8.0, 0.08

TRIES = 8
TOLERANCE, TOLERANCE_BYTES = 0.01, 16
"""A target is met to within one or the other, whichever is larger."""


class Coded(NamedTuple):
    """A file and how many of its bytes the target counts."""

    data: bytes
    counted: int


def lambda_of_quality(quality: float) -> float:
    """Quality 0 ... 100 to lambda, evenly in its logarithm; raises RateError."""
    if not 0 <= quality <= 100:
        raise RateError(f"a quality lies between 0 and 100: {quality} does not")
    share = quality / 100
    return math.exp((1 - share) * math.log(LAMBDA_AT_0) + share * math.log(LAMBDA_AT_100))


def lambda_for(estimate: Callable[[float], float], bits: float) -> float:
    """The lambda at which the estimate, which falls with lambda, just stays within the bits."""
    low, high = math.log(LAMBDA_MIN), math.log(LAMBDA_MAX)
    for _ in range(30):
        middle = (low + high) / 2
        if estimate(math.exp(middle)) > bits:
            low = middle
        else:
            high = middle
    return math.exp(high)


def meet_target(
    code: Callable[[float], Coded],
    estimate: Callable[[float], float],
    target: int,
    never_exceed: bool = False,
) -> bytes:
    """The file nearest to `target` bytes, or the largest found that does not exceed it.

    code: codes the image at a lambda. estimate: bits of the codes at a lambda, z and map
    not counted; the search runs on it, since it is quick and rises with the size.
    An image that has no use for so many bytes is coded at the model's maximum; raises
    RateError below the model's minimum.
    """
    least, most = estimate(LAMBDA_MAX), estimate(LAMBDA_MIN)
    slack = max(TOLERANCE * target, TOLERANCE_BYTES)
    limit = target if never_exceed else target + slack
    tolerance = slack / 2 if never_exceed else slack
    wanted = limit - tolerance
    below = above = None  # (estimate aimed at, bytes that it gave)
    aim = min(max(8 * wanted, least), most)
    results: list[Coded] = []
    for _ in range(TRIES):
        result = code(lambda_for(estimate, aim))
        results.append(result)
        excess = result.counted - wanted
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
            aim = min(max(aim * wanted / result.counted, least), most)
    fitting = [r for r in results if r.counted <= limit]
    if not fitting:
        smallest = code(LAMBDA_MAX)
        if smallest.counted > limit:
            raise RateError(
                f"the smallest file of this image has {smallest.counted} bytes, more than the "
                f"{target} asked for: ask for more"
            )
        fitting = [smallest]
    return min(fitting, key=lambda r: abs(r.counted - wanted)).data
