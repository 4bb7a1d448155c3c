"""NORMATIVE: the numbers that the networks and the integer path share."""

FRACTION_BITS = 12
ONE = 1 << FRACTION_BITS
"""Codebook entries, mu, and what a context sees are in units of 2^-12."""

LATENT_MAX = 15
"""z lies in -15 ... 15, coded as 0 ... 30."""

LATENT_STRIDE = 4
"""Blocks of a level along the side of one position of z."""

MU_MAX = 2
"""mu lies in -2 ... 2."""

SIGMA_STEPS = 64
"""sigma takes one of 64 values; a model lists them as 1 / sigma^2."""
