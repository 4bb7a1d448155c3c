"""The map with its own bits counted in, on maps of real photos and on made-up ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvqcodec import Codec
from hvqcodec.arrays import Floats
from hvqcodec.encoding import Scene, analyse
from hvqcodec.entropy.map_coding import map_costs
from hvqcodec.granularity import COARSE, FINE, MEDIUM, Levels
from hvqcodec.pixels import to_blocks
from hvqcodec.refinement import MAP_WEIGHT, level_cost, refine
from tests.helpers import Pixels, maps

LAMBDAS = [0.3, 2.0, 6.0]


@pytest.fixture(scope="module")
def scene(shipped: Codec, astronaut: Pixels) -> Scene:
    """Of 256 x 256 pixels."""
    static = shipped.model.normative.index_tables.static
    return analyse(shipped.model.networks, to_blocks(astronaut[:256, 128:384]), static)


def cost_of(scene: Scene, lambda_: float) -> Floats:
    cost: Floats = (scene.cell_distortion + lambda_ * scene.cell_bits).double().numpy()
    return cost


def total(levels: Levels, cost: Floats, lambda_: float, tables: np.ndarray) -> float:
    """Of codes and map, the latter under the best set of its tables. cost: (1, 3, h, w)."""
    bits = map_costs(levels, tables).min()
    return float(level_cost(levels[None], cost).sum() + MAP_WEIGHT * lambda_ * bits)


@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_the_map_gets_cheaper_and_the_whole_better(
    shipped: Codec, scene: Scene, lambda_: float
) -> None:
    tables = shipped.model.normative.map_tables
    before = scene.allocate(lambda_)
    after = scene.refine(before, lambda_, tables)
    cost = cost_of(scene, lambda_)
    assert total(after, cost, lambda_, tables) < total(before, cost, lambda_, tables)
    assert level_cost(after[None], cost).sum() >= level_cost(before[None], cost).sum()
    map_bits = [map_costs(m, tables).min() for m in (before, after)]
    assert map_bits[1] < 0.9 * map_bits[0]


@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_hardly_a_change_of_one_block_would_gain_more(
    shipped: Codec, scene: Scene, lambda_: float
) -> None:
    tables = shipped.model.normative.map_tables
    after, cost = scene.choose(lambda_, tables), cost_of(scene, lambda_)
    reached, left = total(after, cost, lambda_, tables), 0
    for i in range(0, after.shape[0], 2):
        for j in range(0, after.shape[1], 2):
            block = after[i : i + 2, j : j + 2].copy()
            split = np.where(cost[0, FINE] < cost[0, MEDIUM], FINE, MEDIUM)[i : i + 2, j : j + 2]
            after[i : i + 2, j : j + 2] = split if (block == COARSE).any() else COARSE
            left += total(after, cost, lambda_, tables) < reached - 1e-9
            after[i : i + 2, j : j + 2] = block
    assert left <= 2


@given(maps(), st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_any_map_and_cost_lead_to_a_map_no_worse(
    shipped: Codec, levels: Levels, seed: int, lambda_: float
) -> None:
    tables = shipped.model.normative.map_tables
    cost = np.random.default_rng(seed).random((1, 3, *levels.shape)) * 100
    after = refine(levels[None], cost, np.array([lambda_]), tables)[0]
    coarse = (after == COARSE).reshape(after.shape[0] // 2, 2, -1, 2).sum((1, 3))
    assert after.dtype == np.uint8
    assert np.isin(coarse, (0, 4)).all()
    assert after.max() <= FINE
    assert total(after, cost, lambda_, tables) <= total(levels, cost, lambda_, tables) + 1e-6


def test_what_costs_nothing_is_left_alone(shipped: Codec) -> None:
    """Free bits, and the best level for every cell already."""
    cost = np.ones((1, 3, 4, 4))
    cost[:, MEDIUM] = 0.5
    levels = np.full((1, 4, 4), MEDIUM, np.uint8)
    tables = shipped.model.normative.map_tables
    np.testing.assert_array_equal(refine(levels, cost, np.array([1e-9]), tables), levels)


def test_a_batch_is_its_images(shipped: Codec, scene: Scene) -> None:
    tables, lambdas = shipped.model.normative.map_tables, np.array(LAMBDAS)
    levels = np.stack([scene.allocate(x) for x in LAMBDAS])
    cost = np.concatenate([cost_of(scene, x) for x in LAMBDAS])
    found = refine(levels, cost, lambdas, tables)
    for one, before, x in zip(found, levels, LAMBDAS, strict=True):
        np.testing.assert_array_equal(one, scene.refine(before, x, tables))
