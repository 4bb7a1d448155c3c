"""Seconds by step of the main path, for benchmarks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_steps: ContextVar[dict[str, float] | None] = ContextVar("steps", default=None)


@contextmanager
def record() -> Iterator[dict[str, float]]:
    """Collect the seconds that each `step` takes within the block."""
    steps: dict[str, float] = {}
    token = _steps.set(steps)
    try:
        yield steps
    finally:
        _steps.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """A named step; costs nothing unless somebody records."""
    steps = _steps.get()
    if steps is None:
        yield
        return
    begin = time.perf_counter()
    yield
    steps[name] = steps.get(name, 0.0) + time.perf_counter() - begin
