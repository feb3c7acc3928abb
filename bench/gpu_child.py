"""One part of ``bench/gpu.py``, in a process of its own.

    python bench/gpu_child.py PART OUT WORK     # as bench/gpu.py starts it

Rows that OUT/gpu.json has are not measured again; WORK holds the videos and models of all parts.
"""

from __future__ import annotations

import dataclasses
import importlib
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from bench.gpu_plan import Bench
from bench.gpu_results import LEFT_OUT, Figures, GpuResults, LeftOutError

# Imported once they are needed: processes that only decode import this file, and need no PyTorch.
MEASURES = {
    "label": "gpu_label:label",
    "again": "gpu_label:again",
    "compile": "gpu_label:compiled",
    "tensorrt": "gpu_more:tensorrt",
    "exits": "gpu_more:exits",
    "job-label": "gpu_more:job_label",
    "embed": "gpu_more:embed",
    "train": "gpu_parts:train",
    "networks": "gpu_parts:networks",
    "batches": "gpu_parts:batches",
    "agree": "gpu_parts:agree",
    "wait": "gpu_clips:wait",
    "jobs": "gpu_clips:jobs",
    "tests": "gpu_tests:tests",
    "job-tests": "gpu_tests:job_tests",
    "transfer": "gpu_tests:transfer",
}
"""Part -> function of settings, folder for what parts share, and names of rows that are there; it
gives the other rows with their names."""


def main(name: str, out: Path, work: Path) -> int:
    """Measure a part; the exit status says whether all of it went well."""
    results = GpuResults.read(out)
    bench = bench_of(results.settings)
    module, _, function = MEASURES[name].partition(":")
    try:
        if bench.device == "cuda":
            results.machine |= _libraries()
        measure = getattr(importlib.import_module(f"bench.{module}"), function)
        for key, row in measure(bench, work, results.measured(name)):
            results.add(name, key, row)
    except LeftOutError as error:
        results.mark(name, "left out", why=str(error))
        return LEFT_OUT
    except Exception as error:  # noqa: BLE001  Whatever it is, its rows so far are kept.
        traceback.print_exc()
        results.mark(name, "failed", why=said(error))
        return 1
    wrong = [key for key, row in results.rows(name).items() if "error" in row]
    if wrong:
        results.mark(name, "failed", why=f"{len(wrong)} rows failed: {'; '.join(wrong)}")
    return len(wrong) > 0


def _libraries() -> Figures:
    """What only PyTorch knows of the machine.

    Raises:
        RuntimeError: it sees no GPU, and the driver does.
    """
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU, though nvidia-smi does")
    return {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def bench_of(settings: dict[str, Any]) -> Bench:
    """The settings as the driver has them."""
    values: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
    bench = Bench(**values)
    if not bench.tiny:
        return bench
    small = ("resnet18_avg",)
    return dataclasses.replace(bench, steps=2, runs=1, network=small[0], networks=small)


if __name__ == "__main__":
    # Asked to end, it unwinds: decoders and folders are put away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
