"""What finished run folders hold, as the page's sections take it; ``reading`` reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError
from vidray.evaluation.metrics import compute_metrics
from vidray.models.importance import Importance
from vidray.tables import runs


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A folder that is not on the page, or a part of one.

    Attributes:
        folder: as it was given, without secrets.
        why: a sentence with the next step.
    """

    folder: str
    why: str


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What all run folders have.

    Attributes:
        out: the folder, canonical.
        name: short, unlike those of all other runs of the page.
        report: run.json; its values are unchecked (``number``).
    """

    out: str
    name: str
    report: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings that the run was started with; unchecked."""
        found = self.report.get("config", {})
        return found if isinstance(found, Mapping) else {}

    def number(self, *path: str) -> float | None:
        """A finite number of run.json, such as ``number("seconds", "working")``; or None."""
        return number_in(self.report, *path)


@dataclass(frozen=True, kw_only=True)
class ExtractRun(FinishedRun):
    """A run of jobs/extract.py.

    Attributes:
        rows: FEATURES without its families; columns that an older version lacks are null.
        families: lengths of the feature families by name.
    """

    rows: pa.Table
    families: Mapping[str, int]

    def matrix(self, families: Sequence[str]) -> NDArray[np.float32]:
        """``float32 (N, D)``: the families side by side, a row of NaN where there is none."""
        table = runs.read_table(self.out, columns=list(families))
        columns = []
        for name in families:
            rows = table[name].combine_chunks()
            values = np.full((len(rows), self.families[name]), np.nan, np.float32)
            is_there = rows.is_valid().to_numpy(zero_copy_only=False)
            flat = rows.drop_null().flatten().to_numpy(zero_copy_only=False)
            values[is_there] = flat.reshape(-1, self.families[name])
            columns.append(values)
        return np.concatenate(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class ClipsRun(FinishedRun):
    """A run of jobs/clips.py.

    Attributes:
        rows: CLIPS without the pixels, a row per clip.
    """

    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class TrainedModel(FinishedRun):
    """A model folder.

    Attributes:
        info: model.json, checked.
        history: a row an epoch of a deep model; unchecked numbers.
        importance: of families and features of a classical one.
    """

    info: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()
    importance: Mapping[str, Sequence[Importance]] | None = None

    @property
    def is_deep(self) -> bool:
        """Whether it is a network."""
        return bool(self.info["family"] == "deep")


@dataclass(frozen=True, kw_only=True)
class JudgedModel(FinishedRun):
    """A run of jobs/evaluate.py: one model's answers for labelled videos.

    Attributes:
        class_names: in the order of the probabilities.
        video_ids, uris, truth, predicted: a value a video.
        groups: the recording of each; None where it is unknown.
        probabilities: ``float64 (N, K)``.
        cost: of metrics.json, finite numbers only.
        baselines: of metrics.json; unchecked.
        model: the model folder, if it is among the given ones.
    """

    class_names: tuple[str, ...]
    video_ids: tuple[str, ...]
    uris: tuple[str, ...]
    truth: tuple[str, ...]
    predicted: tuple[str, ...]
    groups: tuple[str | None, ...]
    probabilities: NDArray[np.float64]
    cost: Mapping[str, float]
    baselines: Mapping[str, Any]
    model: TrainedModel | None = None

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``evaluation.compute_metrics`` of the predictions, whatever metrics.json says."""
        return compute_metrics(self.truth, self.probabilities, self.class_names, groups=self.groups)

    @property
    def split(self) -> str:
        """The split it was judged on."""
        return str(self.config.get("split", "test"))

    @property
    def title(self) -> str:
        """The model's name, if its folder is given; else that of the folder it was in. Of two
        models, one asked after the other, both.
        """
        stated, then = self.config.get("model"), self.config.get("then")
        if self.model is not None:
            return str(self.model.info["name"])
        found = storage.name_of(stated) if isinstance(stated, str) and stated else self.name
        return f"{found}, then {storage.name_of(then)}" if isinstance(then, str) else found


@dataclass(frozen=True, kw_only=True)
class StudyResult(FinishedRun):
    """A run of jobs/study.py.

    Attributes:
        rows: study.parquet (STUDY).
    """

    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class SearchResult(FinishedRun):
    """A run of tune/search.py.

    Attributes:
        trials: trials.parquet; its columns of settings depend on the search.
    """

    trials: pa.Table


@dataclass(frozen=True, kw_only=True)
class LabelHistory(FinishedRun):
    """All nights of one set of labels: one model, one way to label.

    Attributes:
        set_name: such as ``r3d_18-0123456789ab``.
        rows: LABELS, every commit's: several rows of a video that was labelled several times.
        nights: reports of the nights by number of the commit, as far as they are kept; unchecked.
    """

    set_name: str
    rows: pa.Table
    nights: Mapping[int, Mapping[str, Any]]

    @property
    def model_name(self) -> str:
        """The name of its model."""
        return self.set_name.rpartition("-")[0]


@dataclass(frozen=True, kw_only=True)
class Runs:
    """All that the given folders hold, each kind in the order of the folders.

    Attributes:
        folders: as they were given, without secrets.
    """

    folders: tuple[str, ...]
    features: tuple[ExtractRun, ...] = ()
    clips: tuple[ClipsRun, ...] = ()
    models: tuple[TrainedModel, ...] = ()
    judged: tuple[JudgedModel, ...] = ()
    studies: tuple[StudyResult, ...] = ()
    searches: tuple[SearchResult, ...] = ()
    labels: tuple[LabelHistory, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def finished(self) -> Iterator[FinishedRun]:
        """Every run, in the order in which jobs are run."""
        return itertools.chain(
            self.features, self.clips, self.models, self.judged, self.studies, self.searches,
            self.labels,
        )  # fmt: skip


def number_in(values: Any, *path: str) -> float | None:
    """The finite number at a path of nested mappings; None where there is none."""
    for name in path:
        if not isinstance(values, Mapping):
            return None
        values = values.get(name)
    is_number = isinstance(values, int | float) and not isinstance(values, bool)
    return float(values) if is_number and abs(values) < 2**63 else None


_Run = TypeVar("_Run", bound=FinishedRun)


def find_stated(runs: Sequence[_Run], stated: object) -> _Run | None:
    """The run in the folder that another run states; or the only one of its name, where it was
    moved. None if it is not among these, or what is stated is no folder.
    """
    if not isinstance(stated, str) or not stated:
        return None
    try:
        where = storage.canonical(stated)
    except (UserError, ValueError):  # A stranger may have written it.
        where = ""
    of_path = [run for run in runs if run.out == where]
    of_name = [run for run in runs if storage.name_of(run.out) == storage.name_of(stated)]
    # Of several of one name none is known to be the right one.
    found = of_path or (of_name if len(of_name) == 1 else [])
    return found[0] if found else None
