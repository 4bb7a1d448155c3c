"""NORMATIVE: tables that learn from a file's own symbols as they come.

What a model expects of all photos is seldom just what one photo has. So each symbol's
probability is multiplied by how often the symbol has come so far over how often it was
expected: by the mean of a rate that is Gamma distributed beforehand, with mean 1 and shape
`PRIOR`, and has been seen to make Poisson counts. All values are integers in float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvqcodec.entropy.range_coding import Floats

COUNT_ONE = 1 << 16
"""Counts are in units of 2^-16."""
PRIOR = 2 * COUNT_ONE
DECAY = 1 << 8
"""Of what has been counted, 2^-8 is forgotten at each piece: old symbols are far away."""
GAIN_ONE = 1 << 12
"""Gains are in units of 2^-12."""
GAIN_MIN, GAIN_MAX = 1 << 9, 1 << 16
"""1/8 and 16. What the static share of `tables` loses by rounding is at most a ninth above the
first, so that an index still costs 1 / 1024 bit; sums are exact below the second."""
PIECE = 32
"""Codes under the same counts."""
LATENT_PIECE = 8
"""Positions of z, likewise."""


class Adaptation:
    """How often each symbol has come, and how often it was expected."""

    def __init__(self, *shape: int) -> None:
        """shape: of the tables; along the last axis stand the symbols."""
        self.seen = np.zeros(shape)
        self.expected = np.zeros(shape)

    def gains(self) -> Floats:
        """What to multiply probabilities by, in units of 2^-12."""
        gains: Floats = np.floor((self.seen + PRIOR) * GAIN_ONE / (self.expected + PRIOR))
        return gains.clip(GAIN_MIN, GAIN_MAX)

    def learn(self, seen: NDArray[np.integer[Any]], expected: Floats) -> None:
        """seen: how often each symbol came in a piece. expected: in units of 2^-16."""
        self.seen += seen * COUNT_ONE - np.floor(self.seen / DECAY)
        self.expected += expected - np.floor(self.expected / DECAY)
