"""The model folder: all a job needs to predict, in files that cannot run code.

MODEL_DIR/
model.json           what it is: name, classes, preprocessing down to the pixel, versions
weights.safetensors  a deep model's state dict,
pipeline.skops       or a classical model's fitted pipeline
embedding/   model.json and weights.safetensors of the network whose embeddings a classical model
             takes, if it takes any
metrics.json its figures on the validation split (after jobs/train.py)
history.json         the training curve as data; curve.png draws it (deep)
run.json, _SUCCESS   how it was trained; _SUCCESS is written last
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray import storage
from vidray.errors import UserError
from vidray.features.embedding import Views
from vidray.features.extraction import Settings
from vidray.models.exported.description import is_graph
from vidray.models.exported.model import ExportedModel, load_exported
from vidray.models.inference import Read, predict_logits
from vidray.models.matrices import feature_names, to_matrix
from vidray.models.model_files import embeds, network_folder, read_info
from vidray.models.names import Precision
from vidray.models.networks.build import build
from vidray.models.networks.exits import ExitNetwork, Leaving
from vidray.models.preprocess import Preprocessing
from vidray.models.probabilities import NEXT_STEP, as_model_errors, checked, softmax
from vidray.models.weights import bounds, files, fitting
from vidray.storage.json_file import write_json
from vidray.tables.run_folder import MODEL, PIPELINE, WEIGHTS
from vidray.video.clips import ClipSettings

if TYPE_CHECKING:
    from vidray.models.exit_rule import ExitRule


@dataclass(frozen=True, kw_only=True)
class DeepModel:
    """A network and the preprocessing it was trained with.

    Attributes:
        class_names: in the order of the probabilities.
        network: the torch module, in eval mode; takes ``float (N, C, T, H, W)``.
        clip: how a video is cut into the clips it takes.
        head: the part of ``network`` that takes embeddings; None if nobody asks for these.
        exits: when a clip leaves the network early; None where it has no exits.
    """

    name: str
    class_names: tuple[str, ...]
    network: nn.Module
    preprocessing: Preprocessing
    clip: ClipSettings
    info: Mapping[str, Any]
    head: nn.Module | None = None
    exits: ExitRule | None = None

    @property
    def own_precision(self) -> Precision:
        """What it computes in where nothing smaller than float32 is asked for: the number format
        that its weights were exported in.
        """
        exported: Mapping[str, Any] | None = self.info.get("exported")
        return "float32" if exported is None else exported["precision"]

    def predict(
        self, clips: NDArray[np.uint8], *, batch_size: int = 8, precision: Precision = "float32"
    ) -> NDArray[np.float64]:
        """Probabilities ``float64 (N, K)`` of stored clips ``uint8 (N, T, H, W, 3)``, RGB.

        Raises:
            UserError: a precision that there is not, or clips of too few frames.
            ModelError: the network fails, or what it gives is no probabilities.
        """
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
        """``predict`` for clips that ``read`` gives batch by batch, such as ``Clips.read``."""
        return self.answer_rows(read, rows, batch_size=batch_size, precision=precision)[0]

    def answer_rows(
        self,
        read: Read,
        rows: NDArray[np.int64],
        *,
        batch_size: int = 8,
        precision: Precision = "float32",
        rows_at_once: int | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        """``predict_rows``, and the stage where each clip left, ``int32 (N,)``, 1 for the first
        exit; None of a network without exits.

        Args:
            rows_at_once: see ``networks.exits.ExitNetwork.answer``.
        """
        network, count = self.network, len(self.class_names)
        if leaves := self.exits is not None and self.exits.threshold.value is not None:
            network = self._leaving(rows_at_once)
        found = self.logits(network, read, rows, batch_size=batch_size, precision=precision)
        if not len(rows):
            found = np.zeros((0, count + leaves), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # It is looked at right away.
            probabilities = softmax(found[:, :count] if leaves else found)
        stages = None
        if self.exits is not None:
            stages = np.full(len(rows), self.exits.num_stages, np.int32)
        if stages is not None and leaves:
            stages = found[:, count].astype(np.int32)
        return checked(probabilities, self.name, self.class_names), stages

    def _leaving(self, rows_at_once: int | None) -> Leaving:
        rule, network = self.exits, self.network
        assert rule is not None
        assert rule.threshold.value is not None
        assert isinstance(network, ExitNetwork)
        return Leaving(network, rule.temperatures, rule.threshold.value, rows_at_once=rows_at_once)

    def logits(
        self,
        network: nn.Module,
        read: Read,
        rows: NDArray[np.int64],
        *,
        batch_size: int = 8,
        precision: Precision = "float32",
    ) -> NDArray[np.float32]:
        """What ``network``, this one or one made of it, gives for clips: ``float32 (N, ...)``.

        Raises:
            UserError, ModelError: as ``predict``.
        """
        if precision not in get_args(Precision):
            kinds = ", ".join(get_args(Precision))
            raise UserError(f"precision is {precision!r}: one of {kinds}")
        if precision == "float32":
            precision = self.own_precision
        return predict_logits(
            _Guarded(network, self.name),
            (read(rows[k : k + batch_size]) for k in range(0, len(rows), batch_size)),
            preprocessing=self.preprocessing,
            device=next(self.network.parameters()).device,
            precision=precision,
        )

    def embed(
        self, clips: NDArray[np.uint8], *, batch_size: int = 1, precision: Precision = "float32"
    ) -> NDArray[np.float32]:
        """What the head sees, ``float32 (N, D)``, of stored clips ``uint8 (N, T, H, W, 3)``.

        One clip a pass if nothing else is said, as the label job computes on a CPU; none leaves
        early. Not for several threads at once.

        Raises:
            UserError, ModelError: as ``predict``.
        """
        assert self.head is not None
        seen: list[NDArray[np.float32]] = []

        def keep(_head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0].detach().float().cpu().numpy())

        handle = self.head.register_forward_pre_hook(keep)
        try:
            whole = dataclasses.replace(self, exits=None)
            whole.predict(clips, batch_size=batch_size, precision=precision)
        finally:
            handle.remove()
        return np.concatenate(seen)


@dataclass(frozen=True, kw_only=True)
class ClassicalModel:
    """A fitted scikit-learn pipeline over feature families.

    Attributes:
        class_names: in the order of the probabilities.
        features: how a video is turned into the FEATURES row it takes.
        network: the one whose embeddings are among its features, unless another process has it.
    """

    name: str
    class_names: tuple[str, ...]
    pipeline: Any
    families: tuple[str, ...]
    features: Settings
    info: Mapping[str, Any]
    network: DeepModel | ExportedModel | None = None

    @property
    def views(self) -> Views | None:
        """The network in this process, as ``describe_video`` asks it; None if there is none."""
        network, embedding = self.network, self.features.embedding
        if network is None or embedding is None:
            return None
        if isinstance(network, ExportedModel):
            return Views(clip=network.clip, embed=network.embed)
        embed = partial(network.embed, precision=embedding.precision)
        return Views(clip=network.clip, embed=embed)

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Probabilities ``float64 (N, K)`` of rows of a FEATURES table.

        Raises:
            UserError: the table lacks a family of the model's.
            ModelError: the pipeline fails, or what it gives is no probabilities.
        """
        return self.predict_matrix(to_matrix(table, self.families))

    def predict_matrix(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """``predict`` for rows ``float32 (N, D)``, as ``matrices.to_matrix`` makes them."""
        from vidray.models import classical

        with as_model_errors(self.name, (torch.OutOfMemoryError,)):
            found = classical.predict(self.pipeline, x)
        return checked(found, self.name, self.class_names)


Model = DeepModel | ExportedModel | ClassicalModel


class _Guarded(nn.Module):
    """A network whose errors become ModelError."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, inputs: Tensor) -> Tensor:
        with as_model_errors(self.name, (torch.OutOfMemoryError,)):
            logits: Tensor = self.network(inputs)
        return logits


def load(model_dir: str, *, device: str = "cpu", with_network: bool = True) -> Model:
    """The model of a model folder, local or in a bucket.

    Args:
        device: where a network computes.
        with_network: whether that of a classical model is loaded, too; not where another process
            has it.

    Raises:
        UserError: not a finished model folder, or a file in it that could run code.
    """
    uri = storage.canonical(model_dir)
    info = read_info(model_dir)
    if is_graph(info):
        return load_exported(uri, info, device=device)
    if info["family"] == "deep":
        return _load_deep(uri, info, device)
    model = _load_classical(uri, info)
    if with_network and embeds(info):
        model = dataclasses.replace(model, network=load_network(model_dir, device=device))
    return model


def load_network(model_dir: str, *, device: str = "cpu") -> DeepModel | ExportedModel:
    """The network of a model folder: a deep model's, or the one whose embeddings a classical model
    takes.

    Raises:
        UserError: as ``load``, or a classical model without a network.
    """
    uri = network_folder(model_dir)
    info = read_info(uri)
    opened = load_exported if is_graph(info) else _load_deep
    return opened(uri, info, device=device)


def _load_classical(uri: str, info: dict[str, Any]) -> ClassicalModel:
    # scikit-learn takes 2 to 5 seconds, and a process with a network needs none of it.
    from vidray.models import classical

    model = ClassicalModel(
        name=info["name"],
        class_names=tuple(info["class_names"]),
        pipeline=classical.load(_part(uri, PIPELINE)),
        families=tuple(info["families"]),
        features=Settings.from_json(info["features"]),
        info=info,
    )
    # Of two rows, so that numbers that are none, and parts that do not fit, show before any video.
    width = len(feature_names(model.families, model.features.embedding))
    model.predict_matrix(np.stack([np.zeros(width, np.float32), np.full(width, np.nan, "f4")]))
    return model


def _load_deep(uri: str, info: dict[str, Any], device: str) -> DeepModel:
    where = _part(uri, WEIGHTS)
    # Only what ``Network`` names, and no weights but those beside it: nothing else is opened.
    bounds.check_not_smaller(where, info["network"].get("config"))
    built = build(**info["network"], weights="none")
    bounds.check_not_larger(where, built.network)
    fitting.load_exactly(built.network, files.read_safetensors(where), source=where)
    wrong = [
        name
        for name, tensor in built.network.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        problem = f"{storage.without_secrets(where)} holds NaN or infinity in {len(wrong)} tensors"
        raise UserError(f"{problem}, {wrong[0]} among them: {NEXT_STEP}")
    return DeepModel(
        name=info["name"],
        class_names=tuple(info["class_names"]),
        network=built.network.to(torch.device(device)).eval(),
        preprocessing=Preprocessing.from_json(info["preprocessing"]),
        clip=ClipSettings.from_json(info["clip"]),
        info=info,
        head=built.head,
        exits=_exit_rule(info),
    )


def _exit_rule(info: Mapping[str, Any]) -> ExitRule | None:
    if "exits" not in info:
        return None
    from vidray.models.exit_rule import ExitRule  # It imports SciPy.

    return ExitRule.from_json(info["exits"])


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
