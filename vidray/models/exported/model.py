"""An exported network as a model: clips in, probabilities out, as a ``DeepModel`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidray.errors import ModelError, UserError
from vidray.models.exported import files
from vidray.models.exported.description import Export
from vidray.models.preprocess import Preprocessing, clips_flow
from vidray.models.probabilities import as_model_errors, checked, softmax
from vidray.storage import checked_json
from vidray.video.clips import ClipSettings

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits ``(N, K)`` and embeddings ``(N, D)``."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a graph must be, and where it is to run.

    Attributes:
        clip_shape: (T, H, W, 3) of the pixels it takes.
        flow: whether it takes ``flow``, too.
        classes: number of its logits.
        device: ``cpu`` or ``cuda``.
        threads: of a forward pass; None takes one for each core.
    """

    export: Export
    clip_shape: tuple[int, int, int, int]
    flow: bool
    classes: int
    device: str
    threads: int | None


class RunGraph(Protocol):
    """A graph that is ready to run; safe to call from several threads."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        """The outputs for ``clips`` and, where the network takes it, ``flow``."""


# The module of what runs it, its package, and what to install, by ``Export.to``.
_RUNTIMES = {
    "onnx": ("vidray.models.exported.onnx", "onnxruntime", "vidray[onnx]"),
    "openvino": ("vidray.models.exported.openvino", "openvino", "vidray[openvino]"),
    "tensorrt": ("vidray.models.exported.tensorrt", "tensorrt", "tensorrt"),
}


def can_run(to: str) -> bool:
    """Whether what runs exports of this kind is installed."""
    return find_spec(_RUNTIMES[to][1]) is not None


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """An exported network and the preprocessing it was trained with.

    Attributes:
        class_names: in the order of the probabilities.
        run: the graph.
        clip: how a video is cut into the clips it takes.
    """

    name: str
    class_names: tuple[str, ...]
    run: RunGraph
    preprocessing: Preprocessing
    clip: ClipSettings
    export: Export
    info: Mapping[str, Any]

    def predict(self, clips: NDArray[np.uint8], *, batch_size: int = 8) -> NDArray[np.float64]:
        """Probabilities ``float64 (N, K)`` of stored clips ``uint8 (N, T, H, W, 3)``, RGB.

        Raises:
            UserError: clips of too few frames.
            ModelError: the graph fails, or what it gives is no probabilities.
        """
        return self.predict_rows(lambda some: clips[some], np.arange(len(clips)),
                                 batch_size=batch_size)  # fmt: skip

    def predict_rows(
        self,
        read: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
        rows: NDArray[np.int64],
        *,
        batch_size: int = 8,
    ) -> NDArray[np.float64]:
        """``predict`` for clips that ``read`` gives batch by batch, such as ``Clips.read``."""
        if not len(rows):
            return np.zeros((0, len(self.class_names)))
        parts = range(0, len(rows), batch_size)
        return np.concatenate([self.answer(read(rows[k : k + batch_size]))[0] for k in parts])

    def embed(self, clips: NDArray[np.uint8], *, batch_size: int = 1) -> NDArray[np.float32]:
        """What the head sees, ``float32 (N, D)``, of stored clips ``uint8 (N, T, H, W, 3)``."""
        parts = range(0, len(clips), batch_size)
        return np.concatenate([self.answer(clips[k : k + batch_size])[1] for k in parts])

    def answer(self, clips: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Probabilities ``float64 (N, K)`` and embeddings ``float32 (N, D)`` of stored clips."""
        selected = np.ascontiguousarray(self.preprocessing.select(clips))
        inputs: dict[str, NDArray[Any]] = {"clips": selected}
        if self.preprocessing.flow:
            inputs["flow"] = clips_flow(selected)
        with as_model_errors(self.name):
            logits, embeddings = self.run(inputs)
        if len(logits) != len(clips) or len(embeddings) != len(clips):
            raise ModelError(
                f"the model {self.name} gives {len(logits)} answers for {len(clips)} clips: export "
                "it again"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # It is looked at right away.
            found = softmax(logits)
        return checked(found, self.name, self.class_names), embeddings


def load_exported(
    model_dir: str, info: Mapping[str, Any], *, device: str = "cpu", threads: int | None = None
) -> ExportedModel:
    """The model of a folder whose model.json names a graph.

    Args:
        info: its model.json, checked.
        device: ``cpu``, or ``cuda`` where the runtime has a GPU.
        threads: of a forward pass; None takes one for each core.

    Raises:
        UserError: a file is missing, damaged or not allowed, or the runtime is not installed.
    """
    export = checked_json.build(Export, info["exported"], "exported", may_lack=(Export,))
    module, package, install = _RUNTIMES[export.to]
    try:
        runtime = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(
            f"{info['name']} is exported to {export.to}, and {package} is not installed: "
            f"pip install '{install}'"
        ) from None
    preprocessing = Preprocessing.from_json(info["preprocessing"])
    folder = files.local_folder(model_dir, export)
    opening = Opening(
        export=export,
        clip_shape=preprocessing.clip_shape,
        flow=preprocessing.flow,
        classes=len(info["class_names"]),
        device=device,
        threads=threads,
    )
    return ExportedModel(
        name=info["name"],
        class_names=tuple(info["class_names"]),
        run=runtime.open_graph(folder, opening),
        preprocessing=preprocessing,
        clip=ClipSettings.from_json(info["clip"]),
        export=export,
        info=info,
    )
