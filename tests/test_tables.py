import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hvqcodec import Codec
from hvqcodec.arrays import Floats
from hvqcodec.entropy.fixed_point import MU_LIMIT
from hvqcodec.entropy.map_coding import CONTEXTS, MAP_TABLE_SUM
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.tables import EXP_LAST, ROWS, STATIC_BITS, IndexTables
from tests import reference_decoder as reference
from tests.helpers import Pixels, symbols_of, threads

FINE = 2


@pytest.fixture(scope="module")
def tables(codec: Codec) -> IndexTables:
    return codec.model.normative.index_tables


@pytest.fixture(scope="module")
def gaussians(codec: Codec, astronaut: Pixels) -> tuple[Tensor, Tensor]:
    """mu and step (N, D) of the fine codes of a real photo, more than two batches."""
    data = codec.compress(astronaut[:160, 160:352], ratios=(0.8, 0.1, 0.1))
    symbols = symbols_of(codec.model, data)
    mask = torch.from_numpy(symbols.masks()[FINE])
    z = torch.from_numpy(symbols.latents[FINE])
    mu, step = codec.model.normative.hyper_syntheses[FINE](z, mask)
    assert mask.sum() > 2 * ROWS
    return mu[:, mask].t(), step[:, mask].t()


def all_but_one(static: Tensor) -> Tensor:
    """The same sum, nearly all of it on one index."""
    return torch.ones_like(static).index_fill_(1, torch.tensor([7]), 2**16 - static.shape[1] + 1)


def frequencies(tables: IndexTables, level: int, mu: Tensor, step: Tensor) -> Floats:
    return tables.frequencies(level, tables.likelihoods(level, mu, step))


def in_pieces(tables: IndexTables, gaussians: tuple[Tensor, Tensor], sizes: list[int]) -> Floats:
    pieces = zip(*(torch.split(t, sizes) for t in gaussians), strict=True)
    return np.concatenate([frequencies(tables, FINE, mu, step) for mu, step in pieces])


def slow(codec: Codec, level: int, mu: Tensor, step: Tensor) -> list[list[int]]:
    tensors = {k: v.long().numpy() for k, v in codec.model.normative.to_tensors().items()}
    terms = reference.index_terms(tensors, level, mu.long().numpy().T, step.long().numpy().T)
    shares = np.outer(terms.sum(1) >> 24, tensors["index_tables.static"][level])
    found: list[list[int]] = (terms + shares).tolist()
    return found


def test_any_batching_gives_the_same_tables(
    tables: IndexTables, gaussians: tuple[Tensor, Tensor]
) -> None:
    count = len(gaussians[0])
    whole = frequencies(tables, FINE, *gaussians)
    assert whole.dtype == np.float64
    np.testing.assert_array_equal(whole, in_pieces(tables, gaussians, [1] * count))
    sizes = [ROWS, ROWS, count - 2 * ROWS]
    np.testing.assert_array_equal(whole, in_pieces(tables, gaussians, sizes))
    rng = np.random.default_rng(0)
    for _ in range(5):
        cuts = np.sort(rng.choice(np.arange(1, count), 9, replace=False))
        sizes = np.diff([0, *cuts, count]).tolist()
        np.testing.assert_array_equal(whole, in_pieces(tables, gaussians, sizes))


def test_the_number_of_threads_does_not_matter(
    tables: IndexTables, gaussians: tuple[Tensor, Tensor]
) -> None:
    with threads(1):
        one = frequencies(tables, FINE, *gaussians)
    with threads(2):
        two = frequencies(tables, FINE, *gaussians)
    np.testing.assert_array_equal(one, two)


def test_equals_the_formula_in_plain_integers_on_a_photo(
    codec: Codec, tables: IndexTables, gaussians: tuple[Tensor, Tensor]
) -> None:
    mu, step = (t[::40] for t in gaussians)
    assert frequencies(tables, FINE, mu, step).tolist() == slow(codec, FINE, mu, step)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_equals_the_formula_in_plain_integers_at_random(
    codec: Codec, tables: IndexTables, level: int
) -> None:
    """Narrow Gaussians at the ends of their range among them."""
    rng = np.random.default_rng(level)
    d = tables.entries.shape[1]
    mu = torch.from_numpy(rng.integers(-MU_LIMIT, MU_LIMIT + 1, (40, d))).double()
    step = torch.from_numpy(rng.integers(0, 64, (40, d))).double()
    mu[:2], step[:2] = MU_LIMIT, 0
    assert frequencies(tables, level, mu, step).tolist() == slow(codec, level, mu, step)


