"""Golden streams: files of a model that every later release must decode to the same symbols.

    python tests/make_golden.py tests/models/tiny.safetensors tests/golden/tiny

Takes a model (path or name) and a new folder. Writes photos of scikit-image (public domain
or CC0) as NAME.hvq, `symbols.json` with the SHA-256 of the symbols, of tone, residual,
transparency and metadata of each, and `normative.safetensors`, the integer part of the model:
with it the streams can be decoded to their symbols long after the model itself has been replaced.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import save
from skimage import data

from hvqcodec import Codec
from hvqcodec.alpha import unpack_alpha
from hvqcodec.arrays import Pixels
from hvqcodec.bitstream import Bitstream, Mode, Section
from hvqcodec.codec import corrections_of
from hvqcodec.entropy.constants import LATENT_MAX
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.residual_coding import Residual
from hvqcodec.entropy.symbol_coding import (
    Symbols,
    decode_stream,
    encode_symbols,
    sent_latents,
    sent_positions,
)
from hvqcodec.entropy.tone_coding import Tone
from hvqcodec.metadata import Metadata

SYMBOLS, NORMATIVE = "symbols.json", "normative.safetensors"
PREFIX = "normative."


def symbols_digest(symbols: Symbols) -> str:
    """SHA-256 over the bytes that `Symbols.crc` runs over: map, z that are sent, indices."""
    digest = hashlib.sha256(symbols.levels.astype(np.uint8).tobytes())
    for z, mask in zip(symbols.latents, symbols.masks(), strict=True):
        digest.update(sent_latents(z, mask).astype(np.int8).tobytes())
    for index in symbols.indices:
        digest.update(index.astype("<u2").tobytes())
    return digest.hexdigest()


def tone_bytes(tone: Tone) -> bytes:
    """Cell, step and values of each plane; a zero byte for one that is missing."""
    return b"".join(
        bytes([plane.cell, plane.step]) + plane.values.astype(np.int8).tobytes() if plane else b"\0"
        for plane in tone.planes
    )


def residual_bytes(residual: Residual) -> bytes:
    """The cell; step, rest and bands, the finest first, of each plane; a zero byte for one that
    is missing."""
    raw = bytes([residual.cell])
    for plane in residual.planes:
        if plane is None:
            raw += b"\0"
            continue
        raw += bytes([plane.step]) + plane.low.astype("<i2").tobytes()
        raw += b"".join(v.astype(np.int8).tobytes() for three in plane.bands for v in three)
    return raw


def digests(normative: Normative, stream: Bitstream) -> dict[str, str]:
    """What `symbols.json` holds of a stream."""
    symbols = decode_stream(normative, stream)
    found = {"symbols": symbols_digest(symbols)}
    for kind, added in corrections_of(stream, symbols).items():
        raw = tone_bytes(added) if isinstance(added, Tone) else residual_bytes(added)
        found[kind.name.lower()] = hashlib.sha256(raw).hexdigest()
    if Section.ALPHA in stream.sections:
        alpha = unpack_alpha(stream.sections[Section.ALPHA], stream.height, stream.width)
        found["alpha"] = hashlib.sha256(alpha.tobytes()).hexdigest()
    metadata = Metadata.from_sections(stream.sections)
    if metadata != Metadata():
        pieces = metadata.icc + metadata.exif + metadata.xmp + repr(metadata.dpi).encode()
        found["metadata"] = hashlib.sha256(pieces).hexdigest()
    return found


def photos() -> Iterator[tuple[str, Pixels | Image.Image, dict[str, object]]]:
    """Name, image and choices of the encoder."""
    astronaut, coffee, cat = data.astronaut(), data.coffee(), data.chelsea()
    yield "1x1", astronaut[100:101, 200:201], {}
    yield "7x5", astronaut[100:105, 200:207], {}
    yield "16x16", cat[120:136, 160:176], {"quality": 90}
    yield "48x200", coffee[100:300, 250:298], {}
    for quality in (10, 50, 90):
        yield f"256x192-quality{quality}", astronaut[20:212, 110:366], {"quality": quality}
    yield "256x192-all-levels", cat[60:252, 100:356], {"ratios": (0.3, 0.4, 0.3)}
    yield "grey", data.camera()[60:140, 180:276], {}
    ramp = np.tile(np.arange(96) * 2, (80, 1)).astype(np.uint8)
    yield "alpha", np.dstack([coffee[150:230, 200:296], ramp]), {}
    yield "2x400", coffee[:, 300:302], {"quality": 90}
    yield "600x3", coffee[200:203], {"quality": 90}
    yield "768x512", np.pad(coffee, ((0, 112), (0, 168), (0, 0)), "symmetric"), {"bpp": 0.1}
    left = np.tile(np.repeat((255, 0), 72).astype(np.uint8), (112, 1))
    yield "144x112-max", cat[90:202, 120:264], {"effort": "max", "importance": left}
    described = Image.fromarray(cat[100:148, 150:214])
    pieces = (b"no real profile" * 9, b"II*\0no real EXIF", b"<x:xmpmeta/>" * 5, (300.0, 72.5))
    Metadata(*pieces).attach_to(described)
    yield "metadata", described, {}


def random_stream(codec: Codec) -> bytes:
    """Symbols drawn at random, to reach what no photo reaches."""
    normative = codec.model.normative
    rng = np.random.default_rng(0)
    split = (rng.random((6, 9)) < 0.7).repeat(2, 0).repeat(2, 1)
    levels = np.where(split, 1 + (rng.random((12, 18)) < 0.5), 0).astype(np.uint8)
    latents, indices = [], []
    for mask in Symbols(levels, (), ()).masks():
        support = sent_positions(mask)
        shape = (normative.latent_tables.shape[1], *support.shape)
        z = rng.integers(-LATENT_MAX, LATENT_MAX + 1, shape) * support
        latents.append(z.astype(np.int8))
        codes = len(normative.index_tables.entries)
        indices.append(rng.integers(0, codes, mask.sum()).astype(np.int32))
    symbols = Symbols(levels, tuple(latents), tuple(indices))
    sections: dict[int, bytes] = {
        Section.PAYLOAD: encode_symbols(normative, symbols),
        Section.SYMBOL_CRC: symbols.crc().to_bytes(4, "little"),
    }
    return Bitstream(codec.model.fingerprint, 140, 90, Mode.RGB, sections).to_bytes()


def streams(codec: Codec) -> dict[str, bytes]:
    """Files by name."""
    compress: Callable[..., bytes] = codec.compress
    files = {name: compress(pixels, **choices) for name, pixels, choices in photos()}
    return files | {"random": random_stream(codec)}


def make(codec: Codec, folder: Path) -> None:
    """Write everything; never into a folder that is there already."""
    folder.mkdir(parents=True)
    found = {}
    for name, content in streams(codec).items():
        (folder / f"{name}.hvq").write_bytes(content)
        found[name] = digests(codec.model.normative, Bitstream.from_bytes(content))
    (folder / SYMBOLS).write_text(json.dumps(found, indent=1) + "\n")
    tensors = codec.model.normative.to_tensors()
    (folder / NORMATIVE).write_bytes(save({PREFIX + k: v.contiguous() for k, v in tensors.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="path of a .safetensors file, or a name")
    parser.add_argument("folder", type=Path, help="to be made")
    options = parser.parse_args()
    make(Codec.load(options.model), options.folder)


if __name__ == "__main__":
    main()
