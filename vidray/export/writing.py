"""The files of an export, by runtime; for int8 with the layers that stayed in float."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from vidray.errors import JobError, UserError
from vidray.export import graph, quantising
from vidray.export.graph import to_onnx
from vidray.export.samples import Samples
from vidray.export.settings import ExportSettings
from vidray.models.folder import DeepModel
from vidray.models.names import Ranges, Runtime
from vidray.tables.run_folder import WEIGHTS

_HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Written:
    """The files of an export by name, and the layers that int8 left in float."""

    files: dict[str, bytes]
    layers_in_float: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExportSource:
    """What an export is made of.

    Attributes:
        calibration: clips of split train, for calibrated ranges.
        ranges: of int8.
        left: None at first; then clips and the network's labels of them, ``int64 (N,)``, which the
            int8 graph must keep: layers are left in float for it.
    """

    model: DeepModel
    settings: ExportSettings
    calibration: Samples | None = None
    ranges: Ranges | None = None
    left: tuple[Samples, NDArray[np.int64]] | None = None

    @property
    def is_transformer(self) -> bool:
        """Whether NNCF is told to look for attention: any head may have a layer norm."""
        assert self.model.head is not None
        of_head = set(self.model.head.modules())
        return any(
            isinstance(module, torch.nn.LayerNorm)
            for module in self.model.network.modules()
            if module not in of_head
        )


def write(source: ExportSource) -> Written:
    """The files of the export.

    Raises:
        UserError: the network cannot be exported so.
        JobError: int8 would be left in less than half of the layers.
    """
    return _WRITERS[source.settings.to](source)


def _onnx(source: ExportSource) -> Written:
    # TensorRT chooses for each layer which of two formats is right and fast.
    if source.settings.precision == "float16" and source.settings.to == "onnx":
        proto = to_onnx(source.model, "float16")
        return Written(files={"network.onnx": proto.SerializeToString()})
    proto = to_onnx(source.model)
    if source.settings.to == "tensorrt":
        proto = graph.cast_first(proto)
    if source.settings.precision != "int8":
        return Written(files={"network.onnx": proto.SerializeToString()})
    left: list[str] = []
    if source.ranges == "dynamic":
        found = quantising.dynamic_onnx(proto.SerializeToString())
    else:
        found, left = _quantised(proto, source)
    found = graph.checked(graph.stripped(found), source.model)
    files = {"network.onnx": found.SerializeToString()}
    return Written(files=files, layers_in_float=left)


def _openvino(source: ExportSource) -> Written:
    settings = source.settings
    left: list[str] = []
    found = graph.to_openvino(to_onnx(source.model), source.model.name)
    if settings.precision == "int8":
        if source.ranges == "dynamic":
            found = quantising.dynamic_openvino(found)
        else:
            found, left = _quantised(found, source)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph.save_openvino(found, folder, half=settings.precision in _HALVES)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Written(files=files, layers_in_float=left)


def _quantised(found: Any, source: ExportSource) -> tuple[Any, list[str]]:
    """``found`` in int8, and the layers left in float."""
    samples, model = source.calibration, source.model
    assert samples is not None
    transformer = source.is_transformer
    rounded = quantising.calibrated(found, model, samples, is_transformer=transformer)
    if source.left is None:
        return rounded, []
    compared, labels = source.left
    least = source.settings.least_agreement
    kept = quantising.kept_accurate(
        found, model, samples, compared, labels=labels,
        least_agreement=least, is_transformer=transformer,
    )  # fmt: skip
    layers = quantising.rounded_layers(rounded)
    left = sorted(layers - quantising.rounded_layers(kept))
    # So it is where a label hangs by a thread: s3d with a head that knew no better than chance lost
    # one label of 24, and kept it with no layer in int8.
    if 2 * len(left) > len(layers):
        raise JobError(
            f"--least-agreement {least:g} takes {len(left)} of {len(layers)} layers in float, "
            "which saves next to nothing: allow more labels to differ, or compare more clips of val"
        )
    return kept, left


def _torch(source: ExportSource) -> Written:
    dtype = _HALVES[source.settings.precision]
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in source.model.network.state_dict().items()
    }
    wrong = [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if wrong:
        raise UserError(
            f"{wrong[0]} of {source.model.name} holds numbers too large for "
            f"{source.settings.precision}: take bfloat16"
        )
    return Written(files={WEIGHTS: safetensors.torch.save(state)})


# TensorRT is given the graph alone: an engine belongs to one kind of GPU, and could hold code.
_WRITERS: dict[Runtime, Callable[[ExportSource], Written]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "tensorrt": _onnx,
    "torch": _torch,
}
