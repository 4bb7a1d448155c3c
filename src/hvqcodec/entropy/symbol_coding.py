"""NORMATIVE: all symbols of an image to one payload and back.

Order: the granularity map; then z of the coarse, medium and fine level; then their
indices, coarse to fine.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqcodec.arrays import Floats, Ints
from hvqcodec.bitstream import WRITTEN, Bitstream, Scope
from hvqcodec.entropy.adaptation import (
    COUNT_ONE,
    FORGETTING,
    LATENT_FORGETTING,
    LATENT_PIECE,
    Adaptation,
    FileAdaptation,
    PlaceAdaptation,
    Places,
)
from hvqcodec.entropy.constants import LATENT_MAX, ONE
from hvqcodec.entropy.context import around, known_planes, turns
from hvqcodec.entropy.map_coding import decode_map, encode_map
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.range_coding import Decoder, Encoder
from hvqcodec.entropy.tables import ROWS
from hvqcodec.errors import BitstreamError
from hvqcodec.granularity import BLOCK, COARSE, MEDIUM, Levels, latent_support, level_masks
from hvqcodec.timing import step

BLOCKS_PER_BYTE = 8 * 1024
"""Of 16x16, at most: see `tables.STATIC_MAX`."""


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
        """CRC-32 over the map, the z that are sent, in coding order, and the indices."""
        crc = zlib.crc32(self.levels.tobytes())
        for z, mask in zip(self.latents, self.masks(), strict=True):
            crc = zlib.crc32(sent_latents(z, mask).astype(np.int8).tobytes(), crc)
        for index in self.indices:
            crc = zlib.crc32(index.astype("<u2").tobytes(), crc)
        return crc


def sent_positions(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of z, (ceil(h/4), ceil(w/4)), for a level sent where the mask (h, w) says."""
    support = latent_support(torch.from_numpy(mask)[None, None])
    sent: NDArray[np.bool_] = support[0, 0].bool().numpy()
    return sent


