"""NORMATIVE: symbols to 32-bit words and back, with constriction's range coder.

Frequencies always go in as float64 (float32 would silently give another stream) and
through `Categorical(perfect=False)`, whose fixed-point rule docs/format.md states.
"""

from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from hvqcodec.arrays import Floats, Ints
from hvqcodec.errors import BitstreamError

_FAMILY = constriction.stream.model.Categorical(perfect=False)


def fixed_model(frequencies: Floats) -> constriction.stream.model.Categorical:
    """A model to decode symbol by symbol with; frequencies: (K,) integers in float64."""
    return constriction.stream.model.Categorical(
        np.ascontiguousarray(frequencies, np.float64), perfect=False
    )


class Encoder:
    """Takes symbols in order, gives the payload."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: Ints, frequencies: Floats) -> None:
        """symbols: (N,); frequencies: (N, K), integers in float64."""
        if len(symbols):
            self._coder.encode(symbols, _FAMILY, frequencies.astype(np.float64, copy=False))

    def encode_alike(self, symbols: Ints, frequencies: Floats) -> None:
        """symbols: (N,), all under frequencies (K,)."""
        if len(symbols):
            self._coder.encode(symbols, fixed_model(frequencies))

    def payload(self) -> bytes:
        """Little-endian 32-bit words."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class Decoder:
    """Gives symbols in the order in which they went in.

    The coder itself decodes garbage without a word: `finish`, and a checksum over the
    symbols, tell whether what came out is what went in.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            raise BitstreamError("the payload is damaged: not a whole number of words")
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, frequencies: Floats) -> Ints:
        """frequencies: (N, K), integers in float64. Returns (N,)."""
        if not len(frequencies):
            return np.zeros(0, np.int32)
        symbols: Ints = self._decode(_FAMILY, frequencies.astype(np.float64, copy=False))
        return symbols

    def decode_one(self, model: constriction.stream.model.Categorical) -> int:
        return int(self._decode(model))

    def decode_alike(self, frequencies: Floats, count: int) -> Ints:
        """(count,), all under frequencies (K,)."""
        symbols: Ints = self._decode(fixed_model(frequencies), count)
        return symbols

    def _decode(self, *what: Any) -> Any:
        try:
            return self._coder.decode(*what)
        except (AssertionError, ValueError) as error:
            raise BitstreamError("the payload is damaged: no symbol fits") from error

    def finish(self) -> None:
        if not self._coder.maybe_exhausted():
            raise BitstreamError("the payload is damaged: words are left over")
