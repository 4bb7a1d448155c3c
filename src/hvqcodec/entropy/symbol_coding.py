"""NORMATIVE: all symbols of an image to one payload and back.

Order: the granularity map; then z of the coarse, medium and fine level; then their
indices, coarse to fine.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqcodec.entropy.constants import LATENT_MAX, LATENT_STRIDE
from hvqcodec.entropy.fixed_point import IntegerConv, IntegerHyperSynthesis
from hvqcodec.entropy.map_coding import Levels, decode_map, encode_map
from hvqcodec.entropy.range_coding import Decoder, Encoder, Floats, Ints
from hvqcodec.entropy.tables import ROWS, IndexTables
from hvqcodec.errors import BitstreamError
from hvqcodec.granularity import level_masks
from hvqcodec.timing import step

BLOCKS_PER_BYTE = 8 * 1024
"""Of 16x16, at most: see `tables.STATIC_MAX`."""


@dataclass(frozen=True)
class Normative:
    """Everything that decides bits: the integer part of a model."""

    hyper_syntheses: tuple[IntegerHyperSynthesis, ...]
    """Coarse, medium, fine."""
    index_tables: IndexTables
    latent_tables: NDArray[np.int32]
    """(3, latent_channels, 31) frequencies of z."""
    map_tables: NDArray[np.int32]
    """(sets, contexts, 2) frequencies of the flags of the map."""

    def to_tensors(self) -> dict[str, Tensor]:
        tensors = {
            "latent_tables": torch.from_numpy(self.latent_tables),
            "map_tables": torch.from_numpy(self.map_tables),
        }
        for name in ("entries", "inverse_variance", "log_prior", "exponential", "static"):
            tensors[f"index_tables.{name}"] = getattr(self.index_tables, name)
        for level, hyper in enumerate(self.hyper_syntheses):
            for number, conv in enumerate(hyper.convs, 1):
                tensors[f"hyper.{level}.conv{number}.weight"] = conv.weight
                tensors[f"hyper.{level}.conv{number}.bias"] = conv.bias
            formats = torch.tensor([*hyper.shifts, hyper.mask_one], dtype=torch.int32)
            tensors[f"hyper.{level}.formats"] = formats
        return tensors

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Normative":
        """Raises KeyError or ValueError if the tensors are not of a model."""
        hypers = []
        for level in range(3):
            convs = tuple(
                IntegerConv(
                    tensors[f"hyper.{level}.conv{number}.weight"],
                    tensors[f"hyper.{level}.conv{number}.bias"],
                )
                for number in range(1, 5)
            )
            s1, s2, s3, s_mu, s_step, one = tensors[f"hyper.{level}.formats"].tolist()
            hypers.append(
                IntegerHyperSynthesis(
                    (convs[0], convs[1], convs[2], convs[3]), (s1, s2, s3, s_mu, s_step), one
                )
            )
        names = ("entries", "inverse_variance", "log_prior", "exponential", "static")
        normative = cls(
            tuple(hypers),
            IndexTables(*(tensors[f"index_tables.{name}"] for name in names)),
            tensors["latent_tables"].numpy(),
            tensors["map_tables"].numpy(),
        )
        normative.check()
        return normative

    def check(self) -> None:
        """Raise ValueError unless all arithmetic is exact by these weights and tables."""
        for hyper in self.hyper_syntheses:
            hyper.check_exact(LATENT_MAX)
        self.index_tables.check_exact()
        if len(self.map_tables) < 2:
            raise ValueError("a model needs two sets of map tables or more")
        if self.latent_tables.min() < 1 or self.map_tables.min() < 1:
            raise ValueError("a table of z or of the map holds a zero")

    def fingerprint(self) -> str:
        """SHA-256 over names, types, shapes and little-endian values, as 64 hex digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.to_tensors().items()):
            array = tensor.contiguous().numpy()
            digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Symbols:
    """What a file says of an image of 16 * rows x 16 * columns pixels."""

    levels: Levels
    """(2 * rows, 2 * columns) uint8."""
    latents: tuple[NDArray[np.int8], ...]
    """Per level (latent_channels, ceil(h/4), ceil(w/4)), 0 where nothing is sent."""
    indices: tuple[Ints, ...]
    """Per level (N,), of the blocks sent, in raster order."""

    def masks(self) -> list[NDArray[np.bool_]]:
        """Where each level is sent, (h, w)."""
        return [m[0, 0].numpy() for m in level_masks(torch.from_numpy(self.levels)[None])]

    def crc(self) -> int:
        """CRC-32 over the map, the z that are sent and the indices, in coding order."""
        crc = zlib.crc32(self.levels.tobytes())
        for z, mask in zip(self.latents, self.masks(), strict=True):
            crc = zlib.crc32(sent_latents(z, mask).astype(np.int8).tobytes(), crc)
        for index in self.indices:
            crc = zlib.crc32(index.astype("<u2").tobytes(), crc)
        return crc


