"""What several test files need."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.memory import peak_memory
from hvqcodec.bitstream import PAYLOADS, Bitstream, Scope, Section
from hvqcodec.entropy.symbol_coding import Symbols, decode_stream, encode_symbols
from hvqcodec.granularity import Levels
from hvqcodec.models.zoo import LoadedModel

Pixels = NDArray[np.uint8]

TESTS = Path(__file__).parent
TINY = TESTS / "models" / "tiny.safetensors"
CONTEXT = TESTS / "models" / "context.safetensors"
"""As small a model, with context."""
KODAK = TESTS.parents[1] / "shared" / "data" / "kodak"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def growing_at_most(mib: int) -> Iterator[None]:
    """Fails if the process holds more than so much beside what it held before, at any time within
    the block, whatever it has held earlier."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_memory()
    yield
    grown = (peak_memory() - before) >> 20
    assert grown < mib, f"{grown} MiB more"


def psnr(a: Pixels, b: Pixels) -> float:
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / error))


def with_section(data: bytes, kind: int, body: bytes) -> bytes:
    """The file with one body put in or replaced, its header sound."""
    stream = Bitstream.from_bytes(data)
    return replace(stream, sections=stream.sections | {kind: body}).to_bytes()


def symbols_of(model: LoadedModel, source: bytes | Bitstream) -> Symbols:
    """The symbols of a file, its checksum not looked at."""
    stream = Bitstream.from_bytes(source) if isinstance(source, bytes) else source
    return decode_stream(model.normative, stream)


def recoded(model: LoadedModel, data: bytes, scope: Scope) -> bytes:
    """The same file with another kind of payload, as earlier releases wrote it."""
    stream = Bitstream.from_bytes(data)
    sections = {kind: body for kind, body in stream.sections.items() if kind not in PAYLOADS}
    kind = next(kind for kind in PAYLOADS if PAYLOADS[kind] == scope)
    sections[kind] = encode_symbols(model.normative, symbols_of(model, stream), scope)
    return replace(stream, sections=sections).to_bytes()


def assert_same_symbols(a: Symbols, b: Symbols) -> None:
    for one, other in zip(
        (a.levels, *a.latents, *a.indices), (b.levels, *b.latents, *b.indices), strict=True
    ):
        np.testing.assert_array_equal(one, other, strict=True)


@st.composite
def maps(draw: st.DrawFn, max_side: int = 6) -> Levels:
    """Valid granularity maps of 1x1 to max_side x max_side blocks of 16x16."""
    rows, columns = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    split_share, fine_share = draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])), rng.random()
    split = (rng.random((rows, columns)) < split_share).repeat(2, 0).repeat(2, 1)
    fine = rng.random((2 * rows, 2 * columns)) < fine_share
    return np.where(split, 1 + fine, 0).astype(np.uint8)


def bare(data: bytes) -> bytes:
    """A file without what is added to its pixels."""
    stream = Bitstream.from_bytes(data)
    added = (Section.TONE, Section.RESIDUAL)
    sections = {k: body for k, body in stream.sections.items() if k not in added}
    return replace(stream, sections=sections).to_bytes()


def damaged(body: bytes, every: int = 1) -> Iterator[bytes]:
    """With one bit of so many flipped; cut short anywhere; with something behind it."""
    for bit in range(0, 8 * len(body), every):
        number = int.from_bytes(body, "little") ^ 1 << bit
        yield number.to_bytes(len(body), "little")
    yield from (body[:length] for length in range(len(body)))
    yield body + bytes(4)
    yield body + b"\0"
