"""A model's answers for the videos of a split: one a video, clips averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray.evaluation.answers import average_views
from vidray.evaluation.metrics import compute_metrics
from vidray.learning.examples import HEAD
from vidray.sources import splits


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model's answers for videos, clips of one video averaged.

    Attributes:
        exit_stages: of a network with early exits: how far the clips of a video went, the one that
            went furthest.
    """

    video_ids: list[str]
    uris: list[str]
    labels: list[str]
    groups: list[str | None]
    probabilities: NDArray[np.float64]
    exit_stages: list[int] | None = None

    def metrics(self, class_names: Sequence[str]) -> dict[str, Any]:
        """``evaluation.compute_metrics``, resampled by recording."""
        return compute_metrics(self.labels, self.probabilities, class_names, groups=self.groups)


def judge(
    table: pa.Table,
    probabilities: NDArray[np.float64],
    stages: NDArray[np.int32] | None = None,
) -> Judged:
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
        exit_stages=None if stages is None else furthest(table, stages, ids),
    )


def furthest(table: pa.Table, stages: NDArray[np.int32], ids: Sequence[str]) -> list[int]:
    """The largest stage of the clips of each video of ``ids``; ``stages`` is ``int32 (N,)``."""
    most: dict[str, int] = dict.fromkeys(ids, 0)
    for video, stage in zip(table["video_id"].to_pylist(), stages.tolist(), strict=True):
        most[video] = max(most[video], stage)
    return [most[video] for video in ids]
