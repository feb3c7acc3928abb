"""Exported networks run by OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from vidray.models.exported.description import Export
from vidray.models.exported.model import Outputs, RunGraph

# What the products are computed in. Left to itself, OpenVINO takes bfloat16 wherever a processor
# has it, and answers differ by 4 % between machines.
_COMPUTED_IN = {"float32": "f32", "float16": "f32", "bfloat16": "bf16", "int8": "f32"}


def open_graph(folder: Path, export: Export, _device: str, threads: int | None) -> RunGraph:
    """The graph of ``network.xml`` and ``network.bin``, whose weights are mapped from the file."""
    core = openvino.Core()
    model = core.read_model(folder / "network.xml", folder / "network.bin")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _COMPUTED_IN[export.precision],
        "PERFORMANCE_HINT": "LATENCY",
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        # A request of its own each time: several threads may ask at once.
        found = compiled.create_infer_request().infer(dict(inputs))
        return np.array(found["logits"], np.float32), np.array(found["embedding"], np.float32)

    return run
