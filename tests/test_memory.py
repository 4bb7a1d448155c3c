"""Memory is measured of the very program, and from the very moment, that is asked about."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.memory import peak_memory
from tests.helpers import TESTS, growing_at_most

MIB = 1 << 20


def test_what_is_held_for_a_moment_counts_from_then_on() -> None:
    np.ones(300 * MIB, np.uint8)
    with growing_at_most(64):
        np.ones(20 * MIB, np.uint8)
    with pytest.raises(AssertionError, match=r"MiB more"), growing_at_most(64):
        np.ones(100 * MIB, np.uint8)


def test_a_program_does_not_count_what_its_parent_held() -> None:
    held = np.ones(300 * MIB, np.uint8)
    code = "from benchmarks.memory import peak_memory; print(peak_memory())"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS.parent, capture_output=True, check=True
    )
    assert 2 * MIB < int(run.stdout) < 200 * MIB
    assert peak_memory() > held.nbytes
