"""Exported networks run by OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.models.exported import xml_file
from vidray.models.exported.files import mapped
from vidray.models.exported.model import Opening, Outputs, RunGraph

GRAPH, WEIGHTS = "network.xml", "network.bin"

# What the products are computed in. Left to itself, OpenVINO takes bfloat16 wherever a processor
# has it, and answers differ by 4 % between machines.
_COMPUTED_IN = {"float32": "f32", "float16": "f32", "bfloat16": "bf16", "int8": "f32"}
# Numbers of an input of a linear layer that share a range where ranges are measured as it runs.
_DYNAMIC_GROUP = 32


def open_graph(folder: Path, opening: Opening) -> RunGraph:
    """The graph of ``network.xml`` and ``network.bin``, whose weights are mapped from the file.

    Raises:
        UserError: they are damaged, or hold what no export does.
    """
    precision, ranges = opening.export.precision, opening.export.ranges
    group = _DYNAMIC_GROUP if ranges == "dynamic" else 0
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _COMPUTED_IN[precision],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "PERFORMANCE_HINT": "LATENCY",
        # Left to itself, each process pins its one thread to the first core, and all workers of a
        # machine share that one: 2 processes on 2 cores answered 41 clips a second for 1 process's
        # 41 (s3d, int8), and 81 without.
        "ENABLE_CPU_PINNING": False,
        **({} if opening.threads is None else {"INFERENCE_NUM_THREADS": opening.threads}),
    }
    core = openvino.Core()
    text, numbers = _checked_files(folder)
    weights = openvino.Tensor(numbers, shared_memory=True)
    try:
        model = core.read_model(text, weights)
        _check_ends(model, opening)
        compiled = core.compile_model(model, "CPU", settings)
    except MemoryError:
        raise
    except UserError as error:
        raise _foreign(folder, error) from None
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder / GRAPH} is no graph that OpenVINO can run ({said}): export it again"
        ) from error

    def run(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        # A request of its own each time: several threads may ask at once.
        found = compiled.create_infer_request().infer(dict(inputs))
        return np.array(found["logits"], np.float32), np.array(found["embedding"], np.float32)

    # OpenVINO reads weights as long as it runs and holds no reference to them.
    run.weights = (numbers, weights)  # type: ignore[attr-defined]
    return run


def _foreign(folder: Path, error: UserError) -> UserError:
    return UserError(f"{folder / GRAPH} is not what an export writes: {error}; export it again")


def _checked_files(folder: Path) -> tuple[bytes, NDArray[np.uint8]]:
    """The graph, the very bytes that were looked at, and its weights where they lie on the disk."""
    # OpenVINO wants to be able to write; it changes nothing, and no change would reach the file.
    weights = np.memmap(folder / WEIGHTS, np.uint8, "c")
    data = bytes(mapped(folder / GRAPH))
    try:
        xml_file.check(memoryview(data), weights_bytes=len(weights))
    except UserError as error:
        raise _foreign(folder, error) from None
    return data, weights


def _check_ends(model: Any, opening: Opening) -> None:
    """Raise UserError unless a graph has the inputs and outputs of ``Export``."""
    inputs = {"clips": ("u8", (None, *opening.clip_shape))}
    if opening.flow:
        inputs["flow"] = ("f32", (None, *opening.clip_shape[:3], 2))
    outputs = {"logits": ("f32", (None, opening.classes)), "embedding": ("f32", (None, None))}
    for what, ports, wanted in (
        ("input", model.inputs, inputs),
        ("output", model.outputs, outputs),
    ):
        found = {name: port for port in ports for name in port.get_names()}
        if len(ports) != len(wanted) or not wanted.keys() <= found.keys():
            shown = ", ".join(sorted(found))[:100]
            raise UserError(f"its {what}s are {shown}, where {', '.join(wanted)} must be")
        for name, (kind, shape) in wanted.items():
            sides = found[name].get_partial_shape()
            fits = len(sides) == len(shape) and all(
                expected is None or (side.is_static and side.get_length() == expected)
                for side, expected in zip(sides, shape, strict=False)
            )
            if found[name].get_element_type().get_type_name() != kind or not fits:
                raise UserError(f"its {what} {name} is of another type or shape")
