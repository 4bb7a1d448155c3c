import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvqcodec import BitstreamError, Codec, UnsupportedVersionError
from hvqcodec.bitstream import (
    FIRST_OPTIONAL,
    MAX_SECTIONS,
    MAX_SIDE,
    PAYLOADS,
    SIGNATURE,
    Bitstream,
    Mode,
    Scope,
    Section,
    varint,
    varints,
)
from tests.helpers import Pixels, with_section

FINGERPRINT = bytes(range(8))

sections = st.dictionaries(
    st.just(int(Section.ALPHA)) | st.integers(FIRST_OPTIONAL, 255), st.binary(max_size=300)
)
bitstreams = st.builds(
    Bitstream,
    fingerprint=st.binary(min_size=8, max_size=8),
    width=st.integers(1, MAX_SIDE),
    height=st.integers(1, MAX_SIDE),
    mode=st.sampled_from(Mode),
    sections=st.builds(
        lambda others, kind, payload, crc: others | {int(kind): payload, 2: crc},
        sections,
        st.sampled_from(list(PAYLOADS)),
        st.binary(max_size=300),
        st.binary(min_size=4, max_size=4),
    ),
)


def sealed(header: bytes, bodies: bytes) -> bytes:
    return header + zlib.crc32(header).to_bytes(4, "little") + bodies


def file_of(
    *,
    width: bytes = varint(16),
    height: bytes = varint(16),
    mode: bytes = varint(0),
    table: tuple[tuple[int, int], ...] = ((1, 8), (2, 4)),
    count: int | None = None,
    version: int = 1,
) -> bytes:
    """A file with a good checksum, whatever else it says."""
    header = SIGNATURE + bytes([version]) + FINGERPRINT + width + height + mode
    header += varint(len(table) if count is None else count)
    for kind, length in table:
        header += bytes([kind]) + varint(length)
    return sealed(header, bytes(sum(length for _, length in table)))


def header_length(stream: Bitstream) -> int:
    return len(stream.to_bytes()) - sum(map(len, stream.sections.values()))


@pytest.fixture(scope="module")
def encoded(codec: Codec, astronaut: Pixels) -> bytes:
    return codec.compress(astronaut[100:132, 200:248])


@given(bitstreams)
def test_round_trip(stream: Bitstream) -> None:
    data = stream.to_bytes()
    parsed = Bitstream.from_bytes(data)
    assert parsed == stream
    assert list(parsed.sections) == sorted(stream.sections)
    assert parsed.to_bytes() == data


def test_a_real_file_has_no_padding(encoded: bytes) -> None:
    stream = Bitstream.from_bytes(encoded)
    assert stream.to_bytes() == encoded
    assert len(encoded) == header_length(stream) + sum(map(len, stream.sections.values()))
    assert (stream.width, stream.height, stream.mode) == (48, 32, Mode.RGB)
    assert set(stream.sections) - {Section.RESIDUAL} == {Section.PAYLOAD, Section.SYMBOL_CRC}


def test_the_layout_is_that_of_the_page() -> None:
    """Written by hand from docs/format.md."""
    header = bytes.fromhex("8b4856510d0a1a0a 01 0001020304050607 ac02 10 01 02 0104 0204")
    crc = zlib.crc32(header)
    expected = header + crc.to_bytes(4, "little") + b"wordCRC4"
    stream = Bitstream(FINGERPRINT, 300, 16, Mode.GREY, {2: b"CRC4", 1: b"word"})
    assert stream.to_bytes() == expected
    assert (stream.payload, stream.scope) == (b"word", Scope.NONE)


def test_every_truncation_is_refused(encoded: bytes) -> None:
    for length in range(len(encoded)):
        with pytest.raises(BitstreamError, match="truncated"):
            Bitstream.from_bytes(encoded[:length])


@pytest.mark.parametrize("more", [b"\0", b"\xff", b"\n", bytes(1000)])
def test_trailing_data_is_refused(encoded: bytes, more: bytes) -> None:
    with pytest.raises(BitstreamError, match="trailing data"):
        Bitstream.from_bytes(encoded + more)


def test_every_flipped_bit_of_the_header_is_noticed(encoded: bytes) -> None:
    for bit in range(8 * header_length(Bitstream.from_bytes(encoded))):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            Bitstream.from_bytes(bytes(damaged))


