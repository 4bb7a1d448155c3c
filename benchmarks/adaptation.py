"""What tables that adapt to a photo save, and what they take.

    python -m benchmarks.adaptation photos --rates 0.1,0.2,0.3

The same symbols are coded without adaptation, with tables that learn from all the file alike
(hvqcodec 0.7 to 0.9), with tables that learn from places (0.10 to 0.12), and with those whose
pieces grow, one after the other: bytes of all payloads, what that saves, and milliseconds to decode
one.
"""

import time
from collections.abc import Sequence

from benchmarks import decoded
from benchmarks.photos import load_photos
from hvqcodec import Codec
from hvqcodec.bitstream import Bitstream, Scope
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.symbol_coding import decode_stream, decode_symbols, encode_symbols


def main(given: Sequence[str] | None = None) -> None:
    options = decoded.options_parser(__doc__, rates="0.1,0.2,0.3").parse_args(given)
    photos = load_photos(options.photos, options.limit_photos)
    print("| model | bpp | scope | bytes | saved | ms |")
    print("|---" * 6 + "|")
    for name in options.models:
        codec = Codec.load(name)
        for rate in map(float, options.rates.split(",")):
            files = decoded.files(codec, photos, rate, options.effort)
            sizes, seconds = totals(codec.model.normative, files)
            for scope in Scope:
                saved = 1 - sizes[scope] / sizes[Scope.NONE]
                cells = f"{sizes[scope]} | {saved:.2%} | {1000 * seconds[scope] / len(files):.1f}"
                print(f"| {name} | {rate:g} | {scope.name.lower()} | {cells} |", flush=True)


def totals(normative: Normative, files: Sequence[bytes]) -> tuple[list[int], list[float]]:
    """Bytes of the payloads, and seconds to decode them, by scope."""
    sizes, seconds = [0] * len(Scope), [0.0] * len(Scope)
    for stream in map(Bitstream.from_bytes, files):
        symbols = decode_stream(normative, stream)
        rows, columns = (side // 2 for side in symbols.levels.shape)
        for scope in Scope:
            payload = encode_symbols(normative, symbols, scope)
            sizes[scope] += len(payload)
            begin = time.perf_counter()
            decode_symbols(normative, payload, rows, columns, scope)
            seconds[scope] += time.perf_counter() - begin
    return sizes, seconds


if __name__ == "__main__":
    main()