def latent_support(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w) -> (ceil(h/4), ceil(w/4)): where any of the 4x4 blocks is sent."""
    h, w = mask.shape
    padded = np.pad(mask, ((0, -h % LATENT_STRIDE), (0, -w % LATENT_STRIDE)))
    blocks = padded.reshape(padded.shape[0] // LATENT_STRIDE, LATENT_STRIDE, -1, LATENT_STRIDE)
    return np.asarray(blocks.any(axis=(1, 3)))


def sent_latents(z: NDArray[np.int8], mask: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(C, hz, wz) -> (N * C,): position by position in raster order, its channels in order."""
    sent: NDArray[np.int8] = z.transpose(1, 2, 0)[latent_support(mask)].reshape(-1)
    return sent


def index_frequencies(
    normative: Normative, level: int, z: NDArray[np.int8], mask: NDArray[np.bool_]
) -> Iterator[Floats]:
    """Frequencies (n, K) of the indices of a level, in pieces of at most `ROWS` codes."""
    if not mask.any():
        return
    with step("tables"):
        where = torch.from_numpy(mask)
        mu, sigma = normative.hyper_syntheses[level](torch.from_numpy(z), where)
        mu, sigma = mu[:, where].t(), sigma[:, where].t()  # (N, D)
    for m, s in zip(torch.split(mu, ROWS), torch.split(sigma, ROWS), strict=True):
        with step("tables"):
            frequencies: Floats = normative.index_tables.frequencies(level, m, s).numpy()
        yield frequencies


def latent_frequencies(normative: Normative, level: int, positions: int) -> Floats:
    """(positions * latent_channels, 31)."""
    return np.tile(normative.latent_tables[level].astype(np.float64), (positions, 1))


def coded_after_map(
    normative: Normative, symbols: Symbols
) -> Iterator[tuple[str, int, Ints, Floats]]:
    """(part, level, symbols, frequencies) in coding order; part is 'z' or 'index'."""
    masks = symbols.masks()
    for level, (z, mask) in enumerate(zip(symbols.latents, masks, strict=True)):
        sent = sent_latents(z, mask).astype(np.int32) + LATENT_MAX
        positions = len(sent) // len(z)
        yield "z", level, sent, latent_frequencies(normative, level, positions)
    for level, (z, mask) in enumerate(zip(symbols.latents, masks, strict=True)):
        begin = 0
        for frequencies in index_frequencies(normative, level, z, mask):
            piece = symbols.indices[level][begin : begin + len(frequencies)]
            begin += len(frequencies)
            yield "index", level, piece, frequencies


def encode_symbols(normative: Normative, symbols: Symbols) -> bytes:
    """The payload."""
    encoder = Encoder()
    with step("map"):
        encode_map(encoder, symbols.levels, normative.map_tables)
    for _, _, piece, frequencies in coded_after_map(normative, symbols):
        with step("range coding"):
            encoder.encode(piece, frequencies)
    return encoder.payload()


def decode_symbols(normative: Normative, payload: bytes, rows: int, columns: int) -> Symbols:
    """Raises BitstreamError where the payload cannot be of such an image. A damaged one
    may decode to other symbols: compare `Symbols.crc`."""
    if rows * columns > BLOCKS_PER_BYTE * (len(payload) + 4):
        raise BitstreamError("the file declares more pixels than its payload can hold")
    decoder = Decoder(payload)
    with step("map"):
        levels = decode_map(decoder, rows, columns, normative.map_tables)
    masks = Symbols(levels, (), ()).masks()
    latents, indices = [], []
    for level, mask in enumerate(masks):
        support = latent_support(mask)
        channels = normative.latent_tables.shape[1]
        positions = np.zeros((*support.shape, channels), np.int8)
        with step("range coding"):
            sent = decoder.decode(latent_frequencies(normative, level, int(support.sum())))
        positions[support] = (sent - LATENT_MAX).reshape(-1, channels)
        latents.append(np.ascontiguousarray(positions.transpose(2, 0, 1)))
    for level, mask in enumerate(masks):
        pieces = [np.zeros(0, np.int32)]
        for frequencies in index_frequencies(normative, level, latents[level], mask):
            with step("range coding"):
                pieces.append(decoder.decode(frequencies))
        indices.append(np.concatenate(pieces))
    decoder.finish()
    return Symbols(levels, tuple(latents), tuple(indices))
