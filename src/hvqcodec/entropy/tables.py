"""NORMATIVE: from (mu, sigma) to integer frequencies of the K indices.

HVQ-CGIC (arXiv 2512.07192), made exact: see docs/format.md, 'Index tables'. All
values are integers in float64, each below 2^53; the tables come from the model file,
none is computed here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvqcodec.arrays import Floats
from hvqcodec.entropy.adaptation import PIECE, PIECE_MAX, row_sums
from hvqcodec.entropy.fixed_point import MU_LIMIT

LOGIT_SHIFT = 25
"""Logits are summed in units of 2^-33 and used in units of 2^-8."""
EXP_LAST = 4608
"""18 nats below the best index all frequencies are the same."""
STATIC_BITS = 16
"""A static table sums to 2^16."""
STATIC_SHARE = 8
"""2^-8 of the probability comes from the static table."""
STATIC_MAX = 52428
"""No static frequency is above 0.8 of the sum. With the static share mixed in, an index
then costs at least 1 / 1024 bit, whatever the Gaussian says, so that the length of a
payload bounds the number of blocks."""
ROWS = 512
"""Codes at a time: bounds the memory, and fits the processor's cache. Pieces of the adaptation
begin anew with each, so these must fill it."""
assert ROWS % PIECE == ROWS % PIECE_MAX == 0


@dataclass(frozen=True)
class IndexTables:
    """The integer tables of a model that lead from Gaussians to frequencies."""

    entries: Tensor
    """(K, D) int16, the codebook in units of 2^-12."""
    inverse_variance: Tensor
    """(64,) int32, 1 / sigma^2 of each step, in units of 2^-8."""
    log_prior: Tensor
    """(3, K) int64, in units of 2^-33."""
    exponential: Tensor
    """(4609,) int32, round(2^30 exp(-i / 256))."""
    static: Tensor
    """(3, K) int32, static frequencies; each level's sum is 2^16."""

    def __post_init__(self) -> None:
        e = self.entries.double()
        prepared = {
            # Powers of two change no digit: logits come out in units of 2^-8.
            "_right": torch.cat([e, e.square()], 1).t() * 2.0**-LOGIT_SHIFT,
            "_inverse_variance": self.inverse_variance.double(),
            "_log_prior": self.log_prior.double() * 2.0**-LOGIT_SHIFT,
            "_exponential": self.exponential.double(),
            "_static": self.static.double(),
        }
        for name, value in prepared.items():
            object.__setattr__(self, name, value)

    def likelihoods(self, level: int, mu: Tensor, step: Tensor) -> Floats:
        """How probable each index is to the Gaussians, in proportion: 2^30 the likeliest.

        mu: (N, D) in units of 2^-12, step: (N, D); float64 integers.
        Returns (N, K) float64 integers, N at most `ROWS` for the sake of memory.
        """
        w = self._inverse_variance[step.long()]  # type: ignore[attr-defined]
        left = torch.cat([2 * w * mu, -w], 1)
        logits = torch.addmm(self._log_prior[level], left, self._right)  # type: ignore[attr-defined]
        logits.floor_()
        best = logits.amax(1, keepdim=True)
        distance = torch.sub(best, logits, out=logits).int().clamp_(max=EXP_LAST)
        found: Floats = (
            self._exponential.index_select(0, distance.view(-1))  # type: ignore[attr-defined]
            .view_as(logits)
            .numpy()
        )
        return found

    def frequencies(self, level: int, likelihoods: Floats) -> Floats:
        """(N, K) -> (N, K), float64 integers: with the static share, written over what is given,
        since to allocate as much for each piece takes longer than to compute it."""
        share = np.floor(row_sums(likelihoods) / (1 << STATIC_BITS + STATIC_SHARE))
        found, shares = torch.from_numpy(likelihoods), torch.from_numpy(share)[:, None]
        found.addcmul_(shares, self._static[level])  # type: ignore[attr-defined]
        return likelihoods

    def check_exact(self) -> None:
        """Raise if a logit could leave the integers that float64 holds, or a table is odd."""
        w = int(self.inverse_variance.max())
        e = self.entries.long().abs().max().item()
        d = self.entries.shape[1]
        largest = d * (2 * w * MU_LIMIT * e + w * e * e) + max(
            int(self.log_prior.max()), -int(self.log_prior.min())
        )
        if largest >= 2**52:
            raise ValueError("a logit could exceed 2^53")
        if int(self.inverse_variance.min()) < 1 or int(self.static.min()) < 0:
            raise ValueError("a table holds a value out of range")
        if (self.static.long().sum(1) != 1 << STATIC_BITS).any():
            raise ValueError("a static table does not sum to 2^16")
        if int(self.static.max()) > STATIC_MAX:
            raise ValueError("a static table all but names its index")
        if int(self.exponential[0]) != 1 << 30 or int(self.exponential.min()) < 0:
            raise ValueError("the table of the exponential is damaged")
