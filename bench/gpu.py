"""Measurements on a GPU: training, memory, labelling, agreement, waiting, and the jobs.

    bench/gpu.sh                                          # this file, and the tests that need a GPU
    python bench/gpu.py --parts speed --networks r3d_18   # one part of one network
    python bench/gpu.py --tiny                            # a try-out in a minute, on a CPU too

speed     training steps: precisions and layouts, gradient checkpointing, peak memory, and the CPU
label     clips a second of the label job's predictor: precisions and sizes of a batch
agree     largest difference of a logit, GPU against CPU, and labels that change with the precision
wait      training from clip shards on disk, against the same batches held in memory
jobs      extract, clips, train, evaluate and label from end to end, on Ray

All that is compared is measured in one run, in turn; printed are medians. Figures go to
``OUT/gpu.json`` as they come, so that a run that is ended early leaves those it has.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

from bench.gpu_clips import jobs, wait
from bench.gpu_parts import WAYS, Bench, Figures, Part, agree, label, speed


def main(bench: Bench) -> None:
    """Measure the parts asked for, one after the other."""
    if bench.tiny:
        bench = replace(bench, networks=bench.networks[:1], steps=2, runs=1)
    bench.out.mkdir(parents=True, exist_ok=True)
    file = bench.out / "gpu.json"
    figures: Figures = json.loads(file.read_text()) if file.exists() else {}
    figures["machine"] = _machine()
    print("  ".join(f"{name}: {value}" for name, value in figures["machine"].items()), flush=True)
    failed: list[Part] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in bench.parts:
            began = time.monotonic()
            print(f"\n{part}", flush=True)
            try:
                for found in _MEASURES[part](bench, folder):
                    file.write_text(json.dumps({**figures, part: found}, indent=1) + "\n")
                    figures[part] = found
            except Exception:  # noqa: BLE001  The other parts are measured all the same.
                traceback.print_exc()
                failed.append(part)
            figures[part + "_seconds"] = round(time.monotonic() - began, 1)
            print(f"({part} took {figures[part + '_seconds']} s)", flush=True)
            file.write_text(json.dumps(figures, indent=1) + "\n")
    print()
    _summary(figures)
    if failed:
        sys.exit(f"parts that failed: {', '.join(failed)}")


def _machine() -> Figures:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "GPU": gpu,
        "CPU threads": torch.get_num_threads(),
        "Python": sys.version.split()[0],
        "PyTorch": torch.__version__,
        "cuDNN": torch.backends.cudnn.version(),
        "driver": _driver(),
    }


def _driver() -> str:
    if not shutil.which("nvidia-smi"):
        return "none"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def _summary(figures: Figures) -> None:
    """The table that a reader of a log sees last."""
    print(f"{'training, clips/s':24s}" + "".join(f"{way.name[:24]:>25s}" for way in WAYS))
    rows = [row for row in figures.get("speed", []) if "clips_per_second" in row]
    for name in dict.fromkeys(row["network"] for row in rows):
        of_way = {row["way"]: row["clips_per_second"] for row in rows if row["network"] == name}
        cells = "".join(f"{of_way.get(way.name, float('nan')):25.1f}" for way in WAYS)
        print(f"{name:24s}{cells}")
    failed = [row for row in figures.get("speed", []) if "error" in row]
    for row in failed:
        print(f"FAILED {row['network']} {row['way']}: {row['error']}")


_MEASURES: dict[Part, Callable[[Bench, Path], Iterator[Any]]] = {
    "speed": speed,
    "label": label,
    "agree": agree,
    "wait": wait,
    "jobs": jobs,
}


if __name__ == "__main__":
    main(tyro.cli(Bench))
