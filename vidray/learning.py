"""What both families learn from: labelled rows of a finished run, by split, and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray import digests, evaluation, features, runs, storage
from vidray.clips import ClipSettings
from vidray.errors import UserError
from vidray.extraction import Settings
from vidray.models import classical
from vidray.models.folder import ClassicalModel, Model
from vidray.shards import Clips

_HEAD = ("video_id", "uri", "fingerprint", "label", "split", "group", "status")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled videos and what a model is given of each.

    Attributes:
        table: FEATURES or CLIPS, ok and labelled rows only; ``row`` of CLIPS is for ``clips``.
        families: feature families of a FEATURES table; none for clips.
        settings: how the rows were made, as run.json tells.
        clips: where the pixels are; None for features.
    """

    table: pa.Table
    families: tuple[str, ...]
    settings: dict[str, Any]
    clips: Clips | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels of split train, sorted."""
        labels = self.of_split("train").table["label"].unique().to_pylist()
        if len(labels) < 2:
            raise UserError(
                f"split train holds {len(labels)} classes and 2 or more are needed: give the "
                "extracting or cutting job --split-fractions, or a source with splits"
            )
        return tuple(sorted(labels))

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with the videos, their labels, their splits, and with how
        the rows were made.
        """
        columns = [self.table[name].to_pylist() for name in _HEAD[:6]]
        return digests.of([columns, self.settings])

    def of_split(self, split: str) -> Examples:
        """The rows of one split."""
        chosen = pc.equal(self.table["split"], split)
        return dataclasses.replace(self, table=self.table.filter(chosen))

    def targets(self, class_names: Sequence[str]) -> NDArray[np.int64]:
        """``int64 (N,)``: each row's label as an index.

        Raises:
            UserError: a label that is not among ``class_names``.
        """
        number = {name: k for k, name in enumerate(class_names)}
        labels = self.table["label"].to_pylist()
        if unknown := sorted(set(labels) - set(number)):
            raise UserError(f"label {unknown[0]!r} is in no video of split train")
        return np.array([number[label] for label in labels], np.int64)

    @property
    def groups(self) -> list[str | None]:
        """The source recording of each row."""
        groups: list[str | None] = self.table["group"].to_pylist()
        return groups

    def matrix(self) -> NDArray[np.float32]:
        """``float32 (N, D)`` of a FEATURES table."""
        return classical.to_matrix(self.table, self.families)


def read_features(data: str, families: Sequence[str] = ()) -> Examples:
    """The labelled rows of a finished run of ``jobs/extract.py``.

    Args:
        families: the ones wanted; all there are if none is named.

    Raises:
        UserError: no such run, no such family in it, or no labelled row.
    """
    uri = storage.canonical(data)
    report = _report(uri, "features", "jobs/extract.py")
    made_with = _settings(uri, report, "extraction", Settings.from_json)
    there = Settings.from_json(made_with).families
    if missing := [name for name in families if name not in there]:
        features.get_family(missing[0])
        raise UserError(f"{data} has no family {missing[0]}, only {' '.join(there)}")
    chosen = tuple(families) or there
    columns = [*_HEAD, *classical.METADATA_COLUMNS, *chosen]
    table = _labelled(runs.read_table(uri, "features", columns), data)
    return Examples(table=table, families=chosen, settings=made_with)


def with_families(examples: Examples, families: Sequence[str]) -> Examples:
    """Features of some families only, and the settings by which just these are extracted."""
    chosen = tuple(families)
    settings = {**examples.settings, "families": list(chosen)}
    return dataclasses.replace(examples, families=chosen, settings=settings)


def read_clips(data: str) -> Examples:
    """The labelled clips of a finished run of ``jobs/clips.py``."""
    uri = storage.canonical(data)
    report = _report(uri, "clips", "jobs/clips.py")
    clips = Clips(uri)
    table = _labelled(clips.table.append_column("row", pa.array(np.arange(len(clips)))), data)
    made_with = _settings(uri, report, "clip", ClipSettings.from_json)
    return Examples(table=table, families=(), settings=made_with, clips=clips)


def _report(uri: str, table: str, job: str) -> dict[str, Any]:
    if not storage.exists(storage.join(uri, "run.json")):
        raise UserError(f"{uri} is not a run folder (no run.json): make one with {job}")
    report = runs.read_json(uri)
    if report.get("table") != table:
        raise UserError(
            f"{uri} holds {report.get('table', 'a model')}, and this model learns from {table}: "
            f"give a run folder of {job}"
        )
    return report


def _settings(
    uri: str, report: dict[str, Any], name: str, read: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """How the rows were made, as run.json tells; UserError where nobody could make them so."""
    try:
        values: dict[str, Any] = report["config"][name]
        read(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{storage.join(uri, 'run.json')} is damaged (config.{name}: {error}): put back what "
            "was there, or make the run again"
        ) from None
    return values


def _labelled(table: pa.Table, data: str) -> pa.Table:
    kept = pc.and_(pc.equal(table["status"], "ok"), pc.is_valid(table["label"]))
    table = table.filter(kept)
    if not len(table):
        raise UserError(f"{data} has no video that is both ok and labelled")
    return table


def predict(model: Model, examples: Examples) -> NDArray[np.float64]:
    """Probabilities ``float64 (N, K)`` of the rows of ``examples``.

    Raises:
        UserError: a classical model and clips, or a deep one and features.
    """
    if isinstance(model, ClassicalModel):
        if examples.clips is not None:
            raise UserError(f"{model.name} learns from features, not clips: give jobs/extract.py's")
        return model.predict(examples.table)
    if examples.clips is None:
        raise UserError(f"{model.name} learns from clips, not features: give jobs/clips.py's")
    return model.predict_rows(examples.clips.read, examples.table["row"].to_numpy())


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model's answers for videos, clips of one video averaged."""

    video_ids: list[str]
    uris: list[str]
    labels: list[str]
    groups: list[str | None]
    probabilities: NDArray[np.float64]

    def metrics(self, class_names: Sequence[str]) -> dict[str, Any]:
        """``evaluation.compute_metrics``, resampled by recording."""
        return evaluation.compute_metrics(
            self.labels, self.probabilities, class_names, groups=self.groups
        )


def judge(table: pa.Table, probabilities: NDArray[np.float64]) -> Judged:
    """One answer a video of one row or several (clips) of ``table``."""
    ids, averaged = evaluation.average_views(table["video_id"].to_pylist(), probabilities)
    first = {row["video_id"]: row for row in reversed(table.select(list(_HEAD[:6])).to_pylist())}
    rows = [first[video] for video in ids]
    return Judged(
        video_ids=ids,
        uris=[row["uri"] for row in rows],
        labels=[row["label"] for row in rows],
        groups=[row["group"] for row in rows],
        probabilities=averaged,
    )
