"""Memory is measured of the very program, and from the very moment, that is asked about."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import large
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
    _, command = large.run("--version")
    assert 2 < command < 200
    assert peak_memory() > held.nbytes


FREED = """
import torch
from benchmarks.memory import stated
from hvqcodec.memory import release_memory

before = stated("VmRSS")
large = torch.ones(31 << 20, dtype=torch.uint8)
del large  # from now on smaller ones are not mapped one by one
buffers = [torch.ones(2 << 20, dtype=torch.uint8) for _ in range(200)]
last = buffers[-1]
del buffers
print(stated("VmRSS") - before)
release_memory()
print(stated("VmRSS") - before)
"""
"""A program that prints what it holds, in bytes, before and after."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give it back")
def test_what_was_freed_between_what_is_held_goes_back() -> None:
    """As after a descent: without `release_memory` the C library would keep it."""
    run = subprocess.run(
        [sys.executable, "-c", FREED], cwd=TESTS.parent, capture_output=True, check=True, text=True
    )
    kept, released = map(int, run.stdout.split())
    assert kept > 300 * MIB
    assert released < 100 * MIB
