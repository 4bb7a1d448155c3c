"""The gate, and what it judges by."""

import pytest
import torch
from torch import Tensor

from benchmarks.points import Point
from training import promote


def points(name: str, factor: float) -> list[Point]:
    """A curve with `factor` times the bits of the plain one."""
    figures = {"lpips_anywhere": 1.0, "dlp": 2.0, "frechet": 9.0}
    return [
        Point(
            name,
            bpp,
            {k: start - bpp for k, start in figures.items()}
            | {"bpp": factor * bpp, "ms_ssim": bpp},
        )
        for bpp in (0.1, 0.2, 0.3, 0.4)
    ]


@pytest.mark.parametrize(("factor", "promoted"), [(0.9, True), (1.0, False), (1.1, False)])
def test_fewer_bits_for_the_same_looks_are_promoted(factor: float, promoted: bool) -> None:
    verdict = promote.judge(points("present", 1.0) + points("candidate", factor))
    metrics = (*promote.JUDGES, promote.GRAFT_JUDGE)
    assert verdict == pytest.approx(dict.fromkeys(metrics, 100 * (factor - 1)), abs=0.01)
    assert promote.passes(verdict, graft=False) == promoted


def test_a_gain_is_not_bought_with_one_of_the_metrics() -> None:
    verdict = dict.fromkeys(promote.JUDGES, -10.0)
    assert promote.passes(verdict | {"ms_ssim": 1.9}, graft=False)
    assert not promote.passes(verdict | {"ms_ssim": 2.1}, graft=False)


@pytest.mark.parametrize(
    ("frechet", "dlp", "promoted"), [(-11.0, 4.9, True), (-9.0, -9.0, False), (-11.0, 5.1, False)]
)
def test_a_graft_must_look_more_natural(frechet: float, dlp: float, promoted: bool) -> None:
    verdict = {"lpips_anywhere": 3.0, "dlp": dlp, "ms_ssim": 1.0, "frechet": frechet}
    assert promote.passes(verdict, graft=True) == promoted


def test_nothing_is_won_on_the_grid_alone() -> None:
    """A distance that sees every fourth pixel alone is fooled; its mean is not."""

    def at_the_grid(a: Tensor, b: Tensor) -> Tensor:
        return (a - b)[..., ::4, ::4].abs().mean((1, 2, 3))

    a = torch.zeros(1, 3, 16, 16)
    b = torch.ones(1, 3, 16, 16)
    b[..., ::4, ::4] = 0
    assert at_the_grid(a, b).item() == 0
    assert promote.anywhere(at_the_grid)(a, b).item() == 0.5
