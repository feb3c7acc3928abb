"""Exported networks run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vidray.models.exported.description import Export
from vidray.models.exported.model import Outputs, RunGraph


def open_graph(folder: Path, _export: Export, device: str, threads: int | None) -> RunGraph:
    """The graph of ``network.onnx``."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    path = str(folder / "network.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=providers)

    def run(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        logits, embedding = session.run(["logits", "embedding"], dict(inputs))
        return np.asarray(logits, np.float32), np.asarray(embedding, np.float32)

    return run
