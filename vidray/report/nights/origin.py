"""Where the model of a set of labels comes from: its folder, its training videos, its test.

Found among the given folders only, and only where the digest says that it is this very model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidray.errors import UserError
from vidray.learning import examples
from vidray.learning.examples import Examples
from vidray.learning.selection import Selection
from vidray.models.model_files import name_and_digest
from vidray.report.nights.rows import NightRows
from vidray.report.runs import ClipsRun, ExtractRun, JudgedModel, Runs, TrainedModel, find_stated


@dataclass(frozen=True, kw_only=True)
class LabelOrigin:
    """What is known of the model that made a set of labels.

    Attributes:
        model: its folder.
        data: the run that it learnt from.
        training: rows of ``data`` that it learnt from, one a video: video_id, uri, group, label,
            duration (not of clips) and corrupt share; None where they are not known.
        judged: its answers for the videos it was tested on.
        looked: runs of jobs/extract.py that looked at videos in the same way, the one that the
            model learnt from first: their numbers can be compared.
    """

    model: TrainedModel | None
    data: ExtractRun | ClipsRun | None
    training: pa.Table | None
    judged: JudgedModel | None
    looked: tuple[ExtractRun, ...]


def of_labels(found: NightRows, runs: Runs) -> LabelOrigin:
    """The origin of a set of labels, as far as the given folders have it."""
    digests = found.rows["model_digest"].drop_null()
    digest = digests[len(digests) - 1].as_py() if len(digests) else None
    name = found.history.model_name
    models = [m for m in runs.models if m.info["name"] == name and _digest(m) == digest]
    model = models[0] if models else None
    answers = [
        one
        for one in runs.judged
        if one.report.get("model_digest", "") == digest or (model and one.model is model)
    ]
    # Videos that the model chose itself by (val) it answers too well.
    answers = [one for one in answers if one.split == "test"]
    data = _data(model, runs)
    return LabelOrigin(
        model=model,
        data=data,
        training=_training(model, data),
        judged=max(answers, key=lambda one: len(one.video_ids)) if answers else None,
        looked=_looked(runs, data),
    )


def _digest(model: TrainedModel) -> str | None:
    try:
        return name_and_digest(model.out)[1]
    except (UserError, OSError):
        return None


def _data(model: TrainedModel | None, runs: Runs) -> ExtractRun | ClipsRun | None:
    """The run that a model names as its data, or the only one of that name, where it was moved."""
    if model is None:
        return None
    kind: tuple[ExtractRun | ClipsRun, ...] = runs.clips if model.is_deep else runs.features
    return find_stated(kind, model.config.get("data"))


def _training(model: TrainedModel | None, data: ExtractRun | ClipsRun | None) -> pa.Table | None:
    """The rows of split train, one a video; None where there are none."""
    if model is None or data is None:
        return None
    ok = pc.fill_null(pc.equal(data.rows["status"], "ok"), False)
    rows = data.rows.filter(pc.and_(ok, data.rows["label"].is_valid()))
    if not len(rows):
        return None
    source = data.report.get("videos")
    given = Examples(
        table=rows, families=(), settings={}, source=source if isinstance(source, str) else None
    )
    try:
        of_train = examples.apply(given, Selection.from_info(model.info)).of_split("train").table
    except (UserError, pa.ArrowException):
        return None  # Splits that no training can have had: these are other videos by now.
    wanted = ["video_id", "uri", "group", "label", "duration_seconds", "corrupt_share"]
    table = of_train.select([name for name in wanted if name in of_train.column_names])
    first = np.unique(table["video_id"].to_numpy(), return_index=True)[1]  # Of several clips.
    return table.take(pa.array(np.sort(first))) if len(first) else None


def _looked(runs: Runs, data: ExtractRun | ClipsRun | None) -> tuple[ExtractRun, ...]:
    """Runs of one way to sample and to enhance frames: others give other numbers for one video."""
    first = data if isinstance(data, ExtractRun) else next(iter(runs.features), None)
    if first is None:
        return ()
    others = [run for run in runs.features if run is not first and _way(run) == _way(first)]
    return (first, *others)


def _way(run: ExtractRun) -> str:
    way: Any = run.config.get("extraction")
    kept = {k: v for k, v in way.items() if k != "families"} if isinstance(way, Mapping) else {}
    return json.dumps(kept, sort_keys=True, default=str)
