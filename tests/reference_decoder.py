"""Reference decoder of the symbols of `.hvq` files, written from format.md alone."""

import hashlib
import json
import struct
import sys
import zlib

import numpy as np

SIGNATURE = b"\x8bHVQ\r\n\x1a\n\1"  # and the version
PLAIN, SYMBOL_CHECKSUM, ALPHA, ADAPTIVE, PLACES, PAYLOAD = range(1, 7)  # kinds of sections
PAYLOADS = {PLAIN, ADAPTIVE, PLACES, PAYLOAD}  # a file has one of them
DTYPES = {"I16": "<i2", "I32": "<i4", "I64": "<i8"}
TURNS = np.array([[0, 2], [3, 1]])  # the turn of a position, by the parities of row and column
NEAR = {(i, j): 4 >> abs(i) + abs(j) for i in (-1, 0, 1) for j in (-1, 0, 1)}  # weights of cells
Model = dict[str, np.ndarray]
Grids = list[np.ndarray]  # one array for each level


def require(condition: bool, message: str) -> None:
    """Refuse the file unless the condition holds."""
    if not condition:
        raise ValueError(message)


class ByteReader:
    """Reads bytes, never beyond their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        require(self.position + count <= len(self.data), "truncated file")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        """Return the next LEB128 number, at most five bytes, shortest form only."""
        varint = self.take(1)
        while varint[-1] >= 128 and len(varint) < 5:
            varint += self.take(1)
        require(0 < varint[-1] < 128 or varint == b"\0", "varint too long or not the shortest")
        return sum((byte & 127) << (7 * i) for i, byte in enumerate(varint))


def parse(data: bytes) -> tuple[dict, dict[int, bytes]]:
    """Split a file into its header and the bodies of its sections, by kind."""
    reader = ByteReader(data)
    require(reader.take(9) == SIGNATURE, "another signature or an unknown version")
    fingerprint = reader.take(8)
    width, height, mode, count = (reader.varint() for _ in range(4))
    require(count <= 64, "too many sections")
    table = [(reader.take(1)[0], reader.varint()) for _ in range(count)]
    require(table == sorted(dict(table).items()), "sections out of order")
    require(struct.pack("<I", zlib.crc32(data[: reader.position])) == reader.take(4), "bad CRC-32")
    require(0 < min(width, height) <= max(width, height) <= 2**24 and mode < 2, "size or mode")
    require(all(1 <= kind <= 6 or kind >= 128 for kind, _ in table), "unknown kind")
    require(len(PAYLOADS.intersection(dict(table))) == 1, "no payload or several")
    require((SYMBOL_CHECKSUM, 4) in table, "no symbol checksum or not of 4 bytes")
    sections = {kind: reader.take(length) for kind, length in table}
    require(reader.position == len(data), "trailing bytes")
    size = sum(length for kind, length in table if kind in PAYLOADS)
    require(size % 4 == 0, "payload is not a sequence of 32-bit words")
    require(-(-height // 16) * -(-width // 16) <= 8192 * (size + 4), "image too large for payload")
    return {"width": width, "height": height, "mode": mode, "fingerprint": fingerprint}, sections


def alpha(data: bytes) -> np.ndarray | None:
    """Return the transparency (height, width), None if the image has no such channel."""
    header, sections = parse(data)
    height, width, body = header["height"], header["width"], sections.get(ALPHA)
    if not body:
        return None if body is None else np.full((height, width), 255, np.uint8)
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(body, height * width + 1)
    except zlib.error as error:
        raise ValueError(f"damaged alpha: {error}") from error
    require(len(rows) == height * width and stream.eof and not stream.unused_data, "damaged alpha")
    return np.cumsum(np.frombuffer(rows, np.uint8).reshape(height, width), axis=0, dtype=np.uint8)


def load_model(path: str) -> Model:
    """Read the normative tensors, by name without `normative.`, and `fingerprint` (32 bytes)."""
    data = np.fromfile(path, np.uint8).tobytes()
    start = 8 + struct.unpack_from("<Q", data)[0]
    model, digest = {}, hashlib.sha256()
    for full_name, entry in sorted(json.loads(data[8:start]).items()):
        if full_name.startswith("normative."):
            name, dtype = full_name.removeprefix("normative."), np.dtype(DTYPES[entry["dtype"]])
            values = data[slice(*(start + offset for offset in entry["data_offsets"]))]
            digest.update(f"{name} {dtype.name} {entry['shape']}\n".encode() + values)
            model[name] = np.frombuffer(values, dtype).reshape(entry["shape"]).astype(np.int64)
    return model | {"fingerprint": np.frombuffer(digest.digest(), np.uint8)}


class RangeDecoder:
    """Reads symbols from the 32-bit words of the payload; `offset` is point - lower."""

    def __init__(self, sections: dict[int, bytes]) -> None:
        (self.kind,) = PAYLOADS.intersection(sections)
        self.words = iter(np.frombuffer(sections[self.kind], "<u4").tolist())  # beyond them: 0
        self.range, self.offset = 2**64 - 1, next(self.words, 0) << 32 | next(self.words, 0)

    def decode(self, frequencies: np.ndarray) -> int:
        """Decode a symbol given the frequency of each."""
        sums = np.cumsum(np.append(0.0, frequencies))
        scale = (2.0**24 - len(frequencies)) / sums[-1]
        bounds = np.append(np.floor(sums[:-1] * scale) + np.arange(len(frequencies)), 2**24)
        step = self.range >> 24
        require(self.offset // step < 2**24, "damaged payload")
        symbol = int(np.searchsorted(bounds, self.offset // step, side="right")) - 1
        left, right = map(int, bounds[symbol : symbol + 2])
        self.offset, self.range = self.offset - step * left, step * (right - left)
        if self.range < 2**32:
            self.offset, self.range = self.offset << 32 | next(self.words, 0), self.range << 32
        return symbol


class Counts:
    """Counts of symbols, seen and expected: S and E and, by cells, s and e (`total`, `cells`)."""

    def __init__(self, kind: int, shape: tuple[int, ...], *, indices: bool) -> None:
        self.adapts, self.near = kind != PLAIN, NEAR if kind >= PLACES and indices else {}
        self.shift = 3 if kind >= PLACES and not indices else 8
        self.total, self.cells = np.zeros((2, *shape), np.int64), {}

    def gains(self, y: int = 0, x: int = 0) -> np.ndarray:
        """Return the gains of the symbols in a cell, in units of 2^-12."""
        near = (n * self.cells.get((y + i, x + j), 0) for (i, j), n in self.near.items())
        seen, expected = sum(near, np.zeros_like(self.total))  # 0 if no cell counts: G remains
        gains = np.clip(((self.total[0] + 2**17) << 12) // (self.total[1] + 2**17), 2**9, 2**16)
        return np.clip(((seen << 12) + (gains << 18)) // (expected + 2**18), 2**9, 2**16)

    def update(self, piece: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]) -> None:
        """Count a piece: of each of its cells the symbols, one row a position, and X."""
        self.total -= self.total >> self.shift
        for cell, (symbols, expected) in piece.items() if self.adapts else ():
            came = (symbols[..., None] == np.arange(expected.shape[-1])).sum(axis=0) << 16, expected
            self.total, self.cells[cell] = self.total + came, np.add(self.cells.get(cell, 0), came)


def pieces(sent: np.ndarray, size: int, side: int = 32) -> list[np.ndarray]:
    """Cut the sent positions, by cells with sides of 2^side, into pieces of that size."""
    positions = np.argwhere(sent)
    positions = positions[np.lexsort((positions >> side).T[::-1])]  # stable: else in raster order
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def decode_map(model: Model, decoder: RangeDecoder, rows: int, columns: int) -> np.ndarray:
    """Decode the level of each 8x8 cell, (2 rows, 2 columns)."""
    tables = model["map_tables"][decoder.decode(np.ones(len(model["map_tables"])))]
    grid = np.zeros((2 * rows + 1, 2 * columns + 1), np.uint8)  # border above and to the left
    for y in range(1, 2 * rows, 2):
        for x in range(1, 2 * columns, 2):
            if decoder.decode(tables[(grid[y, x - 1] > 0) + 2 * (grid[y - 1, x] > 0)]):
                for i, j in ((y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)):
                    grid[i, j] = 1 + decoder.decode(tables[4 + grid[i, j - 1] + 3 * grid[i - 1, j]])
    return grid[1:, 1:]


def sent_masks(levels: np.ndarray) -> tuple[Grids, Grids]:
    """Return where codes are sent and where z, boolean arrays on the grids of each level."""
    masks = [levels[::2, ::2] == 0, levels == 1, np.kron(levels == 2, np.ones((2, 2), bool))]
    padded = [np.pad(mask, [(0, -side % 4) for side in mask.shape]) for mask in masks]
    return masks, [x.reshape(len(x) // 4, 4, -1, 4).any(axis=(1, 3)) for x in padded]


def decode_latent(tables: np.ndarray, decoder: RangeDecoder, sent: np.ndarray) -> np.ndarray:
    """Decode the z of a level, (channels, height, width), given where it is sent."""
    counts = Counts(decoder.kind, tables.shape, indices=False)
    latent = np.zeros((len(tables), *sent.shape), np.int8)
    expected = (tables << 16) // tables.sum(axis=1, keepdims=True)
    for piece in pieces(sent, 8):
        frequencies = tables * counts.gains()
        symbols = np.array([[decoder.decode(row) for row in frequencies] for _ in piece])
        latent[:, *piece.T] = symbols.T - 15
        counts.update({(0, 0): (symbols, len(piece) * expected)})
    return latent


def windows(x: np.ndarray, size: int) -> np.ndarray:
    """Return the squares around all positions, (channels, size, size, height, width), 0 beyond."""
    padded = np.pad(x, [(0, 0)] + 2 * [2 * ((size - 1) // 2,)])
    return np.lib.stride_tricks.sliding_window_view(padded, x.shape[1:], axis=(1, 2))


def convolve(model: Model, name: str, x: np.ndarray) -> np.ndarray:
    """Convolve integers (channels, height, width) with zero padding by the layer of that name."""
    weight, bias = model[f"{name}.weight"], model[f"{name}.bias"]
    return np.einsum("ocij,cijyx->oyx", weight, windows(x, weight.shape[-1])) + bias[:, None, None]


def requantise(acc: np.ndarray, shift: int, low: int, high: int) -> np.ndarray:
    """Divide by 2^shift, rounding halves up, and clamp."""
    return np.clip((acc + (1 << (shift - 1))) >> shift, low, high)


def shuffle(x: np.ndarray) -> np.ndarray:
    """Turn (4 n, a, b) into (n, 2 a, 2 b)."""
    a, b = x.shape[1:]
    return x.reshape(-1, 2, 2, a, b).transpose(0, 3, 1, 4, 2).reshape(-1, 2 * a, 2 * b)


def hyper_synthesis(model: Model, level: int, latent: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute mu and t on the grid of a level, (2, D, height, width)."""
    name, (height, width) = f"hyper.{level}", mask.shape
    s1, s2, s3, s_mu, s_step, one = model[f"{name}.formats"].tolist()
    x = requantise(convolve(model, f"{name}.conv1", latent.astype(np.int64)), s1, 0, 32767)
    x = shuffle(requantise(convolve(model, f"{name}.conv2", x), s2, 0, 32767))
    padded = np.pad(one * mask, [(0, -side % 4) for side in mask.shape])
    channels = [padded[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = requantise(convolve(model, f"{name}.conv3", np.concatenate([x, channels])), s3, 0, 32767)
    mu, steps = np.split(shuffle(convolve(model, f"{name}.conv4", x))[:, :height, :width], 2)
    return np.stack([requantise(mu, s_mu, -8192, 8192), requantise(steps, s_step, 0, 63)])


def correct(model: Model, prior: np.ndarray, mask: np.ndarray, known: Grids) -> np.ndarray:
    """Correct mu and t of the last level in `known`, the indices so far (-1: unknown)."""
    (mu, steps), name = prior, f"context.{len(known) - 1}"
    index = np.max([np.kron(x, np.ones(2 * [len(mask) // len(x)], int)) for x in known], axis=0)
    flags = 4096 * np.array([(index >= 0) & ~mask, mask, (index >= 0) & mask])
    planes = np.concatenate([(index >= 0) * model["index_tables.entries"].T[:, index], flags])
    s1, s2, s_mu, s_step = model[f"{name}.formats"].tolist()
    size = round(((model[f"{name}.layer1.weight"].shape[1] - 2 * len(mu)) / len(planes)) ** 0.5)
    x = np.concatenate([windows(planes, size).reshape(-1, *mu.shape[1:]), mu, 512 * steps])
    x = requantise(convolve(model, f"{name}.layer1", x), s1, 0, 32767)
    x = requantise(convolve(model, f"{name}.layer2", x), s2, 0, 32767)
    mu_acc, steps_acc = np.split(convolve(model, f"{name}.layer3", x), 2)
    mu = np.clip(mu + requantise(mu_acc, s_mu, -16384, 16384), -8192, 8192)
    return np.stack([mu, np.clip(steps + requantise(steps_acc, s_step, -64, 64), 0, 63)])


def index_terms(model: Model, level: int, mu: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Compute T (positions, K), given mu and t, each (D, positions)."""
    e, w = model["index_tables.entries"].T, model["index_tables.inverse_variance"][steps].T
    g = (model["index_tables.log_prior"][level] + (2 * w * mu.T) @ e - w @ e**2) >> 25
    return model["index_tables.exponential"][np.minimum(g.max(axis=1)[:, None] - g, 4608)]


def decode_indices(model: Model, decoder: RangeDecoder, latents: Grids, masks: Grids) -> Grids:
    """Decode the indices of each level; return them in raster order of the sent positions."""
    has_context, static = "context.0.formats" in model, model["index_tables.static"]
    counts = Counts(decoder.kind, static.shape[1:], indices=True)
    cells = [(-(-np.array(masks[0].shape) >> p - 4)).prod() for p in range(6, 12)]
    p = 6 + sum(n * static.shape[1] > 2**22 for n in cells) if counts.near else 32  # 32: one cell
    known: Grids = []  # the indices of the levels so far, -1 where unknown
    for level, mask in enumerate(masks):
        prior = hyper_synthesis(model, level, latents[level], mask)
        known.append(np.full(mask.shape, -1))
        turns = TURNS[*np.indices(mask.shape) % 2] if has_context else np.zeros(mask.shape)
        side = p - 4 + level  # a position has 2^(4 - level) pixels a side
        for turn in range(4):
            corrected = correct(model, prior, mask, known) if has_context else prior
            for group in pieces(mask & (turns == turn), 512, side):
                bits = sum(int((i >= 0).sum()) for i in known).bit_length()  # of N
                size = 2 ** min(max(bits - 5, 3), 6) if decoder.kind == PAYLOAD else 32
                for piece in np.split(group, range(size, len(group), size)):
                    came = {}
                    for cell in map(tuple, np.unique(piece >> side, axis=0).tolist()):
                        here = piece[(piece >> side == cell).all(axis=1)].T
                        terms = index_terms(model, level, *corrected[:, :, *here])
                        adapted = (terms * counts.gains(*cell)) >> 12
                        frequencies = adapted + np.outer(adapted.sum(axis=1) >> 24, static[level])
                        known[level][*here] = [decoder.decode(row) for row in frequencies]
                        came[cell] = known[level][*here], (2**47 // terms.sum(axis=1)) @ terms >> 31
                    counts.update(came)
    return [indices[mask].astype(np.int32) for indices, mask in zip(known, masks, strict=True)]


def symbol_bytes(symbols: dict) -> bytes:
    """Return the bytes that the symbol checksum covers."""
    latents = zip(symbols["latents"], sent_masks(symbols["levels"])[1], strict=True)
    parts = [symbols["levels"], *(latent[:, sent].T for latent, sent in latents)]
    parts += [indices.astype("<u2") for indices in symbols["indices"]]
    return b"".join(part.tobytes() for part in parts)


def decode_symbols(model: Model, data: bytes) -> dict:
    """Decode a file to `levels`, `latents` and `indices` and verify the symbol checksum."""
    header, sections = parse(data)
    require(header["fingerprint"] == model["fingerprint"].tobytes()[:8], "made by another model")
    decoder = RangeDecoder(sections)
    levels = decode_map(model, decoder, -(-header["height"] // 16), -(-header["width"] // 16))
    masks, sent = sent_masks(levels)
    latents = [decode_latent(model["latent_tables"][i], decoder, sent[i]) for i in range(3)]
    indices = decode_indices(model, decoder, latents, masks)
    require(not list(decoder.words) and decoder.offset < 2**33 - 1, "damaged payload: its end")
    symbols = {"levels": levels, "latents": latents, "indices": indices}
    checksum = struct.pack("<I", zlib.crc32(symbol_bytes(symbols)))
    require(checksum == sections[SYMBOL_CHECKSUM], "wrong symbol checksum")
    return symbols


if __name__ == "__main__":  # usage: python reference_decoder.py MODEL FILE.hvq
    symbols = decode_symbols(load_model(sys.argv[1]), np.fromfile(sys.argv[2], np.uint8).tobytes())
    print(hashlib.sha256(symbol_bytes(symbols)).hexdigest())
