"""Coverage-guided fuzzing of the decoder: nothing but `HvqError` may come out.

    pip install atheris
    python -m tests.fuzz corpus -max_total_time=7200 -timeout=5 -rss_limit_mb=8192

Arguments are libFuzzer's; the instruments take up to 0.4 MiB an input, hence the high limit. What
it finds is to become a regression test. Inputs that are no container become payload, tone, residual
and metadata of one, and every checksum is made good, so that the fuzzer is not held up by them.
"""

import sys
import warnings
import zlib
from dataclasses import replace

import atheris
import numpy as np

with atheris.instrument_imports(include=["hvqcodec"]):
    import torch

    from hvqcodec import Codec, HvqError
    from hvqcodec.bitstream import Bitstream, Section
    from hvqcodec.entropy.corrections import sealed
    from hvqcodec.saving import to_file_bytes

from tests.helpers import CONTEXT, TINY
from tests.mutations import with_symbol_crc

MEGAPIXEL = 1_000_000
CODECS = [Codec.load(TINY), Codec.load(CONTEXT)]
SOUND = [
    Bitstream.from_bytes(codec.compress(np.full((32, 48, 3), 99, np.uint8))) for codec in CODECS
]


def one_input(data: bytes) -> None:
    if not data:
        return
    number = data[0] % len(CODECS)
    codec, body = CODECS[number], data[1:]
    decode(codec, body)
    if body[:1] == SOUND[number].to_bytes()[:1]:
        decode(codec, with_header_checksum(body))
    decode(codec, with_payload(codec, number, body))
    for kind in (Section.TONE, Section.RESIDUAL):
        decode(codec, with_correction(codec, number, kind, body))
    for kind in (Section.ICC, Section.EXIF, Section.XMP):
        sections = SOUND[number].sections | {kind: zlib.compress(body)}
        decode(codec, replace(SOUND[number], sections=sections).to_bytes())


def decode(codec: Codec, data: bytes) -> None:
    """To an array, and to files of other formats with all of its metadata."""
    try:
        codec.decompress(data, "numpy", max_pixels=MEGAPIXEL)
        image = codec.decompress(data, max_pixels=MEGAPIXEL)
        for suffix in (".png", ".jpg", ".tif"):
            to_file_bytes(image, suffix)
    except HvqError:
        return


def with_header_checksum(data: bytes) -> bytes:
    """Wherever a checksum could stand: tried at the place that parses furthest."""
    for end in range(16, min(len(data), 80)):
        good = zlib.crc32(data[:end]).to_bytes(4, "little")
        forged = data[:end] + good + data[end + 4 :]
        try:
            Bitstream.from_bytes(forged)
        except HvqError as error:
            if "checksum" in str(error) or "truncated in its" in str(error):
                continue
        return forged
    return data


def with_payload(codec: Codec, number: int, body: bytes) -> bytes:
    """A file of up to 16 x 16 blocks with this payload, all checksums good."""
    sizes, payload = (*body[:2], 0, 0)[:2], body[2:]
    stream = replace(
        SOUND[number],
        width=1 + sizes[0],
        height=1 + sizes[1],
        sections=SOUND[number].sections | {Section.PAYLOAD: payload},
    )
    return with_symbol_crc(codec.model, stream).to_bytes()


def with_correction(codec: Codec, number: int, kind: Section, body: bytes) -> bytes:
    """A sound file with this tone or residual, its checksum good."""
    sections = SOUND[number].sections | {kind: sealed(codec.model.synthesis, body)}
    return replace(SOUND[number], sections=sections).to_bytes()


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
