"""Models compared fairly: the same videos, recordings, folds and test set for every one of them.

    videos ─> plan ─> units: a model, the videos it learns from, those it is judged on
                        │ answered one by one, each answer a small file
                        └─> summarise: test, cross-validation, learning curve

An answer is probabilities, not figures: figures are made of all answers at the end, so a study
that was killed goes on with its next unit, and one that is widened keeps what it has.

    OUT/
      run.json              what ran: settings, versions ("running" until the end)
      units/MODEL.PURPOSE.*.json   an answer each
      _work/                checkpoints of the deep model that is being trained
      study.json            all figures
      study.parquet         a row per model, purpose and repeat or fraction (STUDY)
      pareto.png            accuracy against the seconds a video takes
      learning_curve.json, learning_curve.png
      _SUCCESS              written last
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from vidray import storage
from vidray.errors import UserError
from vidray.evaluation import plots, study_figures, study_plan
from vidray.evaluation.drawing import save_figure
from vidray.evaluation.study_answers import StudyTeacher, StudyVideos, UnitAnswer
from vidray.evaluation.study_folders import folder_units, seconds_to_make
from vidray.evaluation.study_plan import Unit
from vidray.evaluation.study_settings import StudySettings
from vidray.learning import split_report
from vidray.learning.deep_job import make_network
from vidray.learning.examples import Examples, read_clips, read_features, select
from vidray.models import names
from vidray.progress import duration
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables import digests, run_folder, versions
from vidray.tables.run_folder import RunFolder

CURVE = "learning_curve"


@dataclass(frozen=True, kw_only=True)
class Study:
    """The result of a study.

    Attributes:
        figures: as study.json holds them, without the counts.
        counts: videos by split, all of them, and how many either run alone has (``left_out``).
    """

    figures: dict[str, Any]
    counts: dict[str, int]


def run(settings: StudySettings, out: str, *, overwrite: bool) -> Study:
    """Train and judge every model, then write the results.

    Raises:
        UserError: what is asked for can't be done with these videos, or the folder holds something
            else.
    """
    began = time.monotonic()
    before = run_folder.check(out, "study")
    recorded = before.get("asked") if before and not overwrite else None
    data = _read(settings, recorded)
    baselines = study_plan.BASELINES if data.features is not None else (names.MAJORITY,)
    planned = study_plan.plan(
        data.videos,
        [*baselines, *dict.fromkeys(settings.models)],
        folds=settings.folds,
        fractions=settings.fractions,
        seed=settings.learning.seed,
        calibrated=settings.learning.classical.calibrated,
    )
    units = [*planned, *folder_units(settings.folders, planned)]
    folder = StudyRun(
        out=out,
        settings=_deciding(settings, data),
        asked=_asked(settings, data),
        libraries=(*versions.CLASSICAL, *(versions.DEEP if settings.deep_models else ())),
    )
    folder.folder.claim(overwrite=overwrite)
    answers = _answer_all(settings, folder, data, units)
    found = Study(
        figures=study_figures.summarise(
            data.videos,
            units,
            answers,
            settings.fractions,
            making={
                "features": seconds_to_make(settings.features),
                "clips": seconds_to_make(settings.clips),
            },
        ),
        counts=_counts(data),
    )
    _write(folder.folder, found)
    folder.folder.finish(videos=found.counts, seconds=time.monotonic() - began)
    return found


def _write(folder: RunFolder, found: Study) -> None:
    table = study_figures.to_table(found.figures)
    write_json(folder.path("study.json"), {"videos": found.counts, **found.figures})
    storage.write_bytes(folder.path("study.parquet"), parquet.parquet_bytes(table))
    if rows := study_figures.front_rows(table):
        save_figure(plots.tradeoff(rows), folder.path("pareto.png"))
    if curve := study_figures.curve_rows(table):
        write_json(folder.path(f"{CURVE}.json"), curve)
        save_figure(plots.learning_curve(curve), folder.path(f"{CURVE}.png"))


def _read(settings: StudySettings, recorded: Mapping[str, Any] | None) -> StudyVideos:
    """Read both runs, without the videos that only one of them has."""
    families = settings.learning.classical.families
    features = settings.features and read_features(settings.features, families)
    clips = settings.clips and read_clips(settings.clips)
    sources = [source for source in (features, clips) if source]
    if not sources:
        raise UserError("there is nothing to learn from: give --features or --clips")
    given = study_plan.common_videos(sources)
    videos = select(given, settings.selection, recorded=recorded)
    _ = videos.class_names  # What is wrong with them is said without a table.
    split_report.print_splits(videos, given=given.gives_splits)
    return StudyVideos(videos=videos, features=features or None, clips=clips or None)


def _deciding(settings: StudySettings, data: StudyVideos) -> dict[str, Any]:
    """The settings that every answer depends on."""
    found: dict[str, Any] = {
        "seed": settings.learning.seed,
        "videos": data.videos.digest,
        "calibrated": settings.learning.classical.calibrated,
    }
    if data.features is not None:
        made = digests.of(data.features.settings)
        found |= {"features": made, "families": list(data.features.families)}
    if data.clips is not None:
        found["clips"] = digests.of(data.clips.settings)
    return found | (settings.learning.deciding_deep() if settings.deep_models else {})


def _asked(settings: StudySettings, data: StudyVideos) -> dict[str, Any]:
    sources = {"features": settings.features, "clips": settings.clips}
    return {
        **{name: uri and storage.without_secrets(uri) for name, uri in sources.items()},
        "models": list(settings.models),
        "folders": [storage.without_secrets(folder) for folder in settings.folders],
        "selection": data.videos.selection.to_json(),
        **dataclasses.asdict(settings.folds),
        "fractions": list(settings.fractions),
    }


def _counts(data: StudyVideos) -> dict[str, int]:
    splits = pc.value_counts(data.videos.table["split"].drop_null()).to_pylist()
    counts = {split["values"]: split["counts"] for split in splits}
    sources = [source for source in (data.features, data.clips) if source is not None]
    every = {video for source in sources for video in source.table["video_id"].to_pylist()}
    total = len(data.videos.table)
    return {**counts, "all": total, "left_out": len(every) - total}


def _answer_all(
    settings: StudySettings, run: StudyRun, data: StudyVideos, units: Sequence[Unit]
) -> dict[str, UnitAnswer]:
    """Answer every unit: take the answers of an earlier run, compute the others one by one."""
    stored = {unit.name: run.read(unit, data.videos) for unit in units}
    answers = {name: answer for name, answer in stored.items() if answer is not None}
    left = [unit for unit in units if unit.name not in answers]
    for name in dict.fromkeys(u.model for u in left if u.takes == "clips" and not u.folder):
        # What is wrong with a network is said here, before any work.
        started = make_network(data.job(name, data.videos, settings.learning), fresh=True)
        if started.loaded:
            print(started.loaded, flush=True)
    if answers:
        print(f"{len(answers)} of {len(units)} units were done already", flush=True)
    teacher = StudyTeacher(data, settings.learning, run.folder.work)
    known = [(u.model, answers[u.name].training_seconds or 0.0) for u in units if u.name in answers]
    while left:
        unit = left.pop(0)
        began = time.monotonic()
        answer = teacher.answer(unit)
        run.write(unit, data.videos, answer)
        answers[unit.name] = answer
        seconds = time.monotonic() - began
        known.append((unit.model, seconds))
        to_come = duration(seconds_left(known, [other.model for other in left]))
        done = len(units) - len(left)
        print(f"{done}/{len(units)} {unit.name}: {seconds:.1f} s, {to_come} left", flush=True)
    return answers


def seconds_left(known: Sequence[tuple[str, float]], left: Sequence[str]) -> float:
    """Seconds that the units ``left`` (their models) take, by the seconds of the ``known`` ones. A
    model without known seconds counts as the mean of all.
    """
    of_model: dict[str, list[float]] = {}
    for model, seconds in known:
        of_model.setdefault(model, []).append(seconds)
    overall = statistics.fmean(seconds for _, seconds in known) if known else 0.0
    mean = {model: statistics.fmean(seconds) for model, seconds in of_model.items()}
    return sum(mean.get(model, overall) for model in left)


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """The folder of one study.

    Args:
        settings: those that every answer depends on (see ``RunFolder``).
        asked: the rest of what run.json shows of the config.
        libraries: that decide the answers.
    """

    out: str
    settings: dict[str, Any]
    asked: dict[str, Any]
    libraries: tuple[str, ...] = ()

    @property
    def folder(self) -> RunFolder:
        """The URI of the folder."""
        return RunFolder(
            out=self.out,
            kind="study",
            settings=self.settings,
            shown={"asked": self.asked},
            libraries=self.libraries,
        )

    def read(self, unit: Unit, videos: Examples) -> UnitAnswer | None:
        """The answer of an earlier run; None if there is none, or one about other videos."""

        def parse(values: Mapping[str, Any]) -> UnitAnswer | None:
            if values["digest"] != _digest(unit, videos):
                return None
            probabilities = np.array(values["probabilities"], np.float64)
            shape = (len(unit.judged), len(videos.class_names))
            if probabilities.shape != shape or not np.isfinite(probabilities).all():
                raise ValueError("no probabilities")
            epoch, trained = values["best_epoch"], values["training_seconds"]
            each = values.get("seconds_per_video")  # Older answers lack it.
            return UnitAnswer(
                probabilities=probabilities,
                training_seconds=None if trained is None else float(trained),
                best_epoch=None if epoch is None else int(epoch),
                seconds_per_video=None if each is None else float(each),
            )

        return self.folder.parsed(_where(unit), parse)

    def write(self, unit: Unit, videos: Examples, answer: UnitAnswer) -> None:
        """Write an answer, whole or not at all."""
        ids = videos.table["video_id"].to_pylist()
        values = {
            **dataclasses.asdict(answer),
            "digest": _digest(unit, videos),
            "video_ids": [ids[row] for row in unit.judged.tolist()],
            "probabilities": answer.probabilities.tolist(),
        }
        self.folder.write(_where(unit), values)


def _where(unit: Unit) -> str:
    return f"units/{unit.name}.json"


def _digest(unit: Unit, videos: Examples) -> str:
    ids = videos.table["video_id"].to_pylist()
    parts = (unit.train, unit.val, unit.judged)
    own = [] if unit.digest is None else [unit.digest]
    rows = [[ids[row] for row in part.tolist()] for part in parts]
    return digests.of([unit.name, unit.seed, rows, *own])
