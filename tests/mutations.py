"""Damaged and forged files, made from sound ones by a seeded generator."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hvqcodec import HvqError
from hvqcodec.bitstream import MAX_SIDE, PAYLOADS, Bitstream, Section, varint
from hvqcodec.entropy import corrections
from hvqcodec.entropy.corrections import CHECKSUM_BYTES, SYNTHESIS_BYTES
from hvqcodec.models.zoo import LoadedModel
from tests.helpers import symbols_of

EXTREMES = (0, 1, 2, 127, 128, 255, 2**16, MAX_SIDE, MAX_SIDE + 1, 2**32, 2**35 - 1)
FORGED_BLOCKS = 1_000_000 // 256
"""Files that declare more do not get a good checksum of their symbols: decoding them just to
learn it would take longer than the test that they are for."""


class Mutator:
    """A stream of files, half of them with their checksums made good again, so that what
    stands behind the checksums is reached."""

    def __init__(self, model: LoadedModel, files: Sequence[bytes], seed: int) -> None:
        self.model = model
        self.files = files
        self.rng = np.random.default_rng(seed)

    def damaged(self) -> tuple[bytes, int]:
        """A file with something wrong in its bytes, and the number of the one it was."""
        number = int(self.rng.integers(len(self.files)))
        data = self.bent(self.files[number])
        return data, number

    def forged(self) -> bytes:
        """A file that lies, with checksums that fit."""
        stream = Bitstream.from_bytes(self.pick(self.files))
        lengths: dict[int, int] = {}
        for _ in range(1 + self.rng.geometric(0.6)):
            change: Callable[[Bitstream], Bitstream] = self.pick(
                (
                    self.other_body,
                    self.other_size,
                    self.other_sections,
                    self.other_payload,
                    self.bent_body,
                )
            )
            stream = change(stream)
        if self.rng.random() < 0.15 and stream.sections:
            lengths[self.pick(list(stream.sections))] = self.pick(EXTREMES)
        return sealed(with_correction_crcs(with_symbol_crc(self.model, stream)), lengths)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def bent(self, data: bytes) -> bytes:
        """Bits flipped, bytes cut off, left out, put in, zeroed, or taken from another file."""
        raw = bytearray(data)
        at, length = self.place(len(raw)), int(self.rng.geometric(0.1))
        kind = self.pick(("flip", "flip", "truncate", "drop", "insert", "fill", "splice"))
        if kind == "flip":
            for _ in range(self.rng.geometric(0.5)):
                if raw:
                    raw[self.place(len(raw))] ^= 1 << int(self.rng.integers(8))
        elif kind == "truncate":
            del raw[at:]
        elif kind == "drop":
            del raw[at : at + length]
        elif kind == "insert":
            raw[at:at] = self.rng.bytes(length)
        elif kind == "fill":
            raw[at : at + length] = bytes([self.pick((0, 1, 127, 128, 255))]) * length
        else:
            other = self.pick(self.files)
            raw[at:] = other[self.place(len(other)) :]
        return bytes(raw)

    def place(self, length: int) -> int:
        """Near the beginning, where the header is, as often as anywhere."""
        spread = length if self.rng.random() < 0.5 else min(length, 48)
        return int(self.rng.integers(max(1, spread)))

    def bent_body(self, stream: Bitstream) -> Bitstream:
        kind = self.pick(list(stream.sections))
        return replace(stream, sections=stream.sections | {kind: self.bent(stream.sections[kind])})

    def other_body(self, stream: Bitstream) -> Bitstream:
        """A body of another file, of the same kind or not."""
        other = Bitstream.from_bytes(self.pick(self.files))
        kind, body = self.pick(list(stream.sections)), self.pick(list(other.sections.values()))
        return replace(stream, sections=stream.sections | {kind: body})

    def other_size(self, stream: Bitstream) -> Bitstream:
        near = max(1, stream.width + int(self.rng.integers(-40, 40)))
        width, height = self.pick((near, self.pick(EXTREMES), stream.width)), stream.height
        if self.rng.random() < 0.5:
            height = self.pick((self.pick(EXTREMES), near))
        return replace(stream, width=width, height=height)

    def other_payload(self, stream: Bitstream) -> Bitstream:
        """Of another kind."""
        sections, kinds = dict(stream.sections), self.rng.permutation(list(PAYLOADS)).tolist()
        if kinds[0] in sections:
            sections[kinds[1]] = sections.pop(kinds[0])
        return replace(stream, sections=dict(sorted(sections.items())))

    def other_sections(self, stream: Bitstream) -> Bitstream:
        """One more or one less."""
        sections = dict(stream.sections)
        if self.rng.random() < 0.3 and len(sections) > 1:
            del sections[self.pick(list(sections))]
        else:
            kind = self.pick((*Section, 0, 6, 127, 200, 255))
            sections[int(kind)] = self.rng.bytes(int(self.rng.integers(20)))
        return replace(stream, sections=dict(sorted(sections.items())))


def with_symbol_crc(model: LoadedModel, stream: Bitstream) -> Bitstream:
    """With the checksum of whatever the payload decodes to, if it does."""
    blocks = -(-stream.width // 16) * -(-stream.height // 16)
    if not stream.sections.keys() & set(PAYLOADS) or not 0 < blocks <= FORGED_BLOCKS:
        return stream
    try:
        crc = symbols_of(model, stream).crc()
    except HvqError:
        return stream
    sections = stream.sections | {Section.SYMBOL_CRC: crc.to_bytes(4, "little")}
    return replace(stream, sections=dict(sorted(sections.items())))


def with_correction_crcs(stream: Bitstream) -> Bitstream:
    """With the checksums of whatever tone and residual there are."""
    begin = SYNTHESIS_BYTES + CHECKSUM_BYTES
    good = {
        kind: corrections.sealed(body[:SYNTHESIS_BYTES], body[begin:])
        for kind, body in stream.sections.items()
        if kind in (Section.TONE, Section.RESIDUAL)
    }
    return replace(stream, sections=stream.sections | good)


def sealed(stream: Bitstream, lengths: dict[int, int]) -> bytes:
    """The file, with a good checksum of its header, which may state false lengths."""
    plain = stream.to_bytes()
    bodies = b"".join(stream.sections.values())
    header = plain[: len(plain) - len(bodies) - 4]
    table = b"".join(bytes([k]) + varint(len(b)) for k, b in stream.sections.items())
    forged = b"".join(
        bytes([k]) + varint(lengths.get(k, len(b))) for k, b in stream.sections.items()
    )
    header = header.removesuffix(table) + forged
    return header + zlib.crc32(header).to_bytes(4, "little") + bodies
