"""Thousands of damaged and forged files: nothing but `HvqError` comes out, at no great cost,
and never another image without a word."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import hvqcodec
from hvqcodec import BitstreamError, Codec, HvqError
from hvqcodec.bitstream import Bitstream, Scope
from hvqcodec.metadata import Metadata
from tests.helpers import CONTEXT, TINY, Pixels, growing_at_most, recoded
from tests.mutations import Mutator
from tests.samples import XMP, exif_with_thumbnail, swapped_profile

MEGAPIXEL = 1_000_000
STREAMS = 3000
"""Of each of two models."""
SECONDS, MEBIBYTES = 5.0, 256


@pytest.fixture(scope="module", params=[TINY, CONTEXT], ids=["tiny", "context"])
def hostile_codec(request: pytest.FixtureRequest) -> Codec:
    return Codec.load(request.param)


@pytest.fixture(scope="module")
def files(hostile_codec: Codec, astronaut: Pixels, coffee: Pixels, camera: Pixels) -> list[bytes]:
    """Small ones of every kind."""
    rich = Image.fromarray(astronaut[30:94, 180:260])
    Metadata(
        swapped_profile(), exif_with_thumbnail("<", behind=False), XMP, (300.0, 72.0)
    ).attach_to(rich)
    alpha = np.dstack([coffee[150:214, 200:264], np.tile(np.arange(64, dtype=np.uint8), (64, 1))])
    with_alpha = hostile_codec.compress(alpha, quality=30)
    return [
        hostile_codec.compress(rich, quality=80),
        with_alpha,
        recoded(hostile_codec.model, with_alpha, Scope.NONE),
        recoded(hostile_codec.model, with_alpha, Scope.FILE),
        recoded(hostile_codec.model, with_alpha, Scope.PLACE),
        hostile_codec.compress(camera[60:110, 180:250], quality=100),
        hostile_codec.compress(astronaut[100:101, 200:201]),
        hostile_codec.compress(coffee[:48, :200], ratios=(0.3, 0.4, 0.3)),
        hostile_codec.compress(np.full((32, 40, 3), 200, np.uint8)),
    ]


def decode(codec: Codec, data: bytes) -> Pixels | None:
    """None if it is refused; the time that it may take is limited."""
    begin = time.monotonic()
    try:
        return np.asarray(codec.decompress(data, max_pixels=MEGAPIXEL))
    except HvqError:
        return None
    finally:
        assert time.monotonic() - begin < SECONDS


def test_damaged_files_are_refused_or_unharmed(hostile_codec: Codec, files: list[bytes]) -> None:
    sound = [decode(hostile_codec, data) for data in files]
    assert all(image is not None for image in sound)
    mutator, unharmed = Mutator(hostile_codec.model, files, seed=19), 0
    for _ in range(STREAMS // 2):
        data, number = mutator.damaged()
        if data in files:  # a splice of the whole
            continue
        image = decode(hostile_codec, data)
        if image is not None:
            unharmed += 1
            np.testing.assert_array_equal(image, sound[number])
    assert 0 < unharmed < STREAMS // 20  # the least that a payload can be bent is not at all


def test_forged_files_do_no_harm(hostile_codec: Codec, files: list[bytes]) -> None:
    """Their checksums fit, so other images are what they say."""
    mutator, decoded = Mutator(hostile_codec.model, files, seed=2), 0
    with growing_at_most(MEBIBYTES):
        for _ in range(STREAMS // 2):
            decoded += decode(hostile_codec, mutator.forged()) is not None
    assert STREAMS // 40 < decoded < STREAMS // 2  # what is behind the checksums was reached


def test_headers_of_forged_files_are_read_or_refused(
    hostile_codec: Codec, files: list[bytes]
) -> None:
    mutator = Mutator(hostile_codec.model, files, seed=3)
    read = 0
    for number in range(STREAMS):
        data = mutator.forged() if number % 2 else mutator.damaged()[0]
        try:
            info = hvqcodec.probe(data)
        except BitstreamError:
            continue
        read += 1
        assert info.width > 0
        assert info.file_bytes == len(data)
    assert STREAMS // 20 < read < STREAMS


def test_a_declared_size_that_cannot_be_is_refused_at_once(hostile_codec: Codec) -> None:
    """Before memory is taken: a few bytes cannot hold 256 megapixels."""
    sound = Bitstream.from_bytes(hostile_codec.compress(np.zeros((16, 16, 3), np.uint8)))
    begin = time.monotonic()
    with growing_at_most(64):
        for side in (2**14, 2**15, 2**20, 2**24):
            forged = replace(sound, width=side, height=side)
            with pytest.raises(BitstreamError, match="pixels"):
                hostile_codec.decompress(forged.to_bytes(), max_pixels=2**60)
    assert time.monotonic() - begin < SECONDS
