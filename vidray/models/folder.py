"""The model folder: all a job needs to predict, in files that cannot run code.

MODEL_DIR/
model.json           what it is: name, classes, preprocessing down to the pixel, versions
weights.safetensors  a deep model's state dict,
pipeline.skops       or a classical model's fitted pipeline
metrics.json         how it did on the validation split (after jobs/train.py)
history.json         the training curve as data; curve.png draws it (deep)
run.json, _SUCCESS   how it was trained; _SUCCESS is written last
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from vidray import storage
from vidray.clips import ClipSettings
from vidray.errors import UserError
from vidray.extraction import Settings
from vidray.loader import Read
from vidray.loop import Precision, predict_logits
from vidray.model_files import MODEL, PIPELINE, WEIGHTS, read_info
from vidray.models import published
from vidray.models.build import build
from vidray.preprocess import Preprocessing


@dataclass(frozen=True, kw_only=True)
class DeepModel:
    """A network and the preprocessing it was trained with.

    Attributes:
        class_names: in the order of the probabilities.
        network: the torch module, in eval mode; takes ``float (N, C, T, H, W)``.
        clip: how a video is cut into the clips it takes.
        head: the part of ``network`` that takes embeddings; None if nobody asks for these.
    """

    name: str
    class_names: tuple[str, ...]
    network: nn.Module
    preprocessing: Preprocessing
    clip: ClipSettings
    info: Mapping[str, Any]
    head: nn.Module | None = None

    def predict(
        self, clips: NDArray[np.uint8], *, batch_size: int = 8, precision: Precision = "float32"
    ) -> NDArray[np.float64]:
        """Probabilities ``float64 (N, K)`` of stored clips ``uint8 (N, T, H, W, 3)``, RGB."""
        rows = np.arange(len(clips))
        return self.predict_rows(
            lambda some: clips[some], rows, batch_size=batch_size, precision=precision
        )

    def predict_rows(
        self,
        read: Read,
        rows: NDArray[np.int64],
        *,
        batch_size: int = 8,
        precision: Precision = "float32",
    ) -> NDArray[np.float64]:
        """The same of clips that ``read`` gives, batch after batch: ``Clips.read``."""
        if not len(rows):
            return np.zeros((0, len(self.class_names)))
        logits = predict_logits(
            self.network,
            (read(rows[k : k + batch_size]) for k in range(0, len(rows), batch_size)),
            preprocessing=self.preprocessing,
            device=next(self.network.parameters()).device,
            precision=precision,
        )
        return softmax(logits)


@dataclass(frozen=True, kw_only=True)
class ClassicalModel:
    """A fitted scikit-learn pipeline over feature families.

    Attributes:
        class_names: in the order of the probabilities.
        features: how a video is turned into the FEATURES row it takes.
    """

    name: str
    class_names: tuple[str, ...]
    pipeline: Any
    families: tuple[str, ...]
    features: Settings
    info: Mapping[str, Any]

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Probabilities ``float64 (N, K)`` of rows of a FEATURES table."""
        from vidray.models import classical

        return classical.predict(self.pipeline, classical.to_matrix(table, self.families))


Model = DeepModel | ClassicalModel


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities ``float64 (N, K)`` of logits ``(N, K)``."""
    exp: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def load(model_dir: str, *, device: str = "cpu") -> Model:
    """The model of a model folder, local or in a bucket.

    Raises:
        UserError: not a finished model folder, or a file in it that could run code.
    """
    uri = storage.canonical(model_dir)
    info = read_info(model_dir)
    if info["family"] == "classical":
        # scikit-learn takes 2 to 5 seconds, and a process with a network needs none of it.
        from vidray.models import classical

        return ClassicalModel(
            name=info["name"],
            class_names=tuple(info["class_names"]),
            pipeline=classical.load(_part(uri, PIPELINE)),
            families=tuple(info["families"]),
            features=Settings.from_json(info["features"]),
            info=info,
        )
    return _load_deep(uri, info, device)


def _load_deep(uri: str, info: dict[str, Any], device: str) -> DeepModel:
    built = build(**info["network"])
    network = built.network
    where = _part(uri, WEIGHTS)
    published.load_state(network, published.read_safetensors(where), source=where)
    return DeepModel(
        name=info["name"],
        class_names=tuple(info["class_names"]),
        network=network.to(torch.device(device)).eval(),
        preprocessing=Preprocessing.from_json(info["preprocessing"]),
        clip=ClipSettings.from_json(info["clip"]),
        info=info,
        head=built.head,
    )


def _part(uri: str, name: str) -> str:
    where = storage.join(uri, name)
    if not storage.exists(where):
        raise UserError(f"{uri} is not a whole model folder (no {name}): copy or train it again")
    return where


def save_deep(uri: str, info: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Write ``weights.safetensors``, then ``model.json``."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    storage.write_bytes(storage.join(uri, WEIGHTS), safetensors.torch.save(tensors))
    write_json(storage.join(uri, MODEL), info)


def save_classical(uri: str, info: Mapping[str, Any], pipeline: Any) -> None:
    """Write ``pipeline.skops``, then ``model.json``."""
    from vidray.models import classical

    storage.write_bytes(storage.join(uri, PIPELINE), classical.dumps(pipeline))
    write_json(storage.join(uri, MODEL), info)


def write_json(uri: str, values: Any) -> None:
    """Write anything JSON can hold, and dataclasses."""
    text = json.dumps(values, indent=2, default=dataclasses.asdict) + "\n"
    storage.write_bytes(uri, text.encode())
