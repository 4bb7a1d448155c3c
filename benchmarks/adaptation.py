"""What tables that adapt to a photo save, and what they take.

    python -m benchmarks.adaptation photos --rates 0.1,0.2,0.3

The same symbols are coded with and without adaptation, one after the other: bytes of all
payloads, and milliseconds to decode one.
"""

import time
from collections.abc import Sequence

from benchmarks import decoded
from hvqcodec import Codec
from hvqcodec.bitstream import Bitstream
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.symbol_coding import decode_stream, decode_symbols, encode_symbols
from training.data import load_photos


def main(given: Sequence[str] | None = None) -> None:
    options = decoded.options_parser(__doc__, rates="0.1,0.2,0.3").parse_args(given)
    photos = load_photos(options.photos, options.limit_photos)
    print("| model | bpp | plain bytes | adapted | saved | plain ms | adapted |")
    print("|---" * 7 + "|")
    for name in options.models:
        codec = Codec.load(name)
        for rate in map(float, options.rates.split(",")):
            files = decoded.files(codec, photos, rate)
            sizes, seconds = totals(codec.model.normative, files)
            saved = 1 - sizes[1] / sizes[0]
            plain, adapted = (1000 * s / len(files) for s in seconds)
            cells = f"{sizes[0]} | {sizes[1]} | {saved:.2%} | {plain:.1f} | {adapted:.1f}"
            print(f"| {name} | {rate:g} | {cells} |", flush=True)


def totals(normative: Normative, files: Sequence[bytes]) -> tuple[list[int], list[float]]:
    """Bytes of the payloads, and seconds to decode them, without adaptation and with it."""
    sizes, seconds = [0, 0], [0.0, 0.0]
    for stream in map(Bitstream.from_bytes, files):
        symbols = decode_stream(normative, stream)
        rows, columns = (side // 2 for side in symbols.levels.shape)
        for adaptive in (False, True):
            payload = encode_symbols(normative, symbols, adaptive)
            sizes[adaptive] += len(payload)
            begin = time.perf_counter()
            decode_symbols(normative, payload, rows, columns, adaptive)
            seconds[adaptive] += time.perf_counter() - begin
    return sizes, seconds


if __name__ == "__main__":
    main()
