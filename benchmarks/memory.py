"""How much memory this process held at most, from a moment on."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Have the kernel count this process's peak memory anew, where it can (Linux)."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def peak() -> int:
    """Bytes this process held at most; elsewhere than on Linux since it began."""
    if _STATUS.exists():
        line = next(x for x in _STATUS.read_text().split("\n") if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
