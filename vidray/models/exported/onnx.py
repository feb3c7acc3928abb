"""Exported networks run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.models.exported import onnx_file
from vidray.models.exported.files import mapped
from vidray.models.exported.model import Opening, Outputs, RunGraph

GRAPH = "network.onnx"
_ON_GPU = "CUDAExecutionProvider"


def open_graph(folder: Path, opening: Opening) -> RunGraph:
    """The graph of ``network.onnx``.

    Raises:
        UserError: it is damaged, or holds what no export does.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # What is wrong is raised.
    if opening.threads is not None:
        options.intra_op_num_threads = opening.threads
    providers = ["CPUExecutionProvider"]
    if opening.device == "cuda":
        if _ON_GPU not in onnxruntime.get_available_providers():  # It would say nothing.
            raise UserError(
                "this ONNX Runtime cannot use GPUs: install onnxruntime-gpu in place of "
                "onnxruntime, or give --gpus-per-predictor 0"
            )
        providers.insert(0, _ON_GPU)
    data = checked_bytes(folder, opening)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder / GRAPH} is no graph that ONNX Runtime can run ({said}): export it again"
        ) from error

    def run(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        logits, embedding = session.run(["logits", "embedding"], dict(inputs))
        return np.asarray(logits, np.float32), np.asarray(embedding, np.float32)

    def run_each(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        count = len(inputs["clips"])
        each = [{name: part[k : k + 1] for name, part in inputs.items()} for k in range(count)]
        logits, embeddings = zip(*map(run, each), strict=True)
        return np.concatenate(logits), np.concatenate(embeddings)

    # A dynamic range is that of the whole batch: a clip's answer would depend on its neighbours.
    return run_each if opening.export.ranges == "dynamic" else run


def checked_bytes(folder: Path, opening: Opening) -> bytes:
    """The bytes of ``network.onnx``, looked at: the very ones that are then run.

    Raises:
        UserError: it is damaged, or holds what no export does.
    """
    path = folder / GRAPH
    data = bytes(mapped(path))  # Before it is looked at: the file may change meanwhile.
    inputs, outputs = onnx_file.signature(
        opening.clip_shape, flow=opening.flow, classes=opening.classes
    )
    try:
        onnx_file.check(memoryview(data), inputs, outputs)
    except UserError as error:
        raise UserError(f"{path} is not what an export writes: {error}; export it again") from None
    return data
