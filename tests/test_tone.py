"""Tone, as hvqcodec 0.8 sent it: what it is read as, and what it adds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvqcodec import BitstreamError, Codec, correction
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.correction import add
from hvqcodec.entropy.corrections import geometric, sealed
from hvqcodec.entropy.range_coding import Encoder
from hvqcodec.entropy.tone_coding import CELLS, VALUE_MAX, Tone, TonePlane, cells
from hvqcodec.models.zoo import load_model
from tests import reference_tone as reference
from tests.helpers import TINY, Pixels, bare, damaged, with_section
from tests.make_golden import tone_bytes

NAME = b"\x12\x34"


def plane_of(cell: int, step: int, height: int, width: int, spread: float, seed: int) -> TonePlane:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, spread, (cells(height, cell), cells(width, cell)))
    return TonePlane(cell, step, values.round().clip(-VALUE_MAX, VALUE_MAX).astype(np.int32))


def written(tone: Tone, ratio: int = 20) -> bytes:
    """As the encoder of hvqcodec 0.8 wrote it."""
    head, encoder = bytearray(), Encoder()
    for plane in tone.planes:
        if plane is None:
            head.append(0)
            continue
        head += bytes([plane.cell << 4 | plane.step - 1, ratio])
        encoder.encode_alike(plane.values.reshape(-1) + VALUE_MAX, geometric(ratio, VALUE_MAX))
    return sealed(tone.synthesis, bytes(head) + encoder.payload())


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


@given(tones(), st.integers(1, 63))
def test_what_is_sent_comes_back(case: tuple[Tone, int, int], ratio: int) -> None:
    tone, height, width = case
    assert_same(Tone.from_bytes(written(tone, ratio), height, width), tone)


@pytest.mark.parametrize("ratio", [1, 20, 63])
def test_frequencies_fall_by_the_ratio_to_both_sides(ratio: int) -> None:
    table = geometric(ratio, VALUE_MAX)
    np.testing.assert_array_equal(table, table[::-1])
    assert table[VALUE_MAX] == 2**40
    assert table[VALUE_MAX + 1] == 2**40 * ratio // 64
    assert (table == np.floor(table)).all()
    assert table.sum() < 2**47


@given(tones(), st.data())
def test_the_decoder_of_the_page_agrees(case: tuple[Tone, int, int], draw: st.DataObject) -> None:
    tone, height, width = case
    file = Bitstream(b"12345678", width, height, 0, {4: b"", 2: b"....", 132: written(tone)})
    planes = reference.tone(file.to_bytes())
    assert planes is not None
    assert reference.tone_bytes(planes) == tone_bytes(tone)
    seed = draw.draw(st.integers(0, 99))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = reference.add_tone(pixels, planes)
    add(pixels, tone.grids())
    np.testing.assert_array_equal(pixels, expected)


def test_a_flat_plane_adds_what_it_says() -> None:
    pixels = np.full((80, 112, 3), 100, np.uint8)
    y, co, cg = (TonePlane(5, 2, np.full((3, 4), value, np.int32)) for value in (10, 3, -4))
    add(pixels, Tone(NAME, (y, co, cg)).grids())
    assert (pixels == (100 + 20 + 6 + 8, 100 + 20 - 8, 100 + 20 - 6 + 8)).all()


def test_nothing_leaves_the_range() -> None:
    for value, pixel in ((31, 250), (-31, 5)):
        pixels = np.full((16, 16, 3), pixel, np.uint8)
        plane = TonePlane(4, 16, np.full((1, 1), value, np.int32))
        add(pixels, Tone(NAME, (plane, None, None)).grids())
        assert (pixels == (255 if value > 0 else 0)).all()


def bilinear(side: int, cell: int) -> NDArray[np.float64]:
    """(side, cells): what each cell counts at each pixel."""
    middles = (np.arange(cells(side, cell)) + 0.5) * 2**cell
    rows = np.eye(len(middles))
    return np.stack([np.interp(np.arange(side) + 0.5, middles, row) for row in rows], 1)


def test_between_cells_it_is_bilinear() -> None:
    plane = plane_of(6, 3, 208, 400, 5.0, seed=1)
    pixels = np.full((208, 400, 3), 128, np.uint8)
    add(pixels, Tone(NAME, (plane, None, None)).grids())
    expected = 3 * bilinear(208, 6) @ plane.values @ bilinear(400, 6).T
    assert np.abs(pixels[..., 1] - 128.0 - expected).max() <= 0.6


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch, astronaut: Pixels) -> None:
    tone = Tone(NAME, tuple(plane_of(cell, 4, 512, 512, 6.0, cell) for cell in (4, 6, 8)))
    whole, strips = astronaut.copy(), astronaut.copy()
    monkeypatch.setattr(correction, "ROWS", 512)
    add(whole, tone.grids())
    monkeypatch.setattr(correction, "ROWS", 48)
    add(strips, tone.grids())
    np.testing.assert_array_equal(whole, strips)
    assert (whole != astronaut).any()


@pytest.fixture(scope="module")
def base() -> Codec:
    return Codec.load()


@pytest.fixture(scope="module")
def toned(base: Codec, astronaut: Pixels) -> bytes:
    """A file that has a tone instead of a residual."""
    stream = Bitstream.from_bytes(base.compress(astronaut[:256, :384], bpp=0.12))
    planes = tuple(plane_of(cell, 3, 256, 384, 1.0, seed=cell) for cell in (6, 7, 6))
    sections = {k: body for k, body in stream.sections.items() if k != Section.RESIDUAL}
    sections[Section.TONE] = written(Tone(base.model.synthesis, planes))
    return replace(stream, sections=sections).to_bytes()


def test_a_file_of_an_earlier_release_keeps_its_tone(base: Codec, toned: bytes) -> None:
    shown = base.decompress(bare(toned), output="numpy").copy()
    body = Bitstream.from_bytes(toned).sections[Section.TONE]
    add(shown, Tone.from_bytes(body, 256, 384).grids())
    np.testing.assert_array_equal(base.decompress(toned, output="numpy"), shown)
    assert base.inspect(toned)["tone_bytes"] == len(body)


def test_a_model_names_its_synthesis(base: Codec) -> None:
    names = [base.model.synthesis, load_model(TINY).synthesis]
    assert [len(name) for name in names] == [2, 2]
    assert names[0] != names[1]
    assert load_model("base").synthesis == names[0]


def test_any_damage_is_noticed(base: Codec, toned: bytes) -> None:
    sound = Bitstream.from_bytes(toned).sections[Section.TONE]
    assert reference.tone(toned) is not None
    assert reference.tone(bare(toned)) is None
    for body in damaged(sound):
        with pytest.raises(BitstreamError, match="tone is damaged"):
            Tone.from_bytes(body, 256, 384)
        with pytest.raises(ValueError, match=r"tone|truncated"):
            reference.tone(with_section(toned, Section.TONE, body))
    with pytest.raises(BitstreamError, match="tone is damaged"):
        base.decompress(with_section(toned, Section.TONE, sound[:7]))


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
def test_what_is_no_tone_is_refused(toned: bytes, rest: bytes, fault: str) -> None:
    """Whose checksum is good."""
    body = sealed(NAME, rest)
    with pytest.raises(BitstreamError, match=fault):
        Tone.from_bytes(body, 256, 384)
    with pytest.raises(ValueError, match=r"tone|truncated|payload"):
        reference.tone(with_section(toned, Section.TONE, body))