def sent_latents(z: NDArray[np.int8], mask: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(C, hz, wz) -> (N, C): position by position in raster order, its channels in order."""
    sent: NDArray[np.int8] = z.transpose(1, 2, 0)[sent_positions(mask)]
    return sent


def index_maps(symbols: Symbols) -> list[Tensor]:
    """Per level (h, w) int64, 0 where nothing is sent."""
    maps = []
    for mask, index in zip(symbols.masks(), symbols.indices, strict=True):
        filled = np.zeros(mask.shape, np.int64)
        filled[mask] = index
        maps.append(torch.from_numpy(filled))
    return maps


def index_frequencies(
    normative: Normative,
    level: int,
    z: NDArray[np.int8],
    masks: list[Tensor],
    maps: list[Tensor],
    adaptation: FileAdaptation | None = None,
) -> Iterator[tuple[Places, Places, Floats]]:
    """Rows, columns and frequencies (n, K) of the indices of a level in coding order, in
    pieces of at most `ROWS` codes.

    masks, maps: of all levels, (h, w). `maps[level]` may be filled in as the pieces come:
    the indices of one must stand there before the next is asked for.
    adaptation: of the file, which learns from each piece.
    """
    mask = masks[level]
    if not mask.any():
        return
    tables = normative.index_tables
    with step("tables"):
        mu, steps = normative.hyper_syntheses[level](torch.from_numpy(z), mask)  # (D, h, w)
        entries = tables.entries.float()  # exact, and half the memory of doubles
        context = normative.contexts[level] if normative.contexts else None
        if context:
            sent, known = ([t[None] for t in ts[: level + 1]] for ts in (masks, maps))
            planes = context.pad(known_planes(entries, sent, known, 0, ONE)[0])
    index = maps[level].numpy()
    for turn in turns(mask, context is not None):
        rows, columns = (places.numpy() for places in turn)
        if not len(rows):
            continue
        if adaptation:
            places = adaptation.cells(level, rows, columns)
            order = np.argsort(places, kind="stable")
            rows, columns, cells = rows[order], columns[order], places[order].tolist()
        for start in range(0, len(rows), ROWS):
            chunk = slice(start, start + ROWS)
            with step("tables"):
                r, c = torch.from_numpy(rows[chunk]), torch.from_numpy(columns[chunk])
                m, s = mu[:, r, c].double(), steps[:, r, c].double()  # (D, n)
                if context:
                    m, s = context(around(planes, r, c, context.window), m, s)
                likelihoods = tables.likelihoods(level, m.t(), s.t())
            size = adaptation.piece if adaptation else ROWS
            for first in range(start, start + len(r), size):
                piece = slice(first, min(first + size, start + ROWS))
                there = rows[piece], columns[piece]
                likely = likelihoods[first - start : piece.stop - start]
                with step("tables"):
                    adapted = adaptation.adapted(cells[piece], likely) if adaptation else likely
                    frequencies = tables.frequencies(level, adapted)
                yield *there, frequencies
                if adaptation:
                    with step("tables"):
                        adaptation.learn(index[there], likely)
        if context:
            with step("tables"):
                context.reveal(planes, *turn, entries[maps[level][turn]])


def latent_frequencies(
    normative: Normative, level: int, sent: NDArray[np.int8], scope: Scope
) -> Iterator[tuple[slice, Floats]]:
    """Positions and frequencies (n * latent_channels, 31) of z, in pieces.

    sent: z, (N, latent_channels), of the positions that are sent. It may be filled in as the
    pieces come: z of one must stand there before the next is asked for.
    """
    table = normative.latent_tables[level].astype(np.float64)
    forgetting = LATENT_FORGETTING if scope >= Scope.PLACE else FORGETTING
    adaptation = Adaptation(*table.shape, forgetting=forgetting) if scope else None
    expected = np.floor(table * COUNT_ONE / table.sum(1, keepdims=True))
    values = np.arange(-LATENT_MAX, LATENT_MAX + 1)
    size = LATENT_PIECE if adaptation else ROWS
    for start in range(0, len(sent), size):
        piece = slice(start, min(start + size, len(sent)))
        count = piece.stop - start
        yield piece, np.tile(table * adaptation.gains() if adaptation else table, (count, 1))
        if adaptation:
            seen = (sent[piece, :, None] == values).sum(0)  # (C, 31)
            adaptation.learn(np.stack([COUNT_ONE * seen, count * expected]))


def coded_after_map(
    normative: Normative, symbols: Symbols, scope: Scope
) -> Iterator[tuple[str, int, Ints, Floats]]:
    """(part, level, symbols, frequencies) in coding order; part is 'z' or 'index'."""
    masks = symbols.masks()
    for level, (z, mask) in enumerate(zip(symbols.latents, masks, strict=True)):
        sent = sent_latents(z, mask)
        for piece, frequencies in latent_frequencies(normative, level, sent, scope):
            yield "z", level, sent[piece].reshape(-1).astype(np.int32) + LATENT_MAX, frequencies
    adaptation = adaptation_of(normative, symbols.levels, scope)
    tensors, maps = [torch.from_numpy(mask) for mask in masks], index_maps(symbols)
    for level, z in enumerate(symbols.latents):
        for r, c, frequencies in index_frequencies(normative, level, z, tensors, maps, adaptation):
            yield "index", level, maps[level].numpy()[r, c].astype(np.int32), frequencies


def adaptation_of(normative: Normative, levels: Levels, scope: Scope) -> FileAdaptation | None:
    """Of the indices of a file, of all its levels."""
    codes = len(normative.index_tables.entries)
    if scope >= Scope.PLACE:
        height, width = (BLOCK[MEDIUM] * side for side in levels.shape)
        return PlaceAdaptation(codes, height, width, growing=scope == Scope.GROWING)
    return FileAdaptation(codes) if scope == Scope.FILE else None


def encode_symbols(normative: Normative, symbols: Symbols, scope: Scope = WRITTEN) -> bytes:
    """The payload, as `PAYLOADS` names it for the scope."""
    encoder = Encoder()
    with step("map"):
        encode_map(encoder, symbols.levels, normative.map_tables)
    for _, _, piece, frequencies in coded_after_map(normative, symbols, scope):
        with step("range coding"):
            encoder.encode(piece, frequencies)
    return encoder.payload()


def decode_stream(normative: Normative, stream: Bitstream) -> Symbols:
    """Of a file; raises as `decode_symbols` does."""
    rows, columns = -(-stream.height // BLOCK[COARSE]), -(-stream.width // BLOCK[COARSE])
    return decode_symbols(normative, stream.payload, rows, columns, stream.scope)


def decode_symbols(
    normative: Normative, payload: bytes, rows: int, columns: int, scope: Scope = WRITTEN
) -> Symbols:
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
        support = sent_positions(mask)
        channels = normative.latent_tables.shape[1]
        sent = np.zeros((support.sum(), channels), np.int8)
        for piece, frequencies in latent_frequencies(normative, level, sent, scope):
            with step("range coding"):
                sent[piece] = (decoder.decode(frequencies) - LATENT_MAX).reshape(-1, channels)
        positions = np.zeros((*support.shape, channels), np.int8)
        positions[support] = sent
        latents.append(np.ascontiguousarray(positions.transpose(2, 0, 1)))
    tensors = [torch.from_numpy(mask) for mask in masks]
    maps = [torch.zeros(mask.shape, dtype=torch.int64, device="cpu") for mask in masks]
    adaptation = adaptation_of(normative, levels, scope)
    for level, z in enumerate(latents):
        for r, c, frequencies in index_frequencies(normative, level, z, tensors, maps, adaptation):
            with step("range coding"):
                maps[level].numpy()[r, c] = decoder.decode(frequencies)
        indices.append(maps[level][tensors[level]].numpy().astype(np.int32))
    decoder.finish()
    return Symbols(levels, tuple(latents), tuple(indices))
