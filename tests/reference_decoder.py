"""Reference decoder of the symbols of `.hvq` files, written from format.md alone."""

import hashlib
import json
import struct
import sys
import zlib

import numpy as np

SIGNATURE = b"\x8bHVQ\r\n\x1a\n"
PAYLOAD, SYMBOL_CHECKSUM, ALPHA = 1, 2, 3
DTYPES = {"I16": "int16", "I32": "int32", "I64": "int64"}
MASK64 = 2**64 - 1
CHUNK = 512  # positions whose index frequencies are computed at once

Model = dict[str, np.ndarray]


def require(condition: bool, message: str) -> None:
    """Refuse the file unless the condition holds."""
    if not condition:
        raise ValueError(message)


class ByteReader:
    """Reads bytes, never beyond their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        require(self.position + count <= len(self.data), "truncated file")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        """Return the next LEB128 number, at most five bytes, shortest form only."""
        value = 0
        for i in range(5):
            byte = self.take(1)[0]
            value |= (byte & 127) << (7 * i)
            if byte < 128:
                require(byte > 0 or i == 0, "varint not in its shortest form")
                return value
        raise ValueError("varint longer than five bytes")


def parse(data: bytes) -> tuple[dict, dict[int, bytes]]:
    """Split a file into its header and the bodies of its sections, by kind."""
    reader = ByteReader(data)
    require(reader.take(8) == SIGNATURE, "not an .hvq file: another signature")
    require(reader.take(1)[0] == 1, "unknown version")
    fingerprint = reader.take(8)
    width, height, mode, count = (reader.varint() for _ in range(4))
    require(count <= 64, "too many sections")
    table = [(reader.take(1)[0], reader.varint()) for _ in range(count)]
    checked = zlib.crc32(data[: reader.position])
    require(struct.unpack("<I", reader.take(4))[0] == checked, "wrong header checksum")
    require(1 <= width <= 2**24 and 1 <= height <= 2**24, "size out of bounds")
    require(mode in (0, 1), "unknown mode")
    check_kinds([kind for kind, _ in table])
    sections = {kind: reader.take(length) for kind, length in table}
    require(reader.position == len(data), "trailing bytes")
    require(len(sections[PAYLOAD]) % 4 == 0, "payload is not a sequence of 32-bit words")
    require(len(sections[SYMBOL_CHECKSUM]) == 4, "symbol checksum is not of 4 bytes")
    blocks = -(-height // 16) * -(-width // 16)
    require(blocks <= 8192 * (len(sections[PAYLOAD]) + 4), "image too large for payload")
    return {"width": width, "height": height, "mode": mode, "fingerprint": fingerprint}, sections


def check_kinds(kinds: list[int]) -> None:
    """Refuse a table of sections that is out of order, incomplete or not understood."""
    require(kinds == sorted(set(kinds)), "sections out of order")
    require(all(k in (PAYLOAD, SYMBOL_CHECKSUM, ALPHA) or k >= 128 for k in kinds), "unknown kind")
    require(PAYLOAD in kinds and SYMBOL_CHECKSUM in kinds, "missing required section")


def alpha(data: bytes) -> np.ndarray | None:
    """Return the transparency (height, width), None if the image is opaque."""
    header, sections = parse(data)
    if ALPHA not in sections:
        return None
    size, inflater = header["width"] * header["height"], zlib.decompressobj()
    try:
        rows = inflater.decompress(sections[ALPHA], size + 1)
    except zlib.error as error:
        raise ValueError(f"damaged alpha: {error}") from error
    require(len(rows) == size and inflater.eof, "alpha has another size than the image")
    require(not inflater.unused_data, "bytes after the zlib stream of alpha")
    differences = np.frombuffer(rows, np.uint8).reshape(header["height"], -1)
    return np.cumsum(differences, axis=0, dtype=np.uint8)


def load_model(path: str) -> Model:
    """Read the normative tensors, by name without `normative.`, and `fingerprint` (32 bytes)."""
    with open(path, "rb") as file:
        data = file.read()
    start = 8 + struct.unpack_from("<Q", data)[0]
    model, digest = {}, hashlib.sha256()
    for full_name, entry in sorted(json.loads(data[8:start]).items()):
        if not full_name.startswith("normative."):
            continue
        name, dtype = full_name.removeprefix("normative."), DTYPES[entry["dtype"]]
        first, last = entry["data_offsets"]
        values = data[start + first : start + last]
        shape = ", ".join(map(str, entry["shape"]))
        digest.update(f"{name} {dtype} [{shape}]\n".encode() + values)
        little = np.dtype(dtype).newbyteorder("<")
        model[name] = np.frombuffer(values, little).reshape(entry["shape"]).astype(dtype)
    model["fingerprint"] = np.frombuffer(digest.digest(), np.uint8)
    return model


def intervals(frequencies: np.ndarray) -> np.ndarray:
    """Turn frequencies (..., K) into interval bounds (..., K + 1), integers up to 2^24."""
    count = frequencies.shape[-1]
    sums = np.cumsum(frequencies.astype(np.float64), axis=-1)
    scale = (2.0**24 - count) / sums[..., -1:]
    bounds = np.zeros((*frequencies.shape[:-1], count + 1), np.int64)
    bounds[..., 1:] = np.floor(sums * scale).astype(np.int64) + np.arange(1, count + 1)
    bounds[..., -1] = 2**24
    return bounds


class RangeDecoder:
    """Reads symbols from the 32-bit words of a payload."""

    def __init__(self, payload: bytes) -> None:
        self.words = np.frombuffer(payload, "<u4").tolist()
        self.used = 0
        self.lower, self.range = 0, MASK64
        self.point = self.next_word() << 32 | self.next_word()

    def next_word(self) -> int:
        """Return the next word; a single one may lie beyond the end, and is 0."""
        self.used += 1
        require(self.used <= len(self.words) + 1, "damaged payload: too short")
        return self.words[self.used - 1] if self.used <= len(self.words) else 0

    def decode(self, bounds: np.ndarray) -> int:
        """Decode a symbol given the bounds of the intervals."""
        step = self.range >> 24
        quantile = ((self.point - self.lower) & MASK64) // step
        require(quantile < 2**24, "damaged payload")
        symbol = int(np.searchsorted(bounds, quantile, side="right")) - 1
        left, right = int(bounds[symbol]), int(bounds[symbol + 1])
        self.lower = (self.lower + step * left) & MASK64
        self.range = step * (right - left)
        if self.range < 2**32:
            self.lower = (self.lower << 32) & MASK64
            self.range <<= 32
            self.point = ((self.point << 32) & MASK64) | self.next_word()
        return symbol


def decode_map(model: Model, decoder: RangeDecoder, rows: int, columns: int) -> np.ndarray:
    """Decode the level of each 8x8 cell, (2 rows, 2 columns)."""
    sets = model["map_tables"].shape[0]
    chosen = decoder.decode(intervals(np.ones(sets))) if sets > 1 else 0
    tables = intervals(model["map_tables"][chosen])
    levels = np.zeros((2 * rows + 1, 2 * columns + 1), np.uint8)  # border above and to the left
    for y in range(1, 2 * rows, 2):
        for x in range(1, 2 * columns, 2):
            context = int(levels[y, x - 1] > 0) + 2 * int(levels[y - 1, x] > 0)
            if decoder.decode(tables[context]):
                for i, j in ((y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)):
                    context = 4 + int(levels[i, j - 1]) + 3 * int(levels[i - 1, j])
                    levels[i, j] = 1 + decoder.decode(tables[context])
    return levels[1:, 1:]


def sent_masks(levels: np.ndarray) -> list[np.ndarray]:
    """Return where codes are sent: a boolean array on the grid of each level."""
    fine = (levels == 2).repeat(2, axis=0).repeat(2, axis=1)
    return [levels[::2, ::2] == 0, levels == 1, fine]


def sent_latents(mask: np.ndarray) -> np.ndarray:
    """Return where z is sent, given where the level's codes are."""
    padded = np.pad(mask, [(0, -side % 4) for side in mask.shape])
    height, width = padded.shape
    return padded.reshape(height // 4, 4, width // 4, 4).any(axis=(1, 3))


def decode_latent(tables: np.ndarray, decoder: RangeDecoder, mask: np.ndarray) -> np.ndarray:
    """Decode the z of a level, (channels, height, width)."""
    sent, bounds = sent_latents(mask), intervals(tables)
    latent = np.zeros((len(tables), *sent.shape), np.int8)
    for y, x in np.argwhere(sent):
        for channel, channel_bounds in enumerate(bounds):
            latent[channel, y, x] = decoder.decode(channel_bounds) - 15
    return latent


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolve integers (channels, height, width) with zero padding."""
    size = weight.shape[-1]
    padded = np.pad(x, [(0, 0)] + 2 * [2 * ((size - 1) // 2,)])
    out = np.tile(bias[:, None, None], (1, *x.shape[1:]))
    for i in range(size):
        for j in range(size):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += np.einsum("oc,cyx->oyx", weight[:, :, i, j].astype(np.int64), window)
    return out


def requantise(acc: np.ndarray, shift: int, low: int, high: int) -> np.ndarray:
    """Divide by 2^shift, rounding halves up, and clamp."""
    return np.clip((acc + (1 << (shift - 1))) >> shift, low, high)


def shuffle(x: np.ndarray) -> np.ndarray:
    """Turn (4 n, a, b) into (n, 2 a, 2 b)."""
    channels, height, width = x.shape
    parts = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return parts.reshape(channels // 4, 2 * height, 2 * width)


def hyper_synthesis(model: Model, level: int, latent: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute mu and t at the sent positions of a level, (2, n, D)."""
    s1, s2, s3, s_mu, s_step, one = model[f"hyper.{level}.formats"].tolist()

    def layer(x: np.ndarray, number: int) -> np.ndarray:
        prefix = f"hyper.{level}.conv{number}"
        return convolve(x, model[f"{prefix}.weight"], model[f"{prefix}.bias"])

    x = requantise(layer(latent.astype(np.int64), 1), s1, 0, 32767)
    x = shuffle(requantise(layer(x, 2), s2, 0, 32767))
    padded = np.pad(one * mask, [(0, -side % 4) for side in mask.shape])
    channels = [padded[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = requantise(layer(np.concatenate([x, channels]), 3), s3, 0, 32767)
    acc = shuffle(layer(x, 4))[:, : mask.shape[0], : mask.shape[1]][:, mask].T
    half = model["index_tables.entries"].shape[1]
    mu = requantise(acc[:, :half], s_mu, -8192, 8192)
    return np.stack([mu, requantise(acc[:, -half:], s_step, 0, 63)])


def index_frequencies(model: Model, level: int, mu: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Compute the frequencies (n, K) at n positions, given mu and t, each (n, D)."""
    names = ("entries", "inverse_variance", "log_prior", "exponential", "static")
    tables = (model[f"index_tables.{name}"].astype(np.int64) for name in names)
    entries, inverse_variance, log_prior, exponential, static = tables
    w = inverse_variance[steps]
    scaled = (log_prior[level] + (2 * w * mu) @ entries.T - w @ entries.T**2) >> 25
    terms = exponential[np.minimum(scaled.max(axis=1, keepdims=True) - scaled, 4608)]
    return terms + static[level] * (terms.sum(axis=1, keepdims=True) >> 24)


def decode_indices(
    model: Model, decoder: RangeDecoder, level: int, latent: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Decode the indices of a level, in raster order of the sent positions."""
    mu, steps = hyper_synthesis(model, level, latent, mask)
    indices: list[int] = []
    for i in range(0, len(mu), CHUNK):
        frequencies = index_frequencies(model, level, mu[i : i + CHUNK], steps[i : i + CHUNK])
        indices += [decoder.decode(bounds) for bounds in intervals(frequencies)]
    return np.array(indices, np.int32)


def symbol_bytes(symbols: dict) -> bytes:
    """Return the bytes that the symbol checksum covers."""
    parts = [symbols["levels"].tobytes()]
    for latent, mask in zip(symbols["latents"], sent_masks(symbols["levels"]), strict=True):
        parts.append(latent[:, sent_latents(mask)].T.tobytes())
    parts += [indices.astype("<u2").tobytes() for indices in symbols["indices"]]
    return b"".join(parts)


def decode_symbols(model: Model, data: bytes) -> dict:
    """Decode a file to `levels`, `latents` and `indices` and verify the symbol checksum."""
    header, sections = parse(data)
    require(header["fingerprint"] == model["fingerprint"].tobytes()[:8], "made by another model")
    decoder = RangeDecoder(sections[PAYLOAD])
    levels = decode_map(model, decoder, -(-header["height"] // 16), -(-header["width"] // 16))
    masks, tables = sent_masks(levels), model["latent_tables"]
    latents = [decode_latent(tables[i], decoder, masks[i]) for i in range(3)]
    indices = [decode_indices(model, decoder, i, latents[i], masks[i]) for i in range(3)]
    require(decoder.used >= len(decoder.words), "damaged payload: too long")
    symbols = {"levels": levels, "latents": latents, "indices": indices}
    checksum = struct.pack("<I", zlib.crc32(symbol_bytes(symbols)))
    require(checksum == sections[SYMBOL_CHECKSUM], "wrong symbol checksum")
    return symbols


def main(arguments: list[str]) -> None:
    """Print the SHA-256 of a file's symbols."""
    if len(arguments) != 2:
        raise SystemExit("usage: python reference_decoder.py MODEL FILE.hvq")
    with open(arguments[1], "rb") as file:
        symbols = decode_symbols(load_model(arguments[0]), file.read())
    print(hashlib.sha256(symbol_bytes(symbols)).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1:])
