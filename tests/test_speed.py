"""A real run of the speed benchmark with the tiny model."""

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

import hvqcodec
from benchmarks.speed import ENTROPY_STEPS
from tests.helpers import TESTS, TINY, Pixels


def test_the_steps_are_named_and_lie_within_the_total(tmp_path: Path, astronaut: Pixels) -> None:
    Image.fromarray(astronaut[:192, 150:342]).save(tmp_path / "photo.png")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.speed", str(tmp_path / "photo.png")),
            *("--model", str(TINY), "--bpp", "0.075", "--repeat", "1", "--threads", "1"),
        ],
        cwd=TESTS.parent,
        env=os.environ | {"PYTHONPATH": str(Path(hvqcodec.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = re.findall(r"^(\w[\w +-]*?) +([\d.]+|-) +([\d.]+|-)$", result.stdout, re.MULTILINE)
    seconds = {name: [float(v) if v != "-" else 0.0 for v in values] for name, *values in lines}
    total = seconds.pop("total")
    assert set(ENTROPY_STEPS) < set(seconds)
    for direction in (0, 1):
        steps = sum(values[direction] for values in seconds.values())
        assert 0 < steps <= total[direction] + 0.001
    peak = re.search(r"^peak memory (\d+) MiB$", result.stdout, re.MULTILINE)
    assert peak is not None
    assert 50 < int(peak[1]) < 2000
