"""NORMATIVE: the container, version 1. docs/format.md describes it.

    signature, 8 bytes
    header: version, fingerprint, width, height, mode, sections (kind, length) ...
    CRC-32 of signature and header, 4 bytes
    the bodies of the sections, in the order of the header

The header lists all lengths, so that every truncation and every excess shows before
anything is decoded. There is one way to write what is parsed: no padding, shortest varints.
"""

import zlib
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import accumulate, pairwise

from hvqcodec.errors import BitstreamError, UnsupportedVersionError

SIGNATURE = b"\x8bHVQ\r\n\x1a\n"
VERSION = 1
FINGERPRINT_BYTES = 8
MAX_SIDE = 1 << 24
MAX_SECTIONS = 64
MAX_VARINT = 5
"""Bytes."""
MAX_HEADER_BYTES = (
    len(SIGNATURE) + 1 + FINGERPRINT_BYTES + 4 * MAX_VARINT + MAX_SECTIONS * (1 + MAX_VARINT) + 4
)


class Mode(IntEnum):
    """What the decoder gives back."""

    RGB = 0
    GREY = 1


class Section(IntEnum):
    """Kinds of section. Of the kinds that a decoder does not know it skips those from
    128 on and refuses those below."""

    PLAIN_PAYLOAD = 1
    """A payload whose tables do not adapt, as hvqcodec up to 0.6 wrote it."""
    SYMBOL_CRC = 2
    """CRC-32 of all decoded symbols, 4 bytes: the one check that notices wrong tables."""
    ALPHA = 3
    """Transparency, 8 bits per pixel, zlib; nothing if it is opaque throughout."""
    ADAPTIVE_PAYLOAD = 4
    """One whose tables learn from all the file alike, as hvqcodec 0.7 to 0.9 wrote it."""
    PLACE_PAYLOAD = 5
    """One whose tables learn in pieces of one size, as hvqcodec 0.10 to 0.12 wrote it."""
    PAYLOAD = 6
    """One range-coded stream: granularity map, z, indices."""
    ICC = 128
    """Colour profile: zlib, or one byte for a well-known one."""
    EXIF = 129
    """zlib."""
    XMP = 130
    """zlib."""
    DPI = 131
    """Two varints."""
    TONE = 132
    """What the synthesis misses over large areas, as hvqcodec 0.8 wrote it; a decoder may leave
    it out."""
    RESIDUAL = 133
    """What the synthesis misses at low frequencies; a decoder may leave it out."""


class Scope(IntEnum):
    """From which symbols of a file its tables learn."""

    NONE = 0
    """Files up to hvqcodec 0.6."""
    FILE = 1
    """All alike: 0.7 to 0.9."""
    PLACE = 2
    """All, and those nearby once more: 0.10 to 0.12."""
    GROWING = 3
    """Likewise, at first from few at a time and then from more."""


FIRST_OPTIONAL = 128
METADATA = (Section.ICC, Section.EXIF, Section.XMP, Section.DPI)
PAYLOADS = {
    Section.PLAIN_PAYLOAD: Scope.NONE,
    Section.ADAPTIVE_PAYLOAD: Scope.FILE,
    Section.PLACE_PAYLOAD: Scope.PLACE,
    Section.PAYLOAD: Scope.GROWING,
}
"""How each is coded."""
WRITTEN = PAYLOADS[Section.PAYLOAD]
"""How files of this release are."""


