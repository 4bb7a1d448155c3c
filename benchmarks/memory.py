"""How much memory a program has taken."""

import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Bytes that this process has held at most, since it runs its program.

    Linux says so itself; there `getrusage` begins with what the process was before `exec`, a copy
    of its parent, however large.
    """
    if sys.platform != "linux":
        import resource  # Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return stated("VmHWM")


def stated(field: str) -> int:
    """Bytes that Linux states of this process: "VmRSS", what it holds, "VmHWM", at most so far."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found[1])
