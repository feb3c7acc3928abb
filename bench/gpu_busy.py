"""How busy a GPU is: what nvidia-smi says while something runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

_EVERY_MS = 200


@dataclass
class BusyWatch:
    """What nvidia-smi said, and when: time, share of its last moments in which a kernel ran, and
    bytes in use on the GPU by everybody.
    """

    samples: list[tuple[float, float, int]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> float | None:
        """The mean share between two times of ``time.time``; None without a sample."""
        found = [share for at, share, _ in self.samples if begin <= at <= end]
        return sum(found) / len(found) if found else None

    def peak_bytes(self, begin: float, end: float) -> int | None:
        """Most bytes in use between two times; None without a sample."""
        return max((used for at, _, used in self.samples if begin <= at <= end), default=None)


@contextmanager
def watching() -> Iterator[BusyWatch]:
    """Sample the GPU of this process while the block runs; without one there are no samples."""
    watch = BusyWatch()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not visible or shutil.which("nvidia-smi") is None:
        yield watch
        return
    query = "--query-gpu=utilization.gpu,memory.used"
    # An index or a UUID, as in CUDA_VISIBLE_DEVICES.
    flags = [query, "--format=csv,noheader,nounits", f"--id={visible}", f"--loop-ms={_EVERY_MS}"]
    with subprocess.Popen(["nvidia-smi", *flags], stdout=subprocess.PIPE, text=True) as smi:
        reader = Thread(target=_read, args=(smi, watch), daemon=True)
        reader.start()
        try:
            yield watch
        finally:
            smi.terminate()
            reader.join()


def _read(smi: subprocess.Popen[str], watch: BusyWatch) -> None:
    assert smi.stdout is not None
    for line in smi.stdout:
        sample = read_sample(line)
        if sample is not None:
            watch.samples.append((time.time(), *sample))


def read_sample(line: str) -> tuple[float, int] | None:
    """The share and the bytes of a line such as ``37, 2048``; None of ``[N/A], [N/A]``, which a GPU
    cut into instances gives, or of an error message.
    """
    share, _, mebibytes = line.partition(",")
    try:
        return float(share) / 100, int(mebibytes) << 20
    except ValueError:
        return None