@dataclass(frozen=True)
class Bitstream:
    """A parsed file; `to_bytes` gives back the very bytes that `from_bytes` read."""

    fingerprint: bytes
    """First 8 bytes of the SHA-256 of the normative tensors."""
    width: int
    height: int
    mode: Mode
    sections: dict[int, bytes] = field(default_factory=dict)
    """Bodies by kind, in the order of the file: ascending kinds."""

    def to_bytes(self) -> bytes:
        header = bytearray(SIGNATURE)
        header.append(VERSION)
        header += self.fingerprint
        for number in (self.width, self.height, self.mode, len(self.sections)):
            header += varint(number)
        for kind, body in sorted(self.sections.items()):
            header.append(kind)
            header += varint(len(body))
        header += zlib.crc32(header).to_bytes(4, "little")
        return bytes(header) + b"".join(body for _, body in sorted(self.sections.items()))

    @property
    def scope(self) -> Scope:
        """How the payload is coded."""
        return PAYLOADS[self._payload_kind]

    @property
    def payload(self) -> bytes:
        return self.sections[self._payload_kind]

    @property
    def _payload_kind(self) -> Section:
        return next(kind for kind in PAYLOADS if kind in self.sections)

    @property
    def image_bytes(self) -> int:
        """Of the file, if it carried no metadata."""
        sections = {kind: body for kind, body in self.sections.items() if kind not in METADATA}
        return len(replace(self, sections=sections).to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bitstream":
        """data: bytes, bytearray or memoryview.

        Raises BitstreamError, or UnsupportedVersionError for what is newer; TypeError for
        what is no bytes, paths above all.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(
                f"pass the bytes of an .hvq file, not {type(data).__name__}; functions whose "
                "names end in _file take paths"
            )
        data = bytes(data)
        header = Header.from_bytes(data)
        if len(data) != header.file_bytes:
            raise BitstreamError(
                "the file is truncated"
                if len(data) < header.file_bytes
                else "the file has trailing data"
            )
        sections = {kind: data[span] for kind, span in header.spans().items()}
        return cls(header.fingerprint, header.width, header.height, header.mode, sections)


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file say."""

    fingerprint: bytes
    width: int
    height: int
    mode: Mode
    lengths: dict[int, int]
    """Of the bodies by kind, in the order of the file."""
    header_bytes: int
    """Up to the first body."""

    @property
    def file_bytes(self) -> int:
        return self.header_bytes + sum(self.lengths.values())

    def spans(self) -> dict[int, slice]:
        """Where in the file each body lies."""
        ends = accumulate(self.lengths.values(), initial=self.header_bytes)
        return {
            kind: slice(begin, end)
            for kind, (begin, end) in zip(self.lengths, pairwise(ends), strict=True)
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> "Header":
        """data: the file, or its first `MAX_HEADER_BYTES` at least.

        Raises as `Bitstream.from_bytes` does.
        """
        reader = _Reader(data)
        if reader.take(len(SIGNATURE), "signature") != SIGNATURE:
            raise BitstreamError("not an .hvq file: the signature is missing or was mangled")
        version = reader.take(1, "version")[0]
        if version != VERSION:
            raise UnsupportedVersionError(
                f"the file has format version {version}; this hvqcodec reads version {VERSION}"
            )
        fingerprint = reader.take(FINGERPRINT_BYTES, "fingerprint")
        width, height = reader.varint("width"), reader.varint("height")
        mode, count = reader.varint("mode"), reader.varint("sections")
        if count > MAX_SECTIONS:
            raise BitstreamError("the header is damaged: too many sections")
        lengths: dict[int, int] = {}
        for _ in range(count):
            kind = reader.take(1, "sections")[0]
            if lengths and kind <= max(lengths):
                raise BitstreamError("the header is damaged: sections out of order")
            lengths[kind] = reader.varint("sections")
        checked = data[: reader.position]
        if int.from_bytes(reader.take(4, "checksum"), "little") != zlib.crc32(checked):
            raise BitstreamError("the header is damaged: its checksum does not match")
        _check_header(width, height, mode, lengths)
        return cls(fingerprint, width, height, Mode(mode), lengths, reader.position)


def _check_header(width: int, height: int, mode: int, lengths: dict[int, int]) -> None:
    """Refuse what a sound header can still ask for in vain."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise BitstreamError(f"the file declares a size out of bounds: {width}x{height}")
    if mode not in tuple(Mode):
        raise UnsupportedVersionError(f"the file declares an unknown colour mode: {mode}")
    for kind in lengths:
        if kind not in tuple(Section) and kind < FIRST_OPTIONAL:
            raise UnsupportedVersionError(f"the file needs a feature that is unknown here: {kind}")
    payloads = sum(kind in lengths for kind in PAYLOADS)
    if payloads != 1:
        raise BitstreamError(f"the file has {payloads} payloads instead of one")
    if Section.SYMBOL_CRC not in lengths:
        raise BitstreamError("the file lacks the checksum of its symbols")
    if lengths[Section.SYMBOL_CRC] != 4:
        raise BitstreamError("the header is damaged: odd length of a checksum")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int, what: str) -> bytes:
        taken = self.data[self.position : self.position + count]
        if len(taken) < count:
            raise BitstreamError(f"the file is truncated in its {what}")
        self.position += count
        return taken

    def varint(self, what: str) -> int:
        """LEB128: 7 bits a byte, the lowest first; at most 5 bytes, the shortest form."""
        value = 0
        for shift in range(0, 7 * MAX_VARINT, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if shift and not byte:
                    break
                return value
        raise BitstreamError(f"the file is damaged: a bad number in its {what}")


def varint(value: int) -> bytes:
    """LEB128 of 0 <= value < 2^35."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(body: bytes, what: str) -> list[int]:
    """The numbers of a body that holds nothing else; raises BitstreamError."""
    reader = _Reader(body)
    values = []
    while reader.position < len(body):
        values.append(reader.varint(what))
    return values