@pytest.mark.parametrize(
    "mangled",
    [
        SIGNATURE.replace(b"\r\n", b"\n"),
        SIGNATURE.replace(b"\n", b"\r\n"),
        bytes([SIGNATURE[0] & 127]) + SIGNATURE[1:],
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_a_mangled_signature_is_refused(encoded: bytes, mangled: bytes) -> None:
    with pytest.raises(BitstreamError, match="signature"):
        Bitstream.from_bytes(mangled + encoded[len(SIGNATURE) :])


def test_file_of_makes_sound_files() -> None:
    """Else all the refusals below could be of something else."""
    assert Bitstream.from_bytes(file_of()).sections == {1: bytes(8), 2: bytes(4)}


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused_by_name(version: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"version {version};"):
        Bitstream.from_bytes(file_of(version=version))


@pytest.mark.parametrize("number", [b"\x90\x00", b"\x90\x80\x00", b"\x90\x80\x80\x80\x80\x01"])
@pytest.mark.parametrize("field", ["width", "height", "mode"])
def test_numbers_have_one_form(field: str, number: bytes) -> None:
    with pytest.raises(BitstreamError, match="a bad number"):
        Bitstream.from_bytes(file_of(**{field: number}))  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [0, MAX_SIDE + 1, 2**32, 2**35 - 1])
@pytest.mark.parametrize("field", ["width", "height"])
def test_sides_out_of_bounds_are_refused(field: str, side: int) -> None:
    with pytest.raises(BitstreamError, match="size out of bounds"):
        Bitstream.from_bytes(file_of(**{field: varint(side)}))  # type: ignore[arg-type]


def test_the_largest_side_is_in_bounds() -> None:
    stream = Bitstream.from_bytes(file_of(width=varint(MAX_SIDE), height=varint(1)))
    assert (stream.width, stream.height) == (MAX_SIDE, 1)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (((2, 4), (1, 8)), "out of order"),
        (((1, 8), (1, 8), (2, 4)), "out of order"),
        (((1, 8), (2, 4), (129, 1), (128, 1)), "out of order"),
        (((1, 8), (2, 4), (7, 3)), "a feature that is unknown here: 7"),
        (((1, 8), (2, 4), (127, 0)), "a feature that is unknown here: 127"),
        (((0, 1), (1, 8), (2, 4)), "a feature that is unknown here: 0"),
        (((2, 4),), "0 payloads instead of one"),
        (((1, 8), (2, 4), (4, 8)), "2 payloads instead of one"),
        (((1, 8),), "lacks the checksum of its symbols"),
        (((4, 8),), "lacks the checksum of its symbols"),
        ((), "0 payloads instead of one"),
        (((1, 8), (2, 3)), "odd length of a checksum"),
        (((1, 8), (2, 5)), "odd length of a checksum"),
    ],
)
def test_bad_section_tables_are_refused(table: tuple[tuple[int, int], ...], match: str) -> None:
    with pytest.raises(BitstreamError, match=match):
        Bitstream.from_bytes(file_of(table=table))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UnsupportedVersionError, match="colour mode: 2: a newer release may"):
        Bitstream.from_bytes(file_of(mode=varint(2)))


def test_what_is_newer_is_refused_as_such() -> None:
    with pytest.raises(UnsupportedVersionError, match="unknown here: 7: a newer release may"):
        Bitstream.from_bytes(file_of(table=((1, 8), (2, 4), (7, 3))))


def test_the_number_of_sections_is_bounded() -> None:
    optional = [(kind, 0) for kind in range(FIRST_OPTIONAL, FIRST_OPTIONAL + MAX_SECTIONS)]
    table = ((1, 8), (2, 4), *optional)
    assert len(Bitstream.from_bytes(file_of(table=table[:MAX_SECTIONS])).sections) == MAX_SECTIONS
    with pytest.raises(BitstreamError, match="too many sections"):
        Bitstream.from_bytes(file_of(table=table[: MAX_SECTIONS + 1]))
    with pytest.raises(BitstreamError, match="too many sections"):
        Bitstream.from_bytes(file_of(count=2**35 - 1))


def test_a_length_beyond_the_file_is_a_truncation() -> None:
    data = file_of(table=((1, 8), (2, 4)))
    header = data[: -4 - 12].replace(b"\x01\x08\x02\x04", b"\x01" + varint(2**35 - 1) + b"\x02\x04")
    with pytest.raises(BitstreamError, match="truncated"):
        Bitstream.from_bytes(sealed(header, bytes(12)))


@given(
    stream=bitstreams,
    position=st.integers(8, 40),
    removed=st.integers(0, 2),
    inserted=st.binary(max_size=2),
)
def test_what_is_accepted_has_one_form(
    stream: Bitstream, position: int, removed: int, inserted: bytes
) -> None:
    """Headers edited under a good checksum are refused, or are what to_bytes would write."""
    data, length = stream.to_bytes(), header_length(stream)
    header = bytearray(data[: length - 4])
    header[position : position + removed] = inserted
    edited = sealed(bytes(header), data[length:])
    try:
        parsed = Bitstream.from_bytes(edited)
    except BitstreamError:
        return
    assert parsed.to_bytes() == edited


@given(st.binary(max_size=100))
def test_garbage_is_refused(garbage: bytes) -> None:
    for data in (garbage, SIGNATURE + garbage, SIGNATURE + b"\1" + garbage):
        with pytest.raises(BitstreamError):
            Bitstream.from_bytes(data)


METADATA = (Section.ICC, Section.EXIF, Section.XMP, Section.DPI)


@given(bitstreams)
def test_metadata_are_not_of_the_image(stream: Bitstream) -> None:
    """Their lines of the table aside as well as their bodies."""
    others = {kind: body for kind, body in stream.sections.items() if kind not in METADATA}
    assert stream.image_bytes == len(replace(stream, sections=others).to_bytes())
    for kind in METADATA:
        more = replace(stream, sections=stream.sections | {kind: b"0123456789"})
        assert more.image_bytes == stream.image_bytes
    alpha = replace(stream, sections=others | {Section.ALPHA: b"0123456789"})
    bare = replace(stream, sections={k: b for k, b in others.items() if k != Section.ALPHA})
    assert alpha.image_bytes == bare.image_bytes + 12


@given(st.lists(st.integers(0, 2**35 - 1), max_size=5))
def test_numbers_of_a_body(values: list[int]) -> None:
    body = b"".join(map(varint, values))
    assert varints(body, "resolution") == values
    for damaged in (body + b"\x80", body + b"\x80\x00", body + b"\xff" * 5):
        with pytest.raises(BitstreamError, match="in its resolution"):
            varints(damaged, "resolution")


@pytest.mark.parametrize("kind", [134, 200, 255])
def test_unknown_optional_sections_are_skipped(codec: Codec, encoded: bytes, kind: int) -> None:
    extended = with_section(encoded, kind, b"from a later release")
    assert len(extended) > len(encoded)
    assert codec.decompress(extended) == codec.decompress(encoded)