def test_frequencies_sum_as_promised(tables: IndexTables, gaussians: tuple[Tensor, Tensor]) -> None:
    """S + 2^16 floor(S / 2^24), where S is the sum of the likelihoods."""
    likelihoods = tables.likelihoods(FINE, *gaussians)
    assert (likelihoods.max(1) == 2.0**30).all()
    assert likelihoods.min() >= tables.exponential[EXP_LAST]
    sums = likelihoods.sum(1)
    found = tables.frequencies(FINE, likelihoods).sum(1)
    np.testing.assert_array_equal(found, sums + 2.0**16 * np.floor(sums * 2.0**-24))


def test_sums_of_the_stored_tables(codec: Codec) -> None:
    normative = codec.model.normative
    assert normative.index_tables.static.shape == (3, 64)
    assert (normative.index_tables.static.sum(1) == 1 << STATIC_BITS).all()
    assert normative.map_tables.shape[1:] == (CONTEXTS, 2)
    assert (normative.map_tables.sum(2) == MAP_TABLE_SUM).all()
    assert normative.latent_tables.shape == (3, 2, 31)
    assert (normative.latent_tables.sum(2) == 1 << 16).all()


def test_the_exponential_falls_from_2_to_the_30(tables: IndexTables) -> None:
    exact = [2**30 * math.exp(-i / 256) for i in range(EXP_LAST + 1)]
    assert np.abs(tables.exponential.numpy() - np.array(exact)).max() <= 1


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("index_tables.inverse_variance", lambda t: t * 2**20, "logit could exceed"),
        ("index_tables.log_prior", lambda t: t - 2**52, "logit could exceed"),
        ("index_tables.inverse_variance", lambda t: t * 0, "out of range"),
        ("index_tables.static", lambda t: t + 1, "does not sum"),
        ("index_tables.static", lambda t: t - t.amax(1, keepdim=True), "out of range"),
        ("index_tables.log_prior", lambda t: torch.full_like(t, -(2**63)), "logit could exceed"),
        ("index_tables.static", all_but_one, "all but names its index"),
        ("index_tables.exponential", lambda t: t // 2, "exponential is damaged"),
        ("index_tables.exponential", lambda t: -t, "exponential is damaged"),
        ("latent_tables", lambda t: t - t.amin(2, keepdim=True), "holds a zero"),
        ("map_tables", lambda t: (t.sum(2, keepdim=True) * torch.tensor([0, 1])).int(), "zero"),
        ("map_tables", lambda t: t[:1], "two sets of map tables"),
        ("map_tables", lambda t: t + 1, "does not sum to 2"),
        ("hyper.0.formats", lambda t: t - t[0], "a shift is not between 1 and 52"),
        ("hyper.0.formats", lambda t: t + 53, "a shift is not between 1 and 52"),
        ("context.2.formats", lambda t: -t, "a shift is not between 1 and 52"),
        ("hyper.2.formats", lambda t: t + 2**15 * (t == t[-1]), "more than any activation"),
        ("hyper.1.conv3.bias", lambda t: t + 2**52, "hyper-synthesis could exceed"),
        (
            "hyper.1.conv3.bias",
            lambda t: torch.full_like(t, -(2**63)),
            "hyper-synthesis could exceed",
        ),
    ],
)
def test_unfit_tensors_are_refused(shipped: Codec, name: str, change: object, match: str) -> None:
    tensors = shipped.model.normative.to_tensors()
    fingerprint = shipped.model.normative.fingerprint()
    assert Normative.from_tensors(tensors).fingerprint() == fingerprint
    assert callable(change)
    with pytest.raises(ValueError, match=match):
        Normative.from_tensors(tensors | {name: change(tensors[name])})


@pytest.mark.parametrize("how", ["wider", "one more", "other type"])
def test_tensors_of_other_shapes_and_types_are_refused(shipped: Codec, how: str) -> None:
    """All of them: nothing is read past its end, nor taken for what it is not."""
    tensors = shipped.model.normative.to_tensors()
    for name, tensor in tensors.items():
        if how == "wider":
            other = torch.cat([tensor, tensor], tensor.ndim - 1)
        elif how == "one more":
            other = tensor[None]
        else:
            other = tensor.float()
        with pytest.raises((ValueError, RuntimeError, IndexError, TypeError)):
            Normative.from_tensors(tensors | {name: other.contiguous()})
