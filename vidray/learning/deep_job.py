"""What trains a deep model, as data: the job, who trains it, what it leaves. No Ray here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidray import models
from vidray.errors import UserError
from vidray.learning import loop
from vidray.learning.augment import Augmentation
from vidray.learning.epochs import (
    EpochRow,
)
from vidray.learning.hyperparameters import Training
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import set_trained
from vidray.models.networks.checkpointing import checkpoint_blocks
from vidray.models.preprocess import Preprocessing
from vidray.tables.shards import Clips

if TYPE_CHECKING:  # It imports scikit-learn, and each of the workers would.
    from vidray.learning.examples import Examples


@dataclass(frozen=True, kw_only=True)
class DeepJob:
    """Everything that decides the weights of a deep model.

    Args:
        data: run folder of clips.
        class_names: in the order of the network's outputs.
        network: keyword arguments of ``models.build_model``, the weights left out.
        weights: ``none``, ``default`` or a safetensors file: where training starts from.
        trained: ``all``, ``head`` or ``last_N_blocks``.
        splits: video_id -> split, instead of the split column of ``data``: for folds and subsets.
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

    def to_json(self) -> dict[str, Any]:
        """For Ray's workers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeepJob:
        """The job that ``to_json`` was taken of."""
        parts = {
            "class_names": tuple(values["class_names"]),
            "training": Training(**values["training"]),
            "augmentation": Augmentation(**values["augmentation"]),
            "preprocessing": Preprocessing.from_json(values["preprocessing"]),
        }
        return cls(**{**values, **parts})


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who trains.

    Args:
        workers: training processes; the weights do not depend on their number.
        min_workers: go on with as few after a node is lost; None waits for all of them.
        use_gpu: one GPU each; None takes them where the cluster has enough.
        max_failures: how often workers are started again after one died.
        most_cpus: of one worker; None takes its share of the cluster.
        in_process: the one worker is the process that calls ``train``: nothing is started, and
            there is no checkpoint to go on from.
    """

    workers: int = 1
    min_workers: int | None = None
    use_gpu: bool | None = None
    max_failures: int = 3
    most_cpus: int | None = None
    in_process: bool = False

    def __post_init__(self) -> None:
        if self.in_process and self.workers > 1:
            raise UserError(f"workers is {self.workers}: the calling process is one")
        if self.workers < 1:
            raise UserError(f"workers is {self.workers}: it must be 1 or more")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            rule = f"from 1 to workers, which is {self.workers}"
            raise UserError(f"min_workers is {self.min_workers}: it must be {rule}")


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the best epoch's state dict, and a row per epoch."""

    state: dict[str, torch.Tensor]
    rows: list[EpochRow]


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
    rows = np.flatnonzero(np.array(of_row, object) == split)
    number = {name: k for k, name in enumerate(class_names)}
    labels = [clips.table["label"][row].as_py() for row in rows.tolist()]
    if unknown := sorted(set(labels) - set(number)):
        raise UserError(f"split {split} has label {unknown[0]}, which split train has not")
    return rows, np.array([number[label] for label in labels], np.int64)


def model_info(job: DeepJob, examples: Examples) -> dict[str, Any]:
    """model.json of what ``job`` trains from clips ``examples``."""
    return {
        "family": "deep",
        "name": job.network["name"],
        "class_names": job.class_names,
        "data_digest": examples.digest,
        "selection": dataclasses.asdict(examples.selection),
        "network": job.network,
        "preprocessing": dataclasses.asdict(job.preprocessing),
        "clip": examples.settings,
    }


def make_network(job: DeepJob, *, fresh: bool) -> Architecture:
    """The network as training starts, the same in every worker; not ``fresh`` loads no weights."""
    torch.manual_seed(job.training.seed)
    weights = job.weights if fresh else None
    built = models.build(**job.network, weights=weights)
    set_trained(built, job.trained)
    loop.check_accumulate(built.network, job.training)
    if job.training.checkpointing:
        checkpoint_blocks(built.network, built.blocks)
    return built
