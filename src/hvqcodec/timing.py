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


class step:  # noqa: N801, since it reads like a function
    """A named step; costs next to nothing unless somebody records."""

    __slots__ = "begin", "name"

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        steps = _steps.get()
        if steps is not None:
            steps[self.name] = steps.get(self.name, 0.0) + time.perf_counter() - self.begin
