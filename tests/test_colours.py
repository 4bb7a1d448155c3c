"""The benchmark of single colours: a real run, and what the residual is for."""

import pytest

from benchmarks import colours


def test_a_run_tells_what_the_residual_mends(capsys: pytest.CaptureFixture[str]) -> None:
    colours.main([])
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert head == ["colour", "residual", "middle", "rms", "at most"]
    assert [row[:2] for row in rows] == [
        [str(colour), residual] for colour in colours.COLOURS for residual in ("without", "with")
    ]
    for (*_, before, _), (*_, after, worst) in zip(rows[::2], rows[1::2], strict=True):
        assert float(after) < float(before)
        assert float(after) <= float(worst)
