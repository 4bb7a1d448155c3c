"""Tone: what it is sent as, what it adds, and when it is worth its bytes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from hvqcodec import BitstreamError, Codec, probe
from hvqcodec import tone as tone_module
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.codec import tone_of
from hvqcodec.entropy.tone_coding import (
    CELLS,
    RATIO_ONE,
    SYNTHESIS_BYTES,
    VALUE_MAX,
    Tone,
    TonePlane,
    frequencies,
    grid,
    sealed,
)
from hvqcodec.models.zoo import load_model
from hvqcodec.tone import TO_PLANES, ToneFitter, add_tone, weights
from tests import reference_tone as reference
from tests.helpers import TINY, Pixels, psnr, symbols_of, with_section
from tests.make_golden import tone_bytes

NAME = b"\x12\x34"


def plane_of(cell: int, step: int, height: int, width: int, spread: float, seed: int) -> TonePlane:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, spread, (grid(height, cell), grid(width, cell)))
    return TonePlane(cell, step, values.round().clip(-VALUE_MAX, VALUE_MAX).astype(np.int32))


@st.composite
def tones(draw: st.DrawFn) -> tuple[Tone, int, int]:
    """And the sides of its image."""
    height, width = (16 * draw(st.integers(1, 40)) for _ in range(2))
    kept = draw(st.sets(st.integers(0, 2), min_size=1))
    planes = [
        None
        if number not in kept
        else plane_of(
            draw(st.sampled_from(CELLS)),
            draw(st.integers(1, 16)),
            height,
            width,
            draw(st.sampled_from([0.0, 0.3, 2.0, 40.0])),
            draw(st.integers(0, 99)),
        )
        for number in range(3)
    ]
    return Tone(NAME, tuple(planes)), height, width


def assert_same(one: Tone, other: Tone) -> None:
    assert one.synthesis == other.synthesis
    assert tone_bytes(one) == tone_bytes(other)
    for a, b in zip(one.planes, other.planes, strict=True):
        assert (a is None) == (b is None)
        if a and b:
            np.testing.assert_array_equal(a.values, b.values, strict=True)


@given(tones())
def test_what_is_sent_comes_back(case: tuple[Tone, int, int]) -> None:
    tone, height, width = case
    assert_same(Tone.from_bytes(tone.to_bytes(), height, width), tone)


@given(tones())
def test_the_values_cost_what_is_said(case: tuple[Tone, int, int]) -> None:
    """Or less, where many are as large as can be."""
    tone, *_ = case
    said = sum(plane.bits for plane in tone.planes if plane) / 8
    head = SYNTHESIS_BYTES + 4 + sum(2 if plane else 1 for plane in tone.planes)
    assert 0.9 * said - 8 <= len(tone.to_bytes()) - head <= 1.01 * said + 8


@pytest.mark.parametrize("ratio", [1, 20, RATIO_ONE - 1])
def test_frequencies_fall_by_the_ratio_to_both_sides(ratio: int) -> None:
    table = frequencies(ratio)
    np.testing.assert_array_equal(table, table[::-1])
    assert table[VALUE_MAX] == 2**40
    assert table[VALUE_MAX + 1] == 2**40 * ratio // 64
    assert (table == np.floor(table)).all()
    assert table.sum() < 2**47


@given(tones(), st.data())
def test_the_decoder_of_the_page_agrees(case: tuple[Tone, int, int], draw: st.DataObject) -> None:
    tone, height, width = case
    file = Bitstream(b"12345678", width, height, 0, {4: b"", 2: b"....", 132: tone.to_bytes()})
    planes = reference.tone(file.to_bytes())
    assert planes is not None
    assert reference.tone_bytes(planes) == tone_bytes(tone)
    seed = draw.draw(st.integers(0, 99))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = reference.add_tone(pixels, planes)
    add_tone(pixels, tone)
    np.testing.assert_array_equal(pixels, expected)


def test_a_flat_plane_adds_what_it_says() -> None:
    pixels = np.full((80, 112, 3), 100, np.uint8)
    y, co, cg = (TonePlane(5, 2, np.full((3, 4), value, np.int32)) for value in (10, 3, -4))
    add_tone(pixels, Tone(NAME, (y, co, cg)))
    assert (pixels == (100 + 20 + 6 + 8, 100 + 20 - 8, 100 + 20 - 6 + 8)).all()


def test_nothing_leaves_the_range() -> None:
    for value, pixel in ((31, 250), (-31, 5)):
        pixels = np.full((16, 16, 3), pixel, np.uint8)
        plane = TonePlane(4, 16, np.full((1, 1), value, np.int32))
        add_tone(pixels, Tone(NAME, (plane, None, None)))
        assert (pixels == (255 if value > 0 else 0)).all()


def test_between_cells_it_is_bilinear() -> None:
    plane = plane_of(6, 3, 208, 400, 5.0, seed=1)
    pixels = np.full((208, 400, 3), 128, np.uint8)
    add_tone(pixels, Tone(NAME, (plane, None, None)))
    expected = 3 * weights(208, 6) @ plane.values @ weights(400, 6).T
    assert np.abs(pixels[..., 1] - 128.0 - expected).max() <= 0.6


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch, astronaut: Pixels) -> None:
    tone = Tone(NAME, tuple(plane_of(cell, 4, 512, 512, 6.0, cell) for cell in (4, 6, 8)))
    whole, strips = astronaut.copy(), astronaut.copy()
    monkeypatch.setattr(tone_module, "ROWS", 512)
    add_tone(whole, tone)
    monkeypatch.setattr(tone_module, "ROWS", 48)
    add_tone(strips, tone)
    np.testing.assert_array_equal(whole, strips)
    assert (whole != astronaut).any()


@pytest.fixture(scope="module")
def drifted(astronaut: Pixels) -> Pixels:
    """Redder and darker to the right."""
    ramp = np.linspace(0, 1, 512)[:, None] * (4.0, -6.0, -12.0)
    return (astronaut + ramp).round().clip(0, 255).astype(np.uint8)


def test_drift_is_found_and_taken_back(astronaut: Pixels, drifted: Pixels) -> None:
    tone = ToneFitter(astronaut, drifted, NAME)(1.0)
    assert tone
    assert len(tone.to_bytes()) < 150
    mended = drifted.copy()
    add_tone(mended, tone)
    assert psnr(astronaut, mended) > psnr(astronaut, drifted) + 6


def test_bits_buy_less_the_dearer_they_are(astronaut: Pixels, drifted: Pixels) -> None:
    fitter = ToneFitter(astronaut, drifted, NAME)
    sizes = [len(fitter.body(lambda_)) for lambda_ in (0.2, 2.0, 20.0, 200.0, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] == 0


def test_a_firm_limit_holds(astronaut: Pixels, drifted: Pixels) -> None:
    fitter = ToneFitter(astronaut, drifted, NAME)
    natural = len(fitter.body(1.0))
    for most in (natural + 9, natural, natural - 3, natural // 2, 3, 0, -4):
        assert len(fitter.within(1.0, 0, most, firm=True)) <= max(most, 0)
    assert len(fitter.within(1.0, 0, 0, firm=False)) > 0.7 * natural
    assert natural <= len(fitter.within(1.0, 10**6, 10**6, firm=False)) < 1.5 * natural


def test_where_nothing_is_missed_nothing_is_sent(astronaut: Pixels) -> None:
    assert ToneFitter(astronaut, astronaut, NAME)(0.01) is None


def test_planes_are_what_the_sum_of_three_gives_back() -> None:
    back = np.array([[1, 1, -1], [1, 0, 1], [1, -1, -1]])
    np.testing.assert_allclose(back @ TO_PLANES, np.eye(3), atol=1e-12)


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


def bare(data: bytes) -> bytes:
    """Without tone."""
    stream = Bitstream.from_bytes(data)
    sections = {k: body for k, body in stream.sections.items() if k != Section.TONE}
    return replace(stream, sections=sections).to_bytes()


def test_a_sky_gets_its_colour_back(base: Codec, rocket: Pixels, file: bytes) -> None:
    with_tone, without = (
        psnr(rocket, base.decompress(data, output="numpy")) for data in (file, bare(file))
    )
    assert with_tone > without + 1
    assert 0 < probe(file).sections["tone"] < 0.03 * len(file)
    assert base.inspect(file)["tone_bytes"] == probe(file).sections["tone"]


def test_another_synthesis_leaves_it_out(base: Codec, file: bytes) -> None:
    """It would add what that one does not miss."""
    other = Codec(replace(base.model, synthesis=b"??"))
    np.testing.assert_array_equal(
        other.decompress(file, output="numpy"), base.decompress(bare(file), output="numpy")
    )


def test_a_model_names_its_synthesis(base: Codec) -> None:
    names = [base.model.synthesis, load_model(TINY).synthesis]
    assert [len(name) for name in names] == [SYNTHESIS_BYTES] * 2
    assert names[0] != names[1]
    assert load_model("base").synthesis == names[0]


def test_grey_needs_no_colour(base: Codec, rocket: Pixels) -> None:
    stream = Bitstream.from_bytes(base.compress(rocket[..., 1], bpp=0.12))
    tone = tone_of(stream, symbols_of(base.model, stream))
    assert tone
    assert [plane is None for plane in tone.planes] == [False, True, True]


def test_any_damage_is_noticed(base: Codec, file: bytes) -> None:
    sound = Bitstream.from_bytes(file).sections[Section.TONE]
    assert reference.tone(file) is not None
    assert reference.tone(bare(file)) is None
    for body in damaged(sound):
        with pytest.raises(BitstreamError, match="tone is damaged"):
            Tone.from_bytes(body, 256, 384)
        with pytest.raises(ValueError, match=r"tone|truncated"):
            reference.tone(with_section(file, Section.TONE, body))
    with pytest.raises(BitstreamError, match="tone is damaged"):
        base.decompress(with_section(file, Section.TONE, sound[:7]))


def damaged(body: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(body)):
        number = int.from_bytes(body, "little") ^ 1 << bit
        yield number.to_bytes(len(body), "little")
    yield from (body[:length] for length in range(len(body)))
    yield body + bytes(4)
    yield body + b"\0"


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        (b"\0\0\0", "no planes"),
        (b"\x60\x05\0", "no planes"),
        (b"\x31\x05\0\0", "out of range"),
        (b"\x90\x05\0\0", "out of range"),
        (b"\x60\0\0\0", "out of range"),
        (b"\x60\x40\0\0", "out of range"),
        (b"\x60\x05\0\0abc", "whole number of words"),
        (b"\x60\x05\0\0" + 1000 * b"U", "left over"),
    ],
)
def test_what_is_no_tone_is_refused(file: bytes, rest: bytes, fault: str) -> None:
    """Whose checksum is good."""
    body = sealed(NAME, rest)
    with pytest.raises(BitstreamError, match=fault):
        Tone.from_bytes(body, 256, 384)
    with pytest.raises(ValueError, match=r"tone|truncated|payload"):
        reference.tone(with_section(file, Section.TONE, body))
