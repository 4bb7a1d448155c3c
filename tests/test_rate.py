"""From a target to a lambda, on made-up coders; then, with the embedded model, on photos."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from hvqcodec import Codec, HvqWarning, RateError, probe
from hvqcodec.metrics import Metrics
from hvqcodec.models.cards import DEFAULT, list_models
from hvqcodec.rate import (
    ENOUGH,
    LAMBDA_AT_0,
    LAMBDA_AT_100,
    LAMBDA_MAX,
    LAMBDA_MIN,
    TRIES,
    Coded,
    Room,
    Target,
    check_choices,
    lambda_for,
    lambda_of_quality,
    meet_target,
    target_of,
)
from tests.helpers import KODAK, TESTS, Pixels

PIXELS = 80_000
METADATA = 500
"""Bytes of it in each made-up file."""

PERCEPTUAL = TESTS.parents[1] / "shared" / "perceptual"


def estimate(lambda_: float) -> float:
    return 80_000 / (1 + lambda_) + 4_000


def slack(target: float) -> float:
    return max(0.01 * target, 16)


class Coder:
    """Makes files that differ from the estimate by a factor, a constant and a bend, and then
    have a share less, and a residual of so many bytes, if they may."""

    def __init__(
        self, factor: float, overhead: float, bend: float, residual: int, spared: float
    ) -> None:
        self.factor, self.overhead, self.bend, self.residual = factor, overhead, bend, residual
        self.spared = spared
        self.runs = 0

    def size(self, lambda_: float) -> int:
        """Without residual."""
        bits = self.factor * estimate(lambda_)
        return round(bits / 8 * (bits / 40_000) ** self.bend + self.overhead)

    def __call__(self, lambda_: float) -> Coded:
        self.runs += 1
        size = self.size(lambda_)
        return Coded(repr(lambda_).encode().ljust(size + METADATA), size)

    def less(self, size: int) -> int:
        """A residual takes more than a refined z spares."""
        return min(round(self.spared * size), self.residual)

    def refine(self, draft: Coded) -> Coded:
        less = self.less(draft.image_bytes)
        return Coded(draft.data[: len(draft.data) - less], draft.image_bytes - less)

    def finish(self, draft: Coded, room: Room) -> Coded:
        """An image that is met has no residual, whatever may be; others have more or less of it,
        and much less or more if that must be."""
        assert 0 <= room.least <= room.most
        low, high = round(0.8 * self.residual), round((2 if room.fill else 1.2) * self.residual)
        residual = min(max(room.least, self.residual), high)
        residual = max(min(residual, room.most), 0 if room.keep else low)
        return Coded(draft.data + bytes(residual), draft.image_bytes + residual)

    def meet(self, size: float, is_limit: bool = False, strict: bool = False) -> int:
        """Gives the size that counts."""
        target = Target(round(size), PIXELS, is_limit, strict)
        data = meet_target(self, estimate, target, self.refine, self.finish)
        assert self.runs <= 2 * (TRIES + 1)
        size = self.size(float(data.rstrip(b"\0")))
        bare = size - self.less(size) + METADATA
        assert len(data) >= bare
        assert self.residual or len(data) == bare
        return len(data) if is_limit else len(data) - METADATA

    def least(self, is_limit: bool = False) -> int:
        return self.size(LAMBDA_MAX) + is_limit * METADATA

    def most(self, is_limit: bool = False) -> int:
        size = self.size(LAMBDA_MIN)
        return size - self.less(size) + 2 * self.residual + is_limit * METADATA


coders = st.builds(
    Coder,
    st.floats(0.6, 1.7),
    st.floats(0, 300),
    st.floats(-0.2, 0.2),
    st.integers(0, 150),
    st.floats(0, 0.02),
)


def test_quality_runs_evenly_from_one_end_to_the_other() -> None:
    lambdas = [lambda_of_quality(q) for q in range(0, 101, 10)]
    assert lambdas[0] == pytest.approx(LAMBDA_AT_0)
    assert lambdas[-1] == pytest.approx(LAMBDA_AT_100)
    ratios = [b / a for a, b in itertools.pairwise(lambdas)]
    assert ratios == pytest.approx([ratios[0]] * 10)
    assert ratios[0] < 1
    assert lambda_of_quality(None) == lambda_of_quality(50)


CHOICES = {"quality": 30.0, "bpp": 0.2, "max_bytes": 900, "ratios": (1, 0, 0)}


def check(**choices: object) -> None:
    check_choices(**(dict.fromkeys(CHOICES) | choices))  # type: ignore[arg-type]


def test_one_choice_or_none_is_welcome() -> None:
    check()
    for name, value in CHOICES.items():
        check(**{name: value})
    for quality in (0, 100, 99.9):
        check(quality=quality)


@pytest.mark.parametrize("names", list(itertools.combinations(CHOICES, 2)))
def test_two_choices_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(RateError, match="give one of"):
        check(**{name: CHOICES[name] for name in names})


@pytest.mark.parametrize("quality", [-0.1, 100.1, math.nan, math.inf, -math.inf])
def test_other_qualities_are_refused(quality: float) -> None:
    with pytest.raises(RateError, match="between 0 and 100"):
        check(quality=quality)


@pytest.mark.parametrize("name", ["bpp", "max_bytes"])
@pytest.mark.parametrize("value", [0, -0.0, -1, math.nan, math.inf, -math.inf])
def test_other_sizes_are_refused(name: str, value: float) -> None:
    with pytest.raises(
        RateError, match=rf"^{name} \(--[a-z-]+\) must be a positive number, not {value}$"
    ):
        check(**{name: value})


def test_targets() -> None:
    assert target_of(None, None, PIXELS) is None
    assert target_of(0.2, None, 1_003) == Target(25, 1_003)
    assert target_of(0.2, None, 1_003, strict=True) == Target(25, 1_003, strict=True)
    assert target_of(None, 77, 1_003) == Target(77, 1_003, is_limit=True)


def test_absurd_targets_are_as_good_as_large_ones() -> None:
    for target in (
        target_of(1e308, None, PIXELS),
        target_of(10**400, None, PIXELS),
        target_of(None, 10**400, PIXELS),
    ):
        assert target is not None
        assert target.size == ENOUGH
        assert math.isfinite(target.slack)


@given(st.floats(4_100, 70_000))
def test_lambda_for_is_the_least_that_keeps_within_the_bits(bits: float) -> None:
    lambda_ = lambda_for(estimate, bits)
    assert estimate(lambda_) <= bits
    assert estimate(lambda_ * 0.999) > bits


def test_lambda_for_ends_at_the_bounds() -> None:
    assert lambda_for(estimate, 1e9) == pytest.approx(LAMBDA_MIN, rel=1e-4)
    assert lambda_for(estimate, 0.0) == pytest.approx(LAMBDA_MAX)


@given(coders, st.floats(0, 1), st.booleans())
def test_a_rate_within_reach_is_met(coder: Coder, share: float, strict: bool) -> None:
    """Metadata not counted."""
    target = coder.least() + share * (coder.most() - coder.least())
    assert abs(coder.meet(target, strict=strict) - target) <= slack(target) + 1


@given(coders, st.floats(0, 1))
def test_a_limit_is_never_exceeded_and_filled(coder: Coder, share: float) -> None:
    """Metadata counted."""
    least, most = coder.least(is_limit=True), coder.most(is_limit=True)
    limit = round(least + share * (most - least))
    assert limit - slack(limit) - 1 <= coder.meet(limit, is_limit=True) <= limit


@example(Coder(1.5, 0, 0, residual=0, spared=0), 1.0625)  # the first guess comes near enough
@given(coders, st.floats(1.02, 1e6))
def test_more_than_the_most_gives_the_most_with_a_notice(coder: Coder, factor: float) -> None:
    target = factor * coder.most() + 20
    fact = f"cannot use more than {8 * coder.most() / PIXELS:.4g} bpp"
    with pytest.warns(HvqWarning, match=f"{fact}: coded at that"):
        assert coder.meet(target) == coder.most()
    with pytest.raises(RateError, match=f"{fact}: ask for no more"):
        coder.meet(target, strict=True)


@given(coders, st.floats(1, 1e6))
def test_a_limit_beyond_the_most_gives_the_most(coder: Coder, factor: float) -> None:
    """Nothing to warn of: a limit is kept."""
    most = coder.most(is_limit=True)
    found = coder.meet(factor * most + 1, is_limit=True, strict=True)
    assert most - slack(most) - 1 <= found <= most


@given(coders, st.floats(0, 1))
def test_less_than_the_least_is_refused_and_the_least_named(coder: Coder, share: float) -> None:
    target = max(1, math.floor(share * (coder.least() / 1.01 - 18)))
    least = f"{8 * coder.least() / PIXELS:.4g} bpp"
    with pytest.raises(RateError, match=f"smallest file of this image takes {least}: ask for no"):
        coder.meet(target)
    least_limit = coder.least(is_limit=True)
    with pytest.raises(RateError, match=f"takes {least_limit} bytes: ask for no less"):
        coder.meet(least_limit - 1, is_limit=True)


@given(coders, st.booleans())
def test_the_least_itself_is_within_reach(coder: Coder, limit: bool) -> None:
    assert coder.meet(coder.least(limit), limit) == pytest.approx(
        coder.least(limit), rel=0.01, abs=17
    )


@pytest.mark.parametrize(
    ("target", "limit", "expected"),
    [(1_005, False, 1_000), (1_990, False, 2_000), (1_999, True, 1_000), (2_000, True, 2_000)],
)
def test_of_coarse_steps_the_best_is_taken(target: int, limit: bool, expected: int) -> None:
    """Files have one of two sizes, as those of tiny images."""

    def size(lambda_: float) -> int:
        return 1_000 if lambda_ > 1 else 2_000

    def code(lambda_: float) -> Coded:
        return Coded(bytes(size(lambda_)), size(lambda_))

    found = meet_target(
        code,
        lambda value: 8.0 * size(value),
        Target(target, PIXELS, is_limit=limit),
        lambda draft: draft,
        lambda draft, room: draft,
    )
    assert len(found) == expected


@pytest.fixture(scope="module")
def base() -> Codec:
    if DEFAULT not in list_models():
        pytest.skip("no model is embedded")
    return Codec.load()


def real_photo(name: str, instead: str) -> Pixels:
    """(256, 384, 3) at most: of Kodak where it is at hand, else one of scikit-image."""
    path = KODAK / name
    if path.is_file():
        photo = np.asarray(Image.open(path).convert("RGB"))
    else:
        photo = getattr(data, instead)()
    return np.ascontiguousarray(photo[100:356, 100:484])


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics(PERCEPTUAL if PERCEPTUAL.is_dir() else None)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("03.png", "astronaut"),
        ("13.png", "coffee"),
        ("23.png", "chelsea"),
        ("", "rocket"),  # a dark sky, in files of 1 to 2 kB
    ],
)
def test_up_a_ladder_of_rates(base: Codec, metrics: Metrics, name: str, instead: str) -> None:
    """Each rung is met within 1 % or 16 bytes, and none looks worse than the one below."""
    photo = real_photo(name, instead)
    most = probe(base.compress(photo, max_bytes=10**6)).bpp
    ladder = []
    for bpp in np.geomspace(0.07, min(0.3, 0.95 * most), 10):
        file = base.compress(photo, bpp=bpp)
        target = bpp * photo[:, :, 0].size / 8
        assert abs(len(file) - target) <= slack(target) + 0.5
        ladder.append(metrics(photo, np.asarray(base.decompress(file))))
    for low, high in itertools.pairwise(ladder):
        assert high["psnr"] >= low["psnr"] - 0.05
        if "lpips" in low:
            # Codes are found by a descent in which any rounding tells: even another number of
            # threads has changed LPIPS of a rung by 0.7 % (training/LOG.md).
            assert high["lpips"] <= 1.02 * low["lpips"]
    for low, high in zip(ladder, ladder[2:], strict=False):
        if "lpips" in low:
            assert high["lpips"] < low["lpips"]
    assert ladder[-1]["psnr"] > ladder[0]["psnr"] + 1


def test_a_real_photo_at_its_bounds(base: Codec) -> None:
    photo = real_photo("03.png", "astronaut")
    with pytest.warns(HvqWarning, match="cannot use more than") as caught:
        largest = base.compress(photo, bpp=8)
    assert len(caught) == 1
    most = probe(largest).bpp
    assert f"{most:.4g} bpp" in str(caught[0].message)
    with pytest.raises(RateError, match=f"cannot use more than {most:.4g} bpp"):
        base.compress(photo, bpp=8, strict_rate=True)
    assert base.compress(photo, max_bytes=1_000_000) == largest
    with pytest.raises(RateError, match=r"takes 0\.\d+ bpp: ask for no less") as refusal:
        base.compress(photo, bpp=0.01)
    least = float(re.findall(r"takes (\S+) bpp", str(refusal.value))[0])
    file = base.compress(photo, bpp=least)
    assert 8 * len(file) / photo[:, :, 0].size == pytest.approx(least, abs=1e-3)


class Leaps(Coder):
    """An image whose blocks change all at once."""

    def size(self, lambda_: float) -> int:
        return 400 + super().size(lambda_) // 2000 * 2000


@given(st.floats(0.6, 1.7), st.integers(1, 3), st.floats(0.1, 0.9))
def test_a_size_that_no_file_has_is_told_of(factor: float, leap: int, share: float) -> None:
    coder = Leaps(factor, 0, 0, residual=0, spared=0)
    target = 400 + 2000 * (leap + share)
    nearest = 400 + 2000 * (leap + (share > 0.5))
    if not coder.least() < target < coder.most() or share == 0.5:
        return
    fact = f"no file nearer to .* than one of {8 * nearest / PIXELS:.4g} bpp"
    with pytest.warns(HvqWarning, match=fact):
        assert coder.meet(target) == nearest
    with pytest.raises(RateError, match=fact):
        coder.meet(target, strict=True)


class Wanting(Coder):
    """A synthesis that misses much: the residual of cheap codes reaches least far, that of good
    ones would take half of the file."""

    def finish(self, draft: Coded, room: Room) -> Coded:
        reach = round(0.3 * draft.image_bytes)
        residual = min(max(room.least, reach // 2), reach) if room.fill else draft.image_bytes
        residual = min(residual, room.most) if room.keep else residual
        return Coded(draft.data + bytes(residual), draft.image_bytes + residual)


@given(st.floats(0.6, 1.7), st.floats(0, 1), st.booleans())
def test_a_residual_that_reaches_less_far_than_was_thought(
    factor: float, share: float, limit: bool
) -> None:
    coder = Wanting(factor, 0, 0, residual=1, spared=0)
    least, most = 1.4 * coder.least(limit), coder.most(limit)
    target = round(least + share * (most - least))
    assert abs(coder.meet(target, limit) - target) <= slack(target)


def test_a_model_that_knows_little_meets_rates_as_well(codec: Codec, coffee: Pixels) -> None:
    """Its files leap from one size to the next, with much to mend."""
    for bpp in np.arange(0.09, 0.11, 0.002):
        file = codec.compress(coffee, bpp=bpp)
        target = bpp * coffee[:, :, 0].size / 8
        assert abs(len(file) - target) <= slack(target) + 0.5


def test_the_residual_fills_what_blocks_leave_between_two_sizes(base: Codec) -> None:
    """All blocks are alike, and so change together."""
    tile = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = np.tile(tile, (16, 16, 1))
    least = probe(base.compress(image, quality=0)).bpp
    most = probe(base.compress(image, quality=100)).bpp
    for bpp in np.geomspace(1.05 * least, 0.95 * most, 12):
        file = base.compress(image, bpp=bpp, strict_rate=True)
        target = bpp * image[:, :, 0].size / 8
        assert abs(len(file) - target) <= slack(target) + 0.5


def test_fine_residuals_fill_what_a_pattern_leaves(base: Codec) -> None:
    """Codes end at a third of what there may be; cells of 4x4 pixels have the rest, at prices
    that are not those of the codes, though many of their values change at once."""
    board = ((np.indices((256, 320)) // 8).sum(0) % 2 * 255).astype(np.uint8)
    image = np.dstack([board] * 3)
    for max_bytes in range(3000, 9001, 1000):
        assert 0.9 * max_bytes < len(base.compress(image, max_bytes=max_bytes)) <= max_bytes


class Growing(Coder):
    """What is refined is larger, as with codes that look better."""

    def refine(self, draft: Coded) -> Coded:
        more = draft.image_bytes // 20
        return Coded(draft.data + bytes(more), draft.image_bytes + more)


@pytest.mark.parametrize("residual", [0, 100])
def test_files_that_grow_when_they_are_refined(residual: int) -> None:
    coder = Growing(1.0, 50, 0, residual, 0)
    for size in np.linspace(coder.least(is_limit=True), coder.size(0.5), 12).round():
        target = Target(int(size), PIXELS, is_limit=True)
        data = meet_target(coder, estimate, target, coder.refine, coder.finish)
        assert size - max(2 * slack(size), size / 20) <= len(data) <= size


class Swelling(Coder):
    """Refined codes take the room of the residual, and the more the cheaper bits are."""

    natural = 100

    def refine(self, draft: Coded) -> Coded:
        more = draft.image_bytes**2 // 50_000
        self.refined = Coded(draft.data + bytes(more), draft.image_bytes + more)
        return self.refined

    def finish(self, draft: Coded, room: Room) -> Coded:
        least = room.least if room.fill else min(room.least, 2 * self.natural)
        most = room.most if room.keep else max(room.most, self.natural // 2)
        assert draft is self.refined
        residual = min(max(self.natural, least), most)
        self.residual = residual
        return Coded(draft.data + bytes(residual), draft.image_bytes + residual)


@given(st.floats(0.1, 1), st.booleans())
def test_codes_that_took_the_room_of_the_residual_are_chosen_anew(
    share: float, limit: bool
) -> None:
    coder = Swelling(1.0, 50, 0, 0, 0)
    largest = coder.finish(coder.refine(coder(LAMBDA_MIN)), Room())
    size = round(share * largest.image_bytes) + limit * METADATA
    found = coder.meet(size, limit)
    assert abs(found - size) <= slack(size)
    assert coder.residual >= coder.natural // 2
