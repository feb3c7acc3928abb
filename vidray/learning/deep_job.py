"""The job that trains a deep model, as data, and its result. No Ray here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidray import models, storage
from vidray.errors import UserError
from vidray.learning import as_trained, defaults, loop
from vidray.learning.defaults import Facts
from vidray.learning.distillation import Distillation
from vidray.learning.epochs import (
    EpochRow,
)
from vidray.learning.exit_settings import ExitSettings
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings
from vidray.models import names
from vidray.models.networks import from_hub
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import origin_and_variant, set_trained
from vidray.models.networks.checkpointing import checkpoint_blocks
from vidray.models.networks.drop_path import published_rate, set_drop_path
from vidray.models.networks.exits import ExitNetwork, placed
from vidray.models.networks.from_hub import pretraining_network
from vidray.models.preprocess import Preprocessing
from vidray.models.weights import reader
from vidray.tables.shards import Clips

if TYPE_CHECKING:  # It imports scikit-learn, and each of the workers would.
    from vidray.learning.examples import Examples


@dataclass(frozen=True, kw_only=True)
class DeepJob:
    """All settings that decide the weights of a deep model.

    Args:
        data: run folder of clips.
        class_names: in the order of the network's outputs.
        network: keyword arguments of ``models.build_model``, the weights left out.
        weights: ``none``, ``default`` or a safetensors file: where training starts from.
        trained: ``all``, ``head`` or ``last_N_blocks``.
        splits: video_id -> split, instead of the split column of ``data``: for folds and subsets.
        mask_ratio: of a pre-training, which learns no classes: the share of patches that are
            hidden. None learns them.
        prune: share of the operations that goes before the training, see ``pruning``.
        exits: settings of early exits; None without any. Where they stand is in ``network``.
        distillation: the teacher, and the clips that it alone answers for; None without one.
    """

    data: str
    class_names: tuple[str, ...]
    network: Mapping[str, Any]
    weights: str
    trained: str
    training: Training
    augmentation: Augmentation
    preprocessing: Preprocessing
    splits: Mapping[str, str] | None = None
    mask_ratio: float | None = None
    prune: float | None = None
    exits: ExitSettings | None = None
    distillation: Distillation | None = None

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values, for Ray's workers."""
        return {**dataclasses.asdict(self), "preprocessing": self.preprocessing.to_json()}

    def deciding(self) -> dict[str, Any]:
        """What the weights depend on beside the data and its splits, for a digest."""
        training = defaults.without_open(dataclasses.asdict(self.training))
        values = self.to_json() | {"splits": None, "training": training}
        for late in ("mask_ratio", "prune", "exits"):  # As before there were these.
            if values[late] is None:
                del values[late]
        del values["distillation"]
        taught = self.distillation
        return values if taught is None else values | {"distillation": taught.deciding()}

    @property
    def is_fresh(self) -> bool:
        """Whether training starts from noise."""
        return self.weights == "none"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeepJob:
        """The job of these JSON values."""
        parts = {
            "class_names": tuple(values["class_names"]),
            "training": Training(**values["training"]),
            "augmentation": Augmentation(**values["augmentation"]),
            "preprocessing": Preprocessing.from_json(values["preprocessing"]),
            "exits": None if values["exits"] is None else ExitSettings(**values["exits"]),
            "distillation": Distillation.from_json(values["distillation"]),
        }
        return cls(**{**values, **parts})


@dataclass(frozen=True)
class Trained:
    """The result of a training: the best epoch's state dict, and a row per epoch."""

    state: dict[str, torch.Tensor]
    rows: list[EpochRow]


def make_job(
    model: str,
    examples: Examples,
    class_names: tuple[str, ...],
    *,
    deep: DeepSettings,
    training: Training,
    augmentation: Augmentation,
) -> DeepJob:
    """The job that the workers get.

    Args:
        model: one of ``names.DEEP``, or ``hf:...``.
        examples: clips; colours are measured on its split train.
        class_names: in the order of the network's outputs.

    Raises:
        UserError: what is asked for can't be trained from these clips.
    """
    frames, size_px = clip_size(deep, examples)
    clips = examples.clips
    assert clips is not None
    name, config, weights = from_hub.resolved(model, deep.weights)
    network: dict[str, Any] = {
        "name": name,
        "num_classes": len(class_names),
        "head": deep.head,
        "dropout": deep.dropout,
        "frames": frames,
        "size_px": size_px,
        **({} if config is None else {"config": config.as_json()}),
    }
    if (variant := origin_and_variant(name, weights)[1]) is not None:
        network["variant"] = variant
    if not names.is_hub(name) and (channels := reader.channels_of(weights, name)) is not None:
        network["channels"] = channels
    return DeepJob(
        data=clips.uri,
        class_names=class_names,
        network=network,
        weights=weights,
        trained=deep.trained,
        training=defaults.resolved(training, facts(network, weights, deep.trained)),
        augmentation=augmentation,
        preprocessing=preprocessing_of(model, deep, examples),
        splits=examples.assigned_splits,
    )


def with_exits(job: DeepJob, examples: Examples, settings: ExitSettings) -> DeepJob:
    """The job of the same network with early exits.

    Raises:
        UserError: it can have none, or not as many, or nothing is there to choose a threshold by.
    """
    if not len(examples.of_split("val").table):
        raise UserError(
            "when a clip may leave early is chosen on split val, which has no video: "
            f"{examples.other_fractions()}or leave --exits out"
        )
    name, fed = job.network["name"], job.preprocessing
    shape = (fed.num_channels, fed.num_frames, fed.size_px, fed.size_px)
    with torch.device("meta"):
        built = models.build(**job.network)
    places = placed(built, name, settings.exits, shape)
    return dataclasses.replace(job, network={**job.network, "exits": places}, exits=settings)


