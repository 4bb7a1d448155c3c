"""Memory that was freed, given back to the system."""

import ctypes
import sys


def release_memory() -> None:
    """glibc keeps what was freed of buffers up to 32 MiB, some hundred MiB after a descent, and
    larger ones take new memory beside it. Does nothing where the C library is another."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
