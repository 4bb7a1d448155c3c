import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvqcodec import RateError
from hvqcodec.rate import (
    LAMBDA_AT_0,
    LAMBDA_AT_100,
    LAMBDA_MAX,
    LAMBDA_MIN,
    TRIES,
    Coded,
    lambda_for,
    lambda_of_quality,
    meet_target,
)


def estimate(lambda_: float) -> float:
    return 80_000 / (1 + lambda_) + 4_000


def slack(target: float) -> float:
    return max(0.01 * target, 16)


class Coder:
    """Makes files that differ from the estimate by a factor, a constant and a bend."""

    def __init__(self, factor: float, overhead: float, bend: float) -> None:
        self.factor, self.overhead, self.bend = factor, overhead, bend
        self.runs = 0

    def size(self, lambda_: float) -> int:
        bits = self.factor * estimate(lambda_)
        return round(bits / 8 * (bits / 40_000) ** self.bend + self.overhead)

    def __call__(self, lambda_: float) -> Coded:
        self.runs += 1
        return Coded(repr(lambda_).encode(), self.size(lambda_))

    def meet(self, target: float, never_exceed: bool = False) -> int:
        data = meet_target(self, estimate, round(target), never_exceed)
        assert self.runs <= TRIES + 1
        return self.size(float(data))

    @property
    def least(self) -> int:
        return self.size(LAMBDA_MAX)

    @property
    def most(self) -> int:
        return self.size(LAMBDA_MIN)


coders = st.builds(Coder, st.floats(0.6, 1.7), st.floats(0, 300), st.floats(-0.2, 0.2))


def test_quality_runs_evenly_from_one_end_to_the_other() -> None:
    lambdas = [lambda_of_quality(q) for q in range(0, 101, 10)]
    assert lambdas[0] == pytest.approx(LAMBDA_AT_0)
    assert lambdas[-1] == pytest.approx(LAMBDA_AT_100)
    ratios = [b / a for a, b in itertools.pairwise(lambdas)]
    assert ratios == pytest.approx([ratios[0]] * 10)
    assert ratios[0] < 1


@pytest.mark.parametrize("quality", [-0.1, 100.1, math.nan, math.inf, -math.inf])
def test_other_qualities_are_refused(quality: float) -> None:
    with pytest.raises(RateError, match="between 0 and 100"):
        lambda_of_quality(quality)


@given(st.floats(4_100, 80_000))
def test_lambda_for_is_the_least_that_keeps_within_the_bits(bits: float) -> None:
    lambda_ = lambda_for(estimate, bits)
    assert estimate(lambda_) <= bits
    assert estimate(lambda_ * 0.999) > bits


def test_lambda_for_ends_at_the_bounds() -> None:
    assert lambda_for(estimate, 1e9) == pytest.approx(LAMBDA_MIN, rel=1e-4)
    assert lambda_for(estimate, 0.0) == pytest.approx(LAMBDA_MAX)


@given(coders, st.floats(0, 1))
def test_a_target_within_reach_is_met(coder: Coder, share: float) -> None:
    target = coder.least + share * (coder.most - coder.least)
    assert abs(coder.meet(target) - target) <= slack(target) + 1


@given(coders, st.floats(0, 1))
def test_a_limit_is_never_exceeded_and_filled(coder: Coder, share: float) -> None:
    limit = round(coder.least + share * (coder.most - coder.least))
    found = coder.meet(limit, never_exceed=True)
    assert limit - slack(limit) - 1 <= found <= limit


@given(coders, st.floats(1, 1e6), st.booleans())
def test_more_than_the_most_gives_the_most(coder: Coder, factor: float, limit: bool) -> None:
    target = factor * coder.most + 40
    assert coder.meet(target, limit) == pytest.approx(coder.most, rel=0.01, abs=17)


@given(coders, st.floats(0, 1))
def test_less_than_the_least_is_refused_and_the_least_named(coder: Coder, share: float) -> None:
    for target, limit in ((share * (coder.least / 1.01 - 18), False), (coder.least - 1, True)):
        with pytest.raises(RateError, match=rf"smallest file of this image has {coder.least} "):
            meet_target(coder, estimate, max(1, math.floor(target)), limit)


@given(coders, st.booleans())
def test_the_least_itself_is_within_reach(coder: Coder, limit: bool) -> None:
    assert coder.meet(coder.least, limit) == pytest.approx(coder.least, rel=0.01, abs=17)


@pytest.mark.parametrize(
    ("target", "limit", "expected"),
    [(1_005, False, 1_000), (1_990, False, 2_000), (1_999, True, 1_000), (2_000, True, 2_000)],
)
def test_of_coarse_steps_the_best_is_taken(target: int, limit: bool, expected: int) -> None:
    """Files have one of two sizes, as those of tiny images."""

    def size(lambda_: float) -> int:
        return 1_000 if lambda_ > 1 else 2_000

    def code(lambda_: float) -> Coded:
        return Coded(str(size(lambda_)).encode(), size(lambda_))

    assert int(meet_target(code, lambda value: 8.0 * size(value), target, limit)) == expected
