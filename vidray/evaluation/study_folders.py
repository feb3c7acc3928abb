"""Model folders beside the models of a study: exports, pruned networks, networks with exits.

They are not trained here: each has learnt from the study's split train, and is judged on its test
videos. And what a video takes, of models of both kinds: to make what the model is given, as the
finished run says, and for the model alone, as measured here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray import models, storage
from vidray.errors import UserError
from vidray.evaluation import judging
from vidray.evaluation.judged import judge
from vidray.evaluation.study_plan import Unit
from vidray.learning.examples import Examples, apply
from vidray.learning.selection import Selection
from vidray.models.folder import Model
from vidray.models.model_files import name_and_digest, read_info
from vidray.tables import run_folder


def folder_units(folders: Sequence[str], units: Sequence[Unit]) -> list[Unit]:
    """A test unit for each model folder, named as its folder is.

    Raises:
        UserError: two of one name, or one that is no model folder.
    """
    taken = {unit.model for unit in units}
    like = next(unit for unit in units if unit.purpose == "test")
    found = []
    for folder in folders:
        name = storage.name_of(storage.canonical(folder))
        if name in taken:
            raise UserError(
                f"--folders: two models of this study are called {name!r}: rename the folder "
                f"{storage.without_secrets(folder)}"
            )
        taken.add(name)
        found.append(
            dataclasses.replace(
                like,
                model=name,
                folder=folder,
                digest=name_and_digest(folder)[1],
                family=read_info(folder)["family"],
            )
        )
    return found


def judge_folder(
    unit: Unit, videos: Examples, sources: Mapping[str, Examples | None]
) -> tuple[NDArray[np.float64], float]:
    """Probabilities ``float64 (N, K)`` of the judged videos, and seconds a video for them.

    Args:
        unit: of a model folder.
        videos: of the study, with its splits.
        sources: ``features`` and ``clips``, where the study has them.

    Raises:
        UserError: the model has learnt from other videos, or tells other classes apart.
    """
    assert unit.folder is not None
    assert unit.takes is not None
    source = sources[unit.takes]
    if source is None:
        raise UserError(f"{unit.model} is judged on {unit.takes}: give --{unit.takes}")
    model = models.load(unit.folder, device=judging.device_of("auto"))
    given = judging.matching(model, source, unit.takes)
    _check(model, given, videos)
    ids = videos.table["video_id"].take(pa.array(unit.judged))
    table = given.table.filter(pc.is_in(given.table["video_id"], ids.combine_chunks()))
    asked = dataclasses.replace(given, table=table)
    judging.predict(model, dataclasses.replace(asked, table=table.slice(0, 1)))  # Warmed up.
    began = time.perf_counter()
    found = judging.predict(model, asked)
    seconds = (time.perf_counter() - began) / len(unit.judged)
    judged = judge(table, found)
    row = {video: k for k, video in enumerate(judged.video_ids)}
    columns = [model.class_names.index(name) for name in videos.class_names]
    rows = [row[video] for video in ids.to_pylist()]
    return judged.probabilities[np.ix_(rows, columns)], seconds


def _check(model: Model, given: Examples, videos: Examples) -> None:
    if set(model.class_names) != set(videos.class_names):
        raise UserError(
            f"the model knows {len(model.class_names)} classes, {model.class_names[0]!r} among "
            f"them, and the study has {len(videos.class_names)}, such as "
            f"{videos.class_names[0]!r}: all models of a study tell the same apart"
        )
    trained_on = apply(given, Selection.from_info(model.info))
    splits = dict(
        zip(*(trained_on.table[name].to_pylist() for name in ("video_id", "split")), strict=True)
    )
    test = videos.of_split("test").table["video_id"].to_pylist()
    if seen := sum(splits.get(video) in ("train", "val") for video in test):
        problem = f"{seen} of the study's {len(test)} test videos were in its training"
    elif model.info.get("data_digest") != trained_on.digest:
        problem = "it has learnt from other videos than this run holds"
    else:
        return
    raise UserError(
        f"{problem}, and only models of the study's own splits are judged beside its models: train "
        "it on the same run, with the same --split-fractions and --seed"
    )


def seconds_to_make(run: str | None) -> float | None:
    """CPU-seconds a video to make what a model is given, as a finished run of jobs/extract.py or
    jobs/clips.py says; None where it does not.
    """
    if run is None:
        return None
    report: Mapping[str, Any] = run_folder.read_json(storage.canonical(run))
    try:
        done = report["counts"]["videos"] - report.get("videos_done_before", 0)
        seconds = sum(report["seconds"]["in_workers"].values())
        return float(seconds / done) if done > 0 and seconds > 0 else None
    except (KeyError, TypeError, AttributeError):
        return None
