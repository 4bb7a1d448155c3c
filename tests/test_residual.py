"""Residual: what it is sent as, what it adds, and when it is worth its bytes."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from hvqcodec import BitstreamError, Codec, probe
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.codec import corrections_of
from hvqcodec.correction import Grid, add
from hvqcodec.entropy.corrections import sealed
from hvqcodec.entropy.residual_coding import (
    BAND_FREQUENCIES,
    CELLS,
    LEVELS,
    LOW_MAX,
    STEPS,
    VALUE_MAX,
    Residual,
    ResidualPlane,
    step_of,
)
from hvqcodec.residual import (
    BITS,
    FINE_CELL,
    TO_PLANES,
    ResidualFitter,
    cheapest,
    mean_errors,
    step_for,
)
from hvqcodec.wavelet import forward, inverse, sizes
from tests import reference_residual as reference
from tests.helpers import Pixels, bare, damaged, psnr, symbols_of, with_section
from tests.make_golden import residual_bytes

NAME = b"\x12\x34"


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_the_wavelet_comes_back_to_the_bit(height: int, width: int, seed: int) -> None:
    """Of dyadic fractions, as the format has them."""
    values = np.random.default_rng(seed).integers(-4000, 4000, (2, height, width)) / 16
    low, bands = forward(values, LEVELS)
    np.testing.assert_array_equal(inverse(low, bands), values)
    left, shapes = sizes((height, width), LEVELS)
    assert low.shape == (2, *left)
    assert [[band.shape[1:] for band in three] for three in bands] == [list(s) for s in shapes]


def test_the_wavelet_of_a_constant_is_that_constant() -> None:
    low, bands = forward(np.full((37, 50), 3.0), LEVELS)
    assert (low == 3).all()
    assert not any(band.any() for three in bands for band in three)


def plane_of(cell: int, step: int, height: int, width: int, spread: float, seed: int):
    """With values at every level, more of them the coarser it is."""
    rng = np.random.default_rng(seed)

    def values(shape: tuple[int, int], scale: float, most: int) -> np.ndarray:
        return rng.normal(0, scale, shape).round().clip(-most, most).astype(np.int32)

    left, shapes = sizes((-(-height >> cell), -(-width >> cell)), LEVELS)
    bands = [
        [values(shape, spread * 2**level / 8, VALUE_MAX) for shape in three]
        for level, three in enumerate(shapes)
    ]
    return ResidualPlane(step, values(left, 8 * spread, LOW_MAX), bands)


@st.composite
def residuals(draw: st.DrawFn) -> tuple[Residual, int, int]:
    """And the sides of its image."""
    height, width = (16 * draw(st.integers(1, 30)) for _ in range(2))
    kept = draw(st.sets(st.integers(0, 2), min_size=1))
    cell = draw(st.sampled_from(CELLS))
    planes = [
        plane_of(
            cell,
            draw(st.sampled_from(STEPS)),
            height,
            width,
            draw(st.sampled_from([0.0, 0.3, 2.0, 40.0])),
            draw(st.integers(0, 99)),
        )
        if number in kept
        else None
        for number in range(3)
    ]
    return Residual(NAME, cell, tuple(planes)), height, width


@given(residuals())
def test_what_is_sent_comes_back(case: tuple[Residual, int, int]) -> None:
    residual, height, width = case
    back = Residual.from_bytes(residual.to_bytes(), height, width)
    assert (back.synthesis, back.cell) == (NAME, residual.cell)
    assert residual_bytes(back) == residual_bytes(residual)
    for grid, other in zip(back.grids(), residual.grids(), strict=True):
        assert (grid is None) == (other is None)
        if grid and other:
            np.testing.assert_array_equal(grid.values, other.values)


@given(residuals(), st.integers(0, 99))
def test_the_decoder_of_the_page_agrees(case: tuple[Residual, int, int], seed: int) -> None:
    residual, height, width = case
    sections = {4: b"", 2: b"....", 133: residual.to_bytes()}
    file = Bitstream(b"12345678", width, height, 0, sections)
    found = reference.residual(file.to_bytes())
    assert found is not None
    assert reference.residual_bytes(*found) == residual_bytes(residual)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = reference.add_residual(pixels, *found)
    add(pixels, residual.grids())
    np.testing.assert_array_equal(pixels, expected)


def test_tables_are_integers_that_fall() -> None:
    assert BAND_FREQUENCIES.min() >= 1
    np.testing.assert_array_equal(BAND_FREQUENCIES, BAND_FREQUENCIES[:, ::-1])
    assert (np.floor(BAND_FREQUENCIES) == BAND_FREQUENCIES).all()
    shares = BAND_FREQUENCIES[:, VALUE_MAX] / BAND_FREQUENCIES.sum(1)
    assert (np.diff(shares) < 0).all(), "the more is around, the rarer is 0"


def test_steps_grow_by_about_an_eighth_of_an_octave() -> None:
    steps = [step_of(code) for code in STEPS]
    ratios = np.divide(steps[1:], steps[:-1])
    assert ratios.min() > 1.06
    assert ratios.max() <= 1.125
    for lambda_ in (0.05, 0.7, 3.0, 20.0):
        assert step_of(step_for(lambda_, 3, 3)) == pytest.approx(
            step_of(step_for(4 * lambda_, 3, 3)) / 2, rel=0.07
        )


def test_the_cheapest_is_no_dearer_than_any_other() -> None:
    rng = np.random.default_rng(0)
    ratios, classes = rng.exponential(2.0, 200), rng.integers(0, len(BITS), 200)
    every = np.arange(VALUE_MAX + 1)
    for price in (0.0, 0.05, 0.5):
        chosen, bits = cheapest(ratios, classes, price)
        np.testing.assert_array_equal(bits, BITS[classes, chosen])
        cost = np.square(ratios[:, None] - every) + price * BITS[classes]
        cost[(np.abs(ratios[:, None] - every) >= 1) & (every > 0)] = np.inf
        np.testing.assert_allclose(cost[np.arange(200), chosen], cost.min(1))


def test_a_flat_error_is_taken_back_wholly() -> None:
    original = np.full((80, 112, 3), (120, 100, 90), np.uint8)
    decoded = np.full_like(original, 100)
    residual = ResidualFitter(original, decoded, NAME)(0.2)
    assert residual
    assert len(residual.to_bytes()) < 60
    add(decoded, residual.grids())
    assert np.abs(decoded.astype(int) - original).max() <= 1


def test_a_picture_that_is_far_off_is_taken_back() -> None:
    """Though the step that is best for small errors would not reach so far."""
    original = np.full((256, 384, 3), (100, 150, 220), np.uint8)
    decoded = np.full_like(original, (130, 175, 230))
    decoded[:, :100] = (90, 100, 240)
    residual = ResidualFitter(original, decoded, NAME)(0.2)
    assert residual
    add(decoded, residual.grids())
    errors = np.abs(decoded.astype(int) - original)
    assert errors[:, 120:].max() <= 3
    assert np.median(errors) <= 1


def test_between_cells_it_is_bilinear() -> None:
    rng = np.random.default_rng(1)
    grid = Grid(3, rng.integers(-400, 400, (26, 50)).astype(np.int32))
    pixels = np.full((208, 400, 3), 128, np.uint8)
    add(pixels, [grid, None, None])
    down, right = ((np.arange(side) + 0.5) / 8 - 0.5 for side in (208, 400))
    rows = np.stack([np.interp(right, np.arange(50), row) for row in grid.values / 16])
    expected = np.stack([np.interp(down, np.arange(26), column) for column in rows.T], 1)
    assert np.abs(pixels[..., 1] - 128.0 - expected).max() <= 0.6


def test_nothing_leaves_the_range() -> None:
    for value, pixel in ((9999, 250), (-9999, 5)):
        pixels = np.full((16, 16, 3), pixel, np.uint8)
        add(pixels, [Grid(3, np.full((2, 2), value, np.int32)), None, None])
        assert (pixels == (255 if value > 0 else 0)).all()


@pytest.fixture(scope="module")
def blurred(astronaut: Pixels) -> Pixels:
    """Darker to the right, and with a stain."""
    ramp = np.linspace(0, 1, 512)[:, None] * (4.0, -6.0, -12.0)
    wrong = astronaut + ramp
    wrong[200:240, 100:160] += (18, 6, -9)
    return wrong.round().clip(0, 255).astype(np.uint8)


def test_errors_are_found_and_taken_back(astronaut: Pixels, blurred: Pixels) -> None:
    residual = ResidualFitter(astronaut, blurred, NAME)(0.5)
    assert residual
    assert len(residual.to_bytes()) < 400
    mended = blurred.copy()
    add(mended, residual.grids())
    assert psnr(astronaut, mended) > psnr(astronaut, blurred) + 5


def test_bits_buy_less_the_dearer_they_are(astronaut: Pixels, blurred: Pixels) -> None:
    fitter = ResidualFitter(astronaut, blurred, NAME)
    sizes_ = [len(fitter.body(lambda_)) for lambda_ in (0.2, 2.0, 20.0, 200.0, 1e6)]
    assert sizes_ == sorted(sizes_, reverse=True)
    assert sizes_[0] > sizes_[-1] == 0


def test_a_firm_limit_holds(astronaut: Pixels, blurred: Pixels) -> None:
    fitter = ResidualFitter(astronaut, blurred, NAME)
    natural = len(fitter.body(1.0))
    for most in (natural + 9, natural, natural - 3, natural // 2, 3, 0, -4):
        assert len(fitter.within(1.0, 0, most, fill=True, keep=True)) <= max(most, 0)
    soft, fill = (fitter.within(1.0, 10**6, 10**6, fill=fill, keep=False) for fill in (False, True))
    assert natural < len(fill) < len(soft) < 2 * natural
    fitter = ResidualFitter(astronaut, blurred, NAME, FINE_CELL)
    fine = fitter.within(1.0, 10**6, 10**6, fill=True, keep=True)
    assert len(soft) < len(fine) < 9 * natural


def test_where_there_is_no_room_the_best_tells_how_much_it_wants(
    astronaut: Pixels, blurred: Pixels
) -> None:
    fitter = ResidualFitter(astronaut, blurred, NAME)
    natural = fitter.body(1.0)
    for most, fill in itertools.product((0, 9, -4), (False, True)):
        assert fitter.within(1.0, 0, most, fill=fill, keep=False) == natural
    # Of a lambda beside, where that is enough.
    assert 0 < len(fitter.within(1.0, 0, len(natural) - 3, fill=False, keep=False)) < len(natural)


@given(st.floats(0.3, 3.0), st.floats(0.6, 1.1))
def test_a_size_about_the_natural_one_is_met(lambda_: float, factor: float) -> None:
    """As closely as a hundredth of a file, of which this is a tenth."""
    astronaut = data.astronaut()[:256, :256]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 14, (32, 32, 1)).repeat(8, 0).repeat(8, 1)
    fitter = ResidualFitter(astronaut, (astronaut + noise).clip(0, 255).astype(np.uint8), NAME)
    wanted = factor * len(fitter.body(lambda_))
    found = len(
        fitter.within(lambda_, int(0.94 * wanted), int(1.06 * wanted), fill=True, keep=True)
    )
    assert abs(found - wanted) <= 0.06 * wanted + 8


def test_where_nothing_is_missed_nothing_is_sent(astronaut: Pixels) -> None:
    assert ResidualFitter(astronaut, astronaut, NAME)(0.01) is None


def test_planes_are_what_the_sum_of_three_gives_back() -> None:
    back = np.array([[1, 1, -1], [1, 0, 1], [1, -1, -1]])
    np.testing.assert_allclose(back @ TO_PLANES, np.eye(3), atol=1e-12)


def test_errors_are_means_over_cells(astronaut: Pixels, blurred: Pixels) -> None:
    errors = mean_errors(astronaut, blurred, 3)
    assert errors.shape == (3, 64, 64)
    cell = (slice(208, 216), slice(120, 128))
    rgb = (astronaut[cell].astype(float) - blurred[cell]).mean((0, 1))
    np.testing.assert_allclose(errors[:, 26, 15], TO_PLANES @ rgb, atol=1e-4)


@pytest.fixture(scope="module")
def base() -> Codec:
    return Codec.load()


@pytest.fixture(scope="module")
def rocket() -> Pixels:
    """A dark sky."""
    return np.ascontiguousarray(data.rocket()[100:356, 100:484])


@pytest.fixture(scope="module")
def file(base: Codec, rocket: Pixels) -> bytes:
    return base.compress(rocket, bpp=0.12)


def test_a_sky_gets_its_colour_back(base: Codec, rocket: Pixels, file: bytes) -> None:
    corrected, without = (
        psnr(rocket, base.decompress(data, output="numpy")) for data in (file, bare(file))
    )
    assert corrected > without + 1
    assert 0.02 * len(file) < probe(file).sections["residual"] < 0.2 * len(file)
    assert base.inspect(file)["residual_bytes"] == probe(file).sections["residual"]


def test_another_synthesis_adds_it_as_well(base: Codec, file: bytes) -> None:
    """What it mends are errors of the codes more than of the network."""
    other = Codec(replace(base.model, synthesis=b"??"))
    shown = [codec.decompress(file, output="numpy") for codec in (base, other)]
    np.testing.assert_array_equal(*shown)


def test_grey_needs_no_colour(base: Codec, rocket: Pixels) -> None:
    stream = Bitstream.from_bytes(base.compress(rocket[..., 1], bpp=0.12))
    residual = corrections_of(stream, symbols_of(base.model, stream))[Section.RESIDUAL]
    assert [plane is None for plane in residual.planes] == [False, True, True]


def test_any_damage_is_noticed(base: Codec, file: bytes) -> None:
    sound = Bitstream.from_bytes(file).sections[Section.RESIDUAL]
    assert reference.residual(file) is not None
    assert reference.residual(bare(file)) is None
    for body in damaged(sound, every=5):
        with pytest.raises(BitstreamError, match="residual is damaged"):
            Residual.from_bytes(body, 256, 384)
        with pytest.raises(ValueError, match=r"residual|truncated"):
            reference.residual(with_section(file, Section.RESIDUAL, body))
    with pytest.raises(BitstreamError, match="residual is damaged"):
        base.decompress(with_section(file, Section.RESIDUAL, sound[:7]))


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        (b"", "no planes"),
        (b"\x03\0\0\0", "no planes"),
        (b"\x03\x20\x05\0", "no planes"),
        (b"\x01\x20\x05\0\0", "out of range"),
        (b"\x07\x20\x05\0\0", "out of range"),
        (b"\x03\x60\x05\0\0", "out of range"),
        (b"\x03\x20\0\0\0", "out of range"),
        (b"\x03\x20\x40\0\0", "out of range"),
        (b"\x03\x20\x05\0\0abc", "whole number of words"),
        (b"\x03\x20\x05\0\0" + 2000 * b"U", "left over"),
    ],
)
def test_what_is_no_residual_is_refused(file: bytes, rest: bytes, fault: str) -> None:
    """Whose checksum is good."""
    body = sealed(NAME, rest)
    with pytest.raises(BitstreamError, match=fault):
        Residual.from_bytes(body, 256, 384)
    with pytest.raises(ValueError, match=r"residual|truncated|payload"):
        reference.residual(with_section(file, Section.RESIDUAL, body))
