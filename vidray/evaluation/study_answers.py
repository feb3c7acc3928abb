"""Answers of a study: each unit's model is trained and gives probabilities."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from vidray import models, storage
from vidray.distributed import training
from vidray.errors import UserError
from vidray.evaluation import judging
from vidray.evaluation.judged import judge
from vidray.evaluation.study_folders import judge_folder
from vidray.evaluation.study_plan import METADATA, Unit
from vidray.learning.deep_job import DeepJob, make_job
from vidray.learning.epochs import best_epoch
from vidray.learning.examples import Examples
from vidray.learning.train_config import LearningSettings
from vidray.models import DeepModel, classical, names
from vidray.models.matrices import metadata_matrix, to_matrix
from vidray.video.clips import ClipSettings


@dataclass(frozen=True, kw_only=True)
class UnitAnswer:
    """The answer of a unit.

    Attributes:
        probabilities: ``float64 (N, K)`` of the judged videos.
        training_seconds: wall clock.
        best_epoch: the epoch kept of a deep model.
        seconds_per_video: of the model alone, given its features or clips; wall clock.
    """

    probabilities: NDArray[np.float64]
    training_seconds: float | None
    best_epoch: int | None = None
    seconds_per_video: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyVideos:
    """The videos of a study, with their features and clips."""

    videos: Examples
    features: Examples | None
    clips: Examples | None

    def matrix(self, model: str) -> NDArray[np.float32]:
        """The input of a classical model or a baseline: ``float32 (N, D)``, a row per video."""
        if model == names.MAJORITY:
            return np.zeros((len(self.videos.table), 1), np.float32)
        return metadata_matrix(self._rows) if model == METADATA else self._features

    @cached_property
    def _rows(self) -> pa.Table:
        """The features in the order of ``videos``."""
        assert self.features is not None
        ids = pa.array(self.videos.table["video_id"].to_pylist(), pa.string())
        rows = pc.index_in(ids, self.features.table["video_id"].combine_chunks())
        return self.features.table.take(rows)

    @cached_property
    def _features(self) -> NDArray[np.float32]:
        assert self.features is not None
        return to_matrix(self._rows, self.features.families)

    def job(self, model: str, assigned: Examples, settings: LearningSettings) -> DeepJob:
        """A training on the clips of the videos of ``assigned``, by the splits it gives them."""
        assert self.clips is not None
        columns = (assigned.table[name].to_pylist() for name in ("video_id", "split"))
        split = dict(zip(*columns, strict=True))
        of_clip = [split.get(video) for video in self.clips.table["video_id"].to_pylist()]
        job = make_job(
            model,
            _with_splits(self.clips, of_clip),
            self.videos.class_names,
            deep=settings.deep,
            training=settings.training,
            augmentation=settings.augmentation,
        )
        return dataclasses.replace(job, splits={k: v for k, v in split.items() if v is not None})


def _with_splits(examples: Examples, of_row: list[str | None]) -> Examples:
    index = examples.table.schema.get_field_index("split")
    table = examples.table.set_column(index, "split", pa.array(of_row, pa.string()))
    return dataclasses.replace(examples, table=table)


class StudyTeacher:
    """Trains a unit's model and gets its probabilities; holds what all units share."""

    def __init__(self, data: StudyVideos, settings: LearningSettings, work: str) -> None:
        """Take the data, the settings, and a folder for checkpoints."""
        self._data, self._settings, self._work = data, settings, work
        self._names = data.videos.class_names
        self._y = data.videos.targets(self._names)

    def answer(self, unit: Unit) -> UnitAnswer:
        """The answer of a unit; UserError, with the unit's name, if it can't be trained."""
        try:
            if unit.folder is not None:
                return self._folder(unit)
            return self._deep(unit) if unit.model in names.DEEP else self._classical(unit)
        except UserError as error:
            raise UserError(f"{unit.name}: {error}") from error

    def _folder(self, unit: Unit) -> UnitAnswer:
        sources = {"features": self._data.features, "clips": self._data.clips}
        found, seconds = judge_folder(unit, self._data.videos, sources)
        return UnitAnswer(probabilities=found, training_seconds=None, seconds_per_video=seconds)

    def _classical(self, unit: Unit) -> UnitAnswer:
        x, groups = self._data.matrix(unit.model), self._data.videos.groups
        began = time.monotonic()
        fitted = classical.fit(
            "extra_trees" if unit.model == METADATA else unit.model,
            x[unit.train],
            self._y[unit.train],
            [groups[row] for row in unit.train],
            self._names,
            seed=unit.seed,
            calibrated=self._settings.classical.calibrated,
        )
        seconds = time.monotonic() - began
        began = time.perf_counter()
        found = classical.predict(fitted, x[unit.judged])
        each = (time.perf_counter() - began) / len(unit.judged)
        return UnitAnswer(probabilities=found, training_seconds=seconds, seconds_per_video=each)

    def _deep(self, unit: Unit) -> UnitAnswer:
        job = self._unit_job(unit)
        folder = storage.join(self._work, unit.name)
        began = time.monotonic()
        trained = training.train(
            job, folder=folder, workers=self._settings.workers, on_rows=lambda _: None
        )
        seconds = time.monotonic() - began
        found, each = self._predict(unit, job, trained.state)
        answer = UnitAnswer(
            probabilities=found,
            training_seconds=seconds,
            seconds_per_video=each,
            best_epoch=trained.rows[best_epoch(trained.rows, job.training)].epoch,
        )
        storage.remove_tree(folder, inside=self._work)
        return answer

    def _unit_job(self, unit: Unit) -> DeepJob:
        split = np.full(len(self._y), None, object)
        split[unit.train], split[unit.val] = "train", "val"
        assigned = _with_splits(self._data.videos, split.tolist())
        job = self._data.job(unit.model, assigned, self._settings)
        # Without validation there is nothing to be patient about: all epochs are trained.
        patience = job.training.patience if unit.purpose != "cross-validation" else 0
        own = dataclasses.replace(job.training, seed=unit.seed, patience=patience)
        return dataclasses.replace(job, training=own)

    def _predict(
        self, unit: Unit, job: DeepJob, state: Mapping[str, torch.Tensor]
    ) -> tuple[NDArray[np.float64], float]:
        """``float64 (N, K)``: clips of one video averaged, in the order of ``unit.judged``; and the
        seconds a video.
        """
        clips = self._data.clips
        assert clips is not None
        network = models.build_model(**job.network)
        network.load_state_dict(state)
        model = DeepModel(
            name=unit.model,
            class_names=job.class_names,
            network=network.to(torch.device(judging.device_of("auto"))).eval(),
            preprocessing=job.preprocessing,
            clip=ClipSettings.from_json(clips.settings),
            info={},
        )
        ids = self._data.videos.table["video_id"].take(pa.array(unit.judged))
        table = clips.table.filter(pc.is_in(clips.table["video_id"], ids.combine_chunks()))
        asked = dataclasses.replace(clips, table=table)
        began = time.perf_counter()
        found = judging.predict(model, asked)
        seconds = (time.perf_counter() - began) / len(unit.judged)
        judged = judge(table, found)
        row = {video: k for k, video in enumerate(judged.video_ids)}
        return judged.probabilities[[row[video] for video in ids.to_pylist()]], seconds
