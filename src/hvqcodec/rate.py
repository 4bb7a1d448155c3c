"""From a target size to a lambda."""

import math
from collections.abc import Callable
from typing import NamedTuple

from hvqcodec.errors import RateError

LAMBDA_MIN, LAMBDA_MAX = 1e-4, 1e4
"""All fine and all coarse, whatever the photo."""

TRIES = 8
TOLERANCE = 0.01
ALLOWED = 0.10


class Coded(NamedTuple):
    """A file and how long its payload and container are."""

    data: bytes
    counted: int
    """Bytes that the target counts."""


def lambda_for(estimate: Callable[[float], float], bits: float) -> float:
    """The lambda at which the estimate, which falls with lambda, meets the bits."""
    low, high = math.log(LAMBDA_MIN), math.log(LAMBDA_MAX)
    for _ in range(24):
        middle = (low + high) / 2
        if estimate(math.exp(middle)) > bits:
            low = middle
        else:
            high = middle
    return math.exp(high)


def meet_target(
    code: Callable[[float], Coded], estimate: Callable[[float], float], target: float
) -> bytes:
    """The file nearest to `target` bytes.

    code: codes the image at a lambda; estimate: bits at a lambda, z and map not counted.
    Codes for real and corrects by real / estimated. An image that has no use for so
    many bytes is coded at the model's maximum; raises RateError below the minimum.
    """
    aim = 8 * target
    most, least = estimate(LAMBDA_MIN), estimate(LAMBDA_MAX)
    best: Coded | None = None
    for _ in range(TRIES):
        clamped = min(max(aim, least), most)
        result = code(lambda_for(estimate, clamped))
        if best is None or abs(result.counted - target) < abs(best.counted - target):
            best = result
        ratio = result.counted / target
        at_end = (aim >= most and ratio < 1) or (aim <= least and ratio > 1)
        if abs(ratio - 1) <= TOLERANCE or at_end:
            break
        aim = clamped / ratio
    assert best is not None
    if best.counted > (1 + ALLOWED) * target:
        raise RateError(
            f"the smallest file of this image has {best.counted} bytes, more than the "
            f"{target:.0f} asked for: ask for a higher rate"
        )
    return best.data
