"""The gate, and what it judges by."""

import pytest
import torch
from torch import Tensor

from benchmarks.points import Point
from training import promote


def points(name: str, factor: float) -> list[Point]:
    """A curve with `factor` times the bits of the plain one."""
    return [
        Point(
            name,
            bpp,
            {"bpp": factor * bpp, "lpips_anywhere": 1 - bpp, "dlp": 2 - bpp, "ms_ssim": bpp},
        )
        for bpp in (0.1, 0.2, 0.3, 0.4)
    ]


@pytest.mark.parametrize(("factor", "promoted"), [(0.9, True), (1.0, False), (1.1, False)])
def test_fewer_bits_for_the_same_looks_are_promoted(factor: float, promoted: bool) -> None:
    verdict = promote.judge(points("present", 1.0) + points("candidate", factor))
    assert verdict == pytest.approx(dict.fromkeys(promote.JUDGES, 100 * (factor - 1)), abs=0.01)
    assert promote.passes(verdict) == promoted


def test_a_gain_is_not_bought_with_one_of_the_metrics() -> None:
    verdict = dict.fromkeys(promote.JUDGES, -10.0)
    assert promote.passes(verdict | {"ms_ssim": 1.9})
    assert not promote.passes(verdict | {"ms_ssim": 2.1})


def test_nothing_is_won_on_the_grid_alone() -> None:
    """A distance that sees every fourth pixel alone is fooled; its mean is not."""

    def at_the_grid(a: Tensor, b: Tensor) -> Tensor:
        return (a - b)[..., ::4, ::4].abs().mean((1, 2, 3))

    a = torch.zeros(1, 3, 16, 16)
    b = torch.ones(1, 3, 16, 16)
    b[..., ::4, ::4] = 0
    assert at_the_grid(a, b).item() == 0
    assert promote.anywhere(at_the_grid)(a, b).item() == 0.5
