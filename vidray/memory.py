"""Memory of this process as the system counts it: resident, mapped files included."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def resident_bytes() -> int | None:
    """Bytes held now; None where the system does not say."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int | None:
    """The most bytes held so far, or since ``reset_peak``; None where the system does not say."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux's ru_maxrss begins with the memory of the process that started this one.
    return _status_bytes("VmHWM")


def reset_peak() -> bool:
    """Reset the peak to what is held now; False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
