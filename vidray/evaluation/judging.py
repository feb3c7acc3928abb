"""Judging: a model's probabilities for the videos of a split, held against their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.evaluation import compute_metrics
from vidray.evaluation.answers import (
    average_views,
)
from vidray.learning.examples import HEAD, Examples
from vidray.models.folder import ClassicalModel, Model
from vidray.sources import splits


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
        return compute_metrics(self.labels, self.probabilities, class_names, groups=self.groups)


def judge(table: pa.Table, probabilities: NDArray[np.float64]) -> Judged:
    """One answer a video of one row or several (clips) of ``table``."""
    ids, averaged = average_views(table["video_id"].to_pylist(), probabilities)
    first = {row["video_id"]: row for row in reversed(table.select(list(HEAD[:6])).to_pylist())}
    rows = [first[video] for video in ids]
    recording = dict(
        zip(table["video_id"].to_pylist(), splits.known_recordings(table), strict=True)
    )
    return Judged(
        video_ids=ids,
        uris=[row["uri"] for row in rows],
        labels=[row["label"] for row in rows],
        groups=[recording[video] for video in ids],
        probabilities=averaged,
    )
