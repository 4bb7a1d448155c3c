"""Races of the tiny model over a few steps, on real photos."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import TINY, Pixels
from training import race, train
from training.compare import difference


@pytest.fixture(scope="module")
def common(
    tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels, coffee: Pixels
) -> list[str]:
    """Options for all arms; photos of 208 x 224 pixels."""
    folder = tmp_path_factory.mktemp("race")
    for name, photo in (("a", astronaut), ("b", coffee)):
        Image.fromarray(photo[100:308, 150:374]).save(folder / f"{name}.png")
    options = f"--photos {folder} --validation {folder} --run {folder / 'run'} --start {TINY}"
    return f"{options} --batch 2 --crop 64 --device cpu --threads 1".split()


ARMS = ["--arm", "as-is", "--arm", 'slow {"muon_lr": 0.0001, "weights": {"mse": 90}}']


def test_a_race_runs_reports_and_is_not_run_again(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*common, "--budget-steps", "4", "--seeds", "0", "1", *ARMS]
    race.main(arguments)
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table[0].startswith("| arm | seeds | BD-rate LPIPS %")
    assert table[2].startswith("| slow | 0, 1 |")
    assert "±" in table[2]
    path = Path(common[common.index("--run") + 1]) / "results.jsonl"
    results = race.read_results(path)
    assert [(r["arm"], r["seed"]) for r in results] == [
        ("as-is", 0), ("slow", 0), ("as-is", 1), ("slow", 1)
    ]  # fmt: skip
    assert all(r["steps"] == 4 and len(r["points"]) == len(race.LAMBDAS) for r in results)
    assert results[0]["points"] != results[1]["points"] != results[2]["points"]
    assert list(path.parent.iterdir()) == [path]
    race.main(arguments)
    assert race.read_results(path) == results
    assert capsys.readouterr().out.splitlines()[-3:] == table


def test_an_arm_changes_what_it_names(common: list[str]) -> None:
    arm = race.Arm.parse('wide {"weights": {"lpips": 3}, "config": {"codes": 9}, "crop": 32}')
    options = train.arguments([*common, "--budget-steps", "4", "--weights", '{"mse": 7}'])
    changed = arm.options(options, seed=5)
    assert changed.weights == {"mse": 7, "lpips": 3}
    assert (changed.config, changed.crop, changed.seed) == ({"codes": 9}, 32, 5)
    assert changed.batch == options.batch == 2
    assert options.weights == {"mse": 7}
    with pytest.raises(SystemExit, match="no option colour"):
        race.Arm.parse('bad {"colour": 1}').options(options, seed=0)


def result(bpp: float, seed: int = 0) -> race.Result:
    points = [{"bpp": bpp * r, "lpips": 0.4 - 0.1 * r, "dlp": 3 - r, "ms_ssim": r} for r in (1, 2)]
    return {"arm": "", "changes": {}, "seed": seed, "steps": 1, "points": points}


def test_margins_are_held_against_the_spread_of_the_seeds() -> None:
    first, other = [result(1.0), result(1.1)], [result(0.8), result(0.88)]
    value, spread = race.margin(first, other, "lpips")
    assert value == pytest.approx(-20)
    assert spread == pytest.approx(10)
    points = [each["points"] for each in first]
    assert difference(*points, "ms_ssim") == pytest.approx(10)


def test_curves_that_cannot_be_compared_are_said_to(common: list[str]) -> None:
    bad = result(1.0) | {"arm": "bad"}
    bad["points"] = bad["points"][::-1][:1] * 2
    lines = race.report([result(1.0) | {"arm": "a"}, bad], [race.Arm("a", {}), race.Arm("bad", {})])
    assert "a curve needs at least two different points" in lines[-1]


def test_time_is_told_for_every_arm(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    race.main([*common, "--budget-steps", "4", "--time", *ARMS])
    times = json.loads(capsys.readouterr().out.splitlines()[-1])["milliseconds_per_step"]
    assert list(times) == ["as-is", "slow"]
    assert min(times.values()) > 1