def preprocessing_of(model: str, deep: DeepSettings, examples: Examples) -> Preprocessing:
    """The preprocessing of these clips for ``model``."""
    frames, size_px = clip_size(deep, examples)
    mean, std = as_trained.colours(model, deep, examples)
    assert examples.clips is not None
    return Preprocessing(
        num_frames=frames,
        stride=deep.stride,
        size_px=size_px,
        mean=mean,
        std=std,
        flow=model in names.FLOW_MODELS,
        # What was resized as the weights were trained is not resized again.
        cut=examples.settings.get("fit") == "resize_crop" and size_px < examples.clips.size_px,
    )


def clip_size(deep: DeepSettings, examples: Examples) -> tuple[int, int]:
    """Frames and pixels of what a network is given of these clips.

    Raises:
        UserError: the clips do not hold as much.
    """
    clips = examples.clips
    assert clips is not None
    frames = deep.frames or clips.num_frames
    size_px = deep.crop_px or clips.size_px
    if frames > clips.num_frames or size_px > clips.size_px:
        stored = f"{clips.num_frames} frames of {clips.size_px} px"
        raise UserError(
            f"{frames} frames of {size_px} px are wanted and "
            f"{storage.without_secrets(clips.uri)} holds {stored}: cut with a larger "
            "--frames-per-clip or --size-px"
        )
    span = (frames - 1) * (deep.stride or 1) + 1
    if span > clips.num_frames:
        raise UserError(
            f"{frames} frames {deep.stride} apart span {span} and "
            f"{storage.without_secrets(clips.uri)} holds {clips.num_frames}: lower --frames or "
            "--stride, or cut with a larger --frames-per-clip"
        )
    return frames, size_px


def facts(network: Mapping[str, Any], weights: str, trained: str) -> Facts:
    """What the defaults of a training follow from, without the memory and time of a network.

    Raises:
        UserError: there is no such network.
    """
    with torch.device("meta"):
        built = models.build(**network)
    return Facts(
        name=network["name"],
        is_pretrained=weights != "none",
        is_transformer=built.is_transformer,
        trains_backbone=trained != "head",
        drop_path=published_rate(built),
    )


def labelled_rows(
    clips: Clips,
    split: str,
    class_names: Sequence[str],
    splits: Mapping[str, str] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``clips`` in ``split``, and the class of each: ``int64 (N,)`` twice.

    Args:
        splits: see ``DeepJob``.

    Raises:
        UserError: a label of the split is not among ``class_names``.
    """
    of_row = clips.table["split"].to_pylist()
    if splits is not None:
        of_row = [splits.get(video) for video in clips.table["video_id"].to_pylist()]
    in_split = np.array(of_row, object) == split
    # Clips are kept without a label for pre-training alone.
    rows = np.flatnonzero(in_split & np.array(clips.table["label"].is_valid()))
    number = {name: k for k, name in enumerate(class_names)}
    labels = [clips.table["label"][row].as_py() for row in rows.tolist()]
    if unknown := sorted(set(labels) - set(number)):
        raise UserError(f"split {split} has label {unknown[0]}, which split train has not")
    return rows, np.array([number[label] for label in labels], np.int64)


def rows_of(job: DeepJob, clips: Clips, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``clips`` in ``split``, and the class of each; in a pre-training all have one.

    There a video without a split is in train.

    Raises:
        UserError: see ``labelled_rows``.
    """
    if job.mask_ratio is None:
        return labelled_rows(clips, split, job.class_names, job.splits)
    of_row = [own or "train" for own in clips.table["split"].to_pylist()]
    rows = np.flatnonzero(np.array(of_row, object) == split)
    return rows, np.zeros(len(rows), np.int64)


def model_info(
    job: DeepJob,
    examples: Examples,
    rows: Sequence[EpochRow] = (),
    *,
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """model.json of the model that ``job`` has trained from clips ``examples`` in ``rows``.

    Args:
        source: repository, commit and licence of the weights it starts from, where they have one.
    """
    precision = rows[-1].precision if rows else job.training.precision
    return {
        "family": "deep",
        "name": names.file_name(job.network["name"]),
        **({} if source is None else {"origin": source}),
        "class_names": job.class_names,
        "data_digest": examples.digest,
        "selection": examples.selection.to_json(),
        "network": job.network,
        "preprocessing": job.preprocessing.to_json(),
        "clip": examples.settings,
        "training": {**dataclasses.asdict(job.training), "precision": precision},
        "trained": job.trained,
        **({} if job.distillation is None else {"distillation": job.distillation.to_info()}),
    }


def make_network(job: DeepJob, *, fresh: bool) -> Architecture:
    """The network as training starts, the same in every worker; not ``fresh`` loads no weights."""
    torch.manual_seed(job.training.seed)
    weights = job.weights if fresh else None
    if job.mask_ratio is not None:
        built = pretraining_network(**job.network, mask_ratio=job.mask_ratio, weights=weights)
        if job.training.checkpointing:
            checkpoint_blocks(built.network, built.blocks)
        return built
    built = models.build(**job.network, weights=weights)
    if job.exits is not None:
        assert isinstance(built.network, ExitNetwork)
        built.network.loss_weight = job.exits.exit_weight
    set_trained(built, job.trained)
    if job.training.drop_path is not None:
        set_drop_path(built, job.training.drop_path)
    loop.check_accumulate(built.network, job.training)
    if job.training.checkpointing:
        checkpoint_blocks(built.network, built.blocks)
    return built
