from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hvqcodec import Codec
from hvqcodec.entropy import fixed_point
from hvqcodec.entropy.constants import LATENT_MAX, SIGMA_STEPS
from hvqcodec.entropy.fixed_point import (
    EXACT,
    MU_LIMIT,
    IntegerConv,
    IntegerHyperSynthesis,
    requantise,
)
from hvqcodec.granularity import FINE
from tests import reference_decoder as reference
from tests.helpers import Pixels, symbols_of, threads

SIDES = [(1, 1), (1, 9), (2, 3), (4, 4), (5, 8), (13, 7)]


def tensors_of(hyper: IntegerHyperSynthesis) -> reference.Model:
    """As the tensors of level 0 of a model file."""
    dimensions = len(hyper.convs[3].bias) // 8
    tensors = {
        "hyper.0.formats": np.array([*hyper.shifts, hyper.mask_one]),
        "index_tables.entries": np.zeros((1, dimensions)),
    }
    for number, conv in enumerate(hyper.convs, 1):
        tensors[f"hyper.0.conv{number}.weight"] = conv.weight.long().numpy()
        tensors[f"hyper.0.conv{number}.bias"] = conv.bias.numpy()
    return tensors


def random_case(sides: tuple[int, int], channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """z and mask of a level of h x w blocks."""
    rng = np.random.default_rng(seed)
    h, w = sides
    z = rng.integers(-LATENT_MAX, LATENT_MAX + 1, (channels, -(-h // 4), -(-w // 4)))
    return torch.from_numpy(z.astype(np.int8)), torch.from_numpy(rng.random(sides) < 0.6)


def extreme_network(seed: int) -> IntegerHyperSynthesis:
    """Two channels of z, 24 hidden, D = 3; weights up to the ends of int16."""
    rng = np.random.default_rng(seed)

    def conv(outputs: int, inputs: int, kernel: int) -> IntegerConv:
        weight = rng.integers(-(2**15), 2**15, (outputs, inputs, kernel, kernel))
        bias = rng.integers(-(2**36), 2**36, outputs)
        return IntegerConv(torch.from_numpy(weight.astype(np.int16)), torch.from_numpy(bias))

    convs = (conv(24, 2, 3), conv(48, 24, 1), conv(24, 12 + 4, 3), conv(4 * 6, 24, 1))
    return IntegerHyperSynthesis(convs, (20, 21, 21, 22, 30), 1 << 14)


def assert_as_reference(hyper: IntegerHyperSynthesis, z: Tensor, mask: Tensor) -> None:
    mu, step = hyper(z, mask)
    assert mu.dtype == step.dtype == torch.int16
    slow_mu, slow_step = reference.hyper_synthesis(tensors_of(hyper), 0, z.numpy(), mask.numpy())
    np.testing.assert_array_equal(mu.numpy(), slow_mu)
    np.testing.assert_array_equal(step.numpy(), slow_step)


@given(
    accs=st.lists(st.integers(-(2**51), 2**51), min_size=1),
    shift=st.integers(1, 45),
    low=st.integers(-8192, 0),
    high=st.integers(0, 32767),
)
def test_requantise_rounds_half_up_and_saturates(
    accs: list[int], shift: int, low: int, high: int
) -> None:
    expected = [min(max((acc + (1 << shift - 1)) >> shift, low), high) for acc in accs]
    acc = torch.tensor(accs, dtype=torch.float64)
    assert requantise(acc, shift, low, high).tolist() == expected


def test_requantise_by_example() -> None:
    acc = torch.tensor([-13, -12, -11, -4, -3, 3, 4, 5, 11, 12, 800], dtype=torch.float64)
    assert requantise(acc, 3, -1, 90).tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 2, 90]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_equals_the_slow_integers(codec: Codec, level: int, sides: tuple[int, int]) -> None:
    hyper = codec.model.normative.hyper_syntheses[level]
    assert_as_reference(hyper, *random_case(sides, hyper.convs[0].weight.shape[1], sum(sides)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sides", SIDES)
def test_equals_the_slow_integers_at_extreme_weights(sides: tuple[int, int], seed: int) -> None:
    hyper = extreme_network(seed)
    hyper.check_exact(LATENT_MAX)
    z, mask = random_case(sides, 2, seed)
    assert_as_reference(hyper, z, mask)
    mu, step = hyper(z, mask)
    assert mu.shape == step.shape == (3, *sides)
    assert mu.abs().max() <= MU_LIMIT
    assert 0 <= step.min() <= step.max() < SIGMA_STEPS


def test_equals_the_slow_integers_on_a_photo(codec: Codec, astronaut: Pixels) -> None:
    data = codec.compress(astronaut[:128, 128:288], ratios=(0.3, 0.3, 0.4))
    symbols = symbols_of(codec.model, data)
    for level, (z, mask) in enumerate(zip(symbols.latents, symbols.masks(), strict=True)):
        hyper = codec.model.normative.hyper_syntheses[level]
        assert_as_reference(hyper, torch.from_numpy(z), torch.from_numpy(mask))


def test_the_number_of_threads_does_not_matter(codec: Codec) -> None:
    for hyper in (*codec.model.normative.hyper_syntheses, extreme_network(7)):
        case = random_case((96, 83), hyper.convs[0].weight.shape[1], 5)
        with threads(1):
            one = hyper(*case)
        with threads(2):
            two = hyper(*case)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("tile", [1, 5, 23])
def test_tiles_make_no_difference(codec: Codec, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    for hyper in (*codec.model.normative.hyper_syntheses, extreme_network(7)):
        case = random_case((83, 96), hyper.convs[0].weight.shape[1], 5)
        whole = hyper(*case)
        monkeypatch.setattr(fixed_point, "TILE", tile)
        for one, other in zip(whole, hyper(*case), strict=True):
            assert torch.equal(one, other)
        monkeypatch.undo()


def test_a_tile_reaches_no_further_than_it_must(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyper = codec.model.normative.hyper_syntheses[FINE]
    case = random_case((83, 96), hyper.convs[0].weight.shape[1], 5)
    whole = hyper(*case)
    monkeypatch.setattr(fixed_point, "TILE", 5)
    monkeypatch.setattr(fixed_point, "TILE_REACH", 1)
    assert not torch.equal(hyper(*case)[0], whole[0])


def test_what_is_seen_at_a_time_does_not_grow_with_any_side(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyper, seen = codec.model.normative.hyper_syntheses[FINE], []
    whole = IntegerHyperSynthesis._tile
    monkeypatch.setattr(
        IntegerHyperSynthesis,
        "_tile",
        lambda self, z, mask: seen.append(z[0].numel()) or whole(self, z, mask),  # type: ignore[func-returns-value]
    )
    for sides in ((4, 4000), (4000, 4), (600, 600)):
        hyper(*random_case(sides, hyper.convs[0].weight.shape[1], 5))
    assert max(seen) <= (fixed_point.TILE + 2 * fixed_point.TILE_REACH) ** 2


def test_largest_sum_is_reached() -> None:
    weight = torch.tensor([3, -5, 7, -(2**15)], dtype=torch.int16).view(1, 4, 1, 1)
    conv = IntegerConv(weight, torch.tensor([-11]))
    worst = torch.tensor([-100, 100, -100, 100]).double().view(4, 1, 1)
    assert conv.largest_sum(100) == -conv(worst).item()


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_check_exact_refuses_sums_that_float64_cannot_hold(number: int) -> None:
    hyper = extreme_network(0)
    input_max = LATENT_MAX if number == 0 else 32767
    conv = hyper.convs[number]
    room = EXACT // 2 - replace(conv, bias=torch.zeros_like(conv.bias)).largest_sum(input_max)
    for bias, exact in ((room - 1, True), (room, False), (-room, False)):
        changed = list(hyper.convs)
        changed[number] = replace(conv, bias=torch.full_like(conv.bias, bias))
        grown = replace(hyper, convs=tuple(changed))
        if exact:
            grown.check_exact(LATENT_MAX)
        else:
            with pytest.raises(ValueError, match=r"could exceed 2\^53"):
                grown.check_exact(LATENT_MAX)
