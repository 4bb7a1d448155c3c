"""Reference decoder of the pixels of `.hvq` files, written from format.md alone."""

import json
import struct
import zlib

import numpy as np

from tests.reference_decoder import (
    Grids,
    Model,
    decode_symbols,
    load_model,
    parse,
    sent_masks,
    shuffle,
    windows,
)
from tests.reference_residual import add_residual, residual
from tests.reference_tone import add_tone, tone


def load_synthesis(path: str) -> Model:
    """Read the tensors of the synthesis, by name without `network.synthesis.`, and `name`.

    The latter is the two bytes by which a tone names the synthesis that it is for.
    """
    data = np.fromfile(path, np.uint8).tobytes()
    start = 8 + struct.unpack_from("<Q", data)[0]
    synthesis, checksum = {}, 0
    for full_name, entry in sorted(json.loads(data[8:start]).items()):
        if full_name.startswith("network.synthesis."):
            first, last = entry["data_offsets"]
            values = data[start + first : start + last]
            checksum = zlib.crc32(values, checksum)
            tensor = np.frombuffer(values, "<f2").reshape(entry["shape"]).astype(np.float32)
            synthesis[full_name.removeprefix("network.synthesis.")] = tensor
    synthesis["name"] = np.frombuffer(struct.pack("<I", checksum)[:2], np.uint8)
    return synthesis


def convolve(synthesis: Model, name: str, *parts: np.ndarray) -> np.ndarray:
    """Convolve the joined channels of parts (channels, height, width) by the layer of that name."""
    weight, bias = synthesis[f"{name}.weight"], synthesis[f"{name}.bias"]
    surroundings = windows(np.concatenate(parts), weight.shape[-1])
    return np.tensordot(weight, surroundings, axes=3) + bias[:, None, None]


def trunk(synthesis: Model, name: str, x: np.ndarray) -> np.ndarray:
    """Apply the blocks of the trunk of that name, as many as there are."""
    block = 0
    while f"{name}.{block}.conv1.weight" in synthesis:
        inner = convolve(synthesis, f"{name}.{block}.conv1", x)
        inner = np.maximum(inner, np.float32(0.1) * inner)  # lrelu
        x = x + convolve(synthesis, f"{name}.{block}.conv2", inner)
        block += 1
    return x


def fold(x: np.ndarray, n: int) -> np.ndarray:
    """Turn (channels, n a, n b) into (n n channels, a, b)."""
    a, b = x.shape[1] // n, x.shape[2] // n
    return x.reshape(-1, a, n, b, n).transpose(0, 2, 4, 1, 3).reshape(-1, a, b)


def repeat(x: np.ndarray, n: int) -> np.ndarray:
    """Make each value a square of n x n."""
    return x.repeat(n, axis=1).repeat(n, axis=2)


def embed(model: Model, levels: np.ndarray, indices: Grids) -> Grids:
    """Return the unit vectors on the grid of each level, (D, height, width), 0 where not sent."""
    entries = model["index_tables.entries"]
    norms = np.sqrt((entries**2).sum(axis=1, keepdims=True))
    units = (entries / np.maximum(norms, 1)).astype(np.float32)  # a row of zeros stays one
    grids = []
    for mask, sent in zip(sent_masks(levels)[0], indices, strict=True):
        grids.append(np.zeros((units.shape[1], *mask.shape), np.float32))
        grids[-1][:, mask] = units[sent].T
    return grids


def synthesise(synthesis: Model, levels: np.ndarray, grids: Grids) -> np.ndarray:
    """Compute the RGB (16 R, 16 C, 3) as bytes, before the tone."""
    c, m, f = grids
    o = (levels == np.arange(3)[:, None, None]).astype(np.float32)
    x = convolve(synthesis, "inject16", c, fold(m, 2), fold(f, 4), fold(o, 2))
    x = shuffle(convolve(synthesis, "up8", trunk(synthesis, "trunk16", x)))
    x = x + convolve(synthesis, "inject8", repeat(c, 2), m, fold(f, 2), o)
    x = shuffle(convolve(synthesis, "up4", trunk(synthesis, "trunk8", x)))
    x = x + convolve(synthesis, "inject4", repeat(c, 4), repeat(m, 2), f, repeat(o, 2))
    x = shuffle(convolve(synthesis, "up2", trunk(synthesis, "trunk4", x)))
    x = shuffle(convolve(synthesis, "up1", trunk(synthesis, "trunk2", x)))
    v = convolve(synthesis, "to_rgb", x).transpose(1, 2, 0)
    return np.clip(np.round((v + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)


def decode_pixels(path_of_model: str, data: bytes) -> np.ndarray:
    """Decode a file to its pixels (height, width, 3), those of a grey image (height, width)."""
    model, synthesis = load_model(path_of_model), load_synthesis(path_of_model)
    symbols, planes, (header, _) = decode_symbols(model, data), tone(data), parse(data)
    grids = embed(model, symbols["levels"], symbols["indices"])
    pixels = synthesise(synthesis, symbols["levels"], grids)
    if planes is not None:
        pixels = add_tone(pixels, planes)
    if (found := residual(data)) is not None:
        pixels = add_residual(pixels, *found)
    pixels = pixels[: header["height"], : header["width"]]
    if header["mode"] == 1:  # grey; a mean of three integers is never halfway between two
        pixels = ((pixels.sum(axis=2, dtype=np.int64) + 1) // 3).astype(np.uint8)
    return pixels
