"""Judged models, made by hand: which videos each is right on is stated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.runs import (
    ExtractRun,
    JudgedModel,
    LabelHistory,
    StudyResult,
    TrainedModel,
)
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.tables import schema
from vidray.tables.schema import STUDY

CLASSES = ("jump", "run")


def tools(**settings: Any) -> Tools:
    """Tools of a page without frames."""
    return Tools(
        settings=ReportSettings(frames=False, **settings), thumbnails=Thumbnails(is_on=False)
    )


def judged(
    name: str,
    right: Sequence[bool],
    *,
    videos: Sequence[str] | None = None,
    truth: Sequence[str] | None = None,
    classes: Sequence[str] = CLASSES,
    groups: Sequence[str | None] | None = None,
    sure: float = 0.8,
    cost: Mapping[str, float] | None = None,
    baselines: Mapping[str, Any] | None = None,
    model: TrainedModel | None = None,
    report: Mapping[str, Any] | None = None,
) -> JudgedModel:
    """A model that answers the true class where it is right, else the next one."""
    number = len(right)
    truth = truth or [classes[k % len(classes)] for k in range(number)]
    scores = np.full((number, len(classes)), (1 - sure) / (len(classes) - 1))
    for row, (label, is_right) in enumerate(zip(truth, right, strict=True)):
        k = classes.index(label)
        scores[row, k if is_right else (k + 1) % len(classes)] = sure
    ids = videos or [f"v{k:03}" for k in range(number)]
    return JudgedModel(
        out=f"/runs/{name}_test",
        name=f"{name}_test",
        report={"config": {"model": f"/runs/{name}", "split": "test"}} | dict(report or {}),
        class_names=tuple(classes),
        video_ids=tuple(ids),
        uris=tuple(f"/videos/{video}.mp4" for video in ids),
        truth=tuple(truth),
        predicted=tuple(classes[k] for k in scores.argmax(axis=1)),
        groups=tuple(groups or [None] * number),
        probabilities=scores,
        cost=cost or {},
        baselines=baselines or {},
        model=model,
    )


def mostly(number: int, wrong: int, *, start: int = 0) -> list[bool]:
    """Right but for ``wrong`` videos from ``start`` on."""
    return [not start <= k < start + wrong for k in range(number)]


def features(name: str, groups: Mapping[str, str | None], **more: Any) -> ExtractRun:
    """A run of features of these videos, with their recordings and, if given, ``labels``."""
    labels = more.pop("labels", {})
    rows = [
        {"video_id": v, "uri": f"/videos/{v}.mp4", "group": g, "label": labels.get(v)}
        for v, g in groups.items()
    ]
    wanted = schema.features_schema({})
    nullable = pa.schema([field.with_nullable(True) for field in wanted])
    table = pa.Table.from_pylist(rows, schema=nullable)
    return ExtractRun(
        out=f"/runs/{name}", name=name, rows=table, **{"report": {}, "families": {}, **more}
    )


def trained(name: str, *, family: str = "classical", **more: Any) -> TrainedModel:
    """A model folder."""
    info = {"family": family, "name": name, "class_names": list(CLASSES), **more.pop("info", {})}
    return TrainedModel(
        out=f"/runs/{name}",
        name=name,
        report=more.pop("report", {"seconds": {"training": 12.5}}),
        info=info,
        **more,
    )


def nights(name: str, digest: str, reports: Mapping[int, Mapping[str, Any]]) -> LabelHistory:
    """Labels of a model in nights with these reports."""
    rows = pa.table({"video_id": ["a"], "model_digest": [digest]})
    return LabelHistory(
        out=f"/runs/{name}", name=name, report={}, set_name="x-1", rows=rows, nights=reports
    )


def study(name: str, rows: Sequence[Mapping[str, Any]], *, out: str = "/runs/study") -> StudyResult:
    """A study with these rows of STUDY; what they lack is null."""
    nullable = pa.schema([field.with_nullable(True) for field in STUDY])
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=nullable)
    return StudyResult(out=out, name=name, report={}, rows=table)
