"""Compare models fairly: every family on the same videos, the same folds, the same test set.

    python jobs/study.py --features runs/features --clips runs/clips --out runs/study
        --models extra_trees svm resnet18_avg r3d_18 --fractions 0.1 0.25 0.5 1.0

Needs finished runs of jobs/extract.py (classical models) and jobs/clips.py (deep ones) over the
same videos. Each model is trained once for the test set, folds x repeats times for the
cross-validation and once per fraction for the learning curve: minutes for classical models, that
many trainings for deep ones. Each is stored as it is done; run the same command again after a kill
and it goes on from there, also with models, folds or fractions added. Leaves study.json,
study.parquet, learning_curve.json and learning_curve.png.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from rich.console import Console

from vidray import cli, models, storage
from vidray.distributed import training
from vidray.errors import UserError
from vidray.evaluation import judging, plots, study
from vidray.evaluation.drawing import save_figure
from vidray.evaluation.study import Answer, StudyRun, Unit
from vidray.learning import split_report
from vidray.learning.augment import Augmentation
from vidray.learning.deep_job import DeepJob, make_network
from vidray.learning.epochs import (
    best_epoch,
)
from vidray.learning.examples import (
    Examples,
    Selection,
    read_clips,
    read_features,
    select,
)
from vidray.learning.hyperparameters import Training
from vidray.learning.train_config import (
    DeepSettings,
    Flat,
    check_model,
    deciding_settings,
    deep_job,
)
from vidray.models import DeepModel, classical
from vidray.models.folds import MOST_REPEATS
from vidray.models.matrices import metadata_matrix, to_matrix
from vidray.progress import duration
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables import (
    digests,
    out_folder,
    summary,
    versions,
)
from vidray.tables.summary import Table
from vidray.tables.work_folder import WORK
from vidray.video.clips import ClipSettings


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Compare models: test set, cross-validation, learning curve."""

    models: tuple[str, ...]
    """Classical and deep ones: svm, extra_trees, ... r3d_18, resnet18_avg, ..."""
    out: str
    """Folder to write, local or in a bucket."""
    features: str | None = None
    """Finished run of jobs/extract.py: for classical models, and for the baseline of metadata."""
    clips: str | None = None
    """Finished run of jobs/clips.py over the same videos: for deep models."""
    families: tuple[str, ...] = ()
    """Feature families to learn from; all that were extracted if none is named."""
    folds: int = 5
    """Folds of the cross-validation over all labelled videos, whatever their split; no recording
    is in two. A deep model keeps its last epoch there. 0 leaves it out."""
    repeats: int = 3
    """Times it is done, each with other folds."""
    calibrated: bool = True
    """Turn scores of classical models into probabilities, by recordings left out: each class needs
    two. Without, only the label of svm has a meaning."""
    fractions: tuple[float, ...] = ()
    """Of split train, for the learning curve: subsets of whole recordings, each within the next."""
    resume: bool = True
    """Go on with a study of the same settings; --no-resume starts afresh."""
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in self.models:
            check_model(name)
        if not self.models:
            raise UserError("no models are named: give --models extra_trees r3d_18, for instance")
        if self.folds < 0 or self.folds == 1:
            raise UserError(f"folds is {self.folds}: it must be 2 or more, or 0 for none")
        if not 1 <= self.repeats <= MOST_REPEATS:
            most = MOST_REPEATS
            raise UserError(f"repeats is {self.repeats}: it must be 1 to {most}")
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise UserError(f"fraction {fraction} must be above 0 and 1 at the most")
        if self.classical_models and self.features is None:
            raise UserError(f"{self.classical_models[0]} learns from features: give --features")
        if self.deep_models and self.clips is None:
            raise UserError(f"{self.deep_models[0]} learns from clips: give --clips")
        self._refuse_idle_flags()

    def _refuse_idle_flags(self) -> None:
        """A flag that changes nothing is a mistake, and is said to be one."""
        if self.deep.tensorboard:
            raise UserError("--tensorboard is for jobs/train.py: leave it out")
        plain = (DeepSettings(), Training(seed=self.training.seed), Augmentation())
        if not self.deep_models and (self.deep, self.training, self.augmentation) != plain:
            raise UserError(
                "there are flags for deep models and no deep model among --models: leave them out"
            )

    @property
    def classical_models(self) -> list[str]:
        """In the order given, each once."""
        return [name for name in dict.fromkeys(self.models) if name in classical.NAMES]

    @property
    def deep_models(self) -> list[str]:
        """In the order given, each once."""
        return [name for name in dict.fromkeys(self.models) if name in models.DEEP]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is compared on: the videos, and what the families are given of them."""

    videos: Examples
    features: Examples | None
    clips: Examples | None


def main(config: StudyConfig) -> None:
    """Train and ask every model, then write and show what came of it."""
    began = time.monotonic()
    out_folder.check(storage.canonical(config.out), "study")
    data = _read(config)
    baselines = study.BASELINES if data.features is not None else (classical.MAJORITY,)
    units = study.plan(
        data.videos,
        [*baselines, *dict.fromkeys(config.models)],
        folds=config.folds,
        repeats=config.repeats,
        fractions=config.fractions,
        seed=config.training.seed,
        calibrated=config.calibrated,
    )
    run = StudyRun(
        out=storage.canonical(config.out),
        settings=_settings(config, data),
        asked=_asked(config, data),
        libraries=(*versions.CLASSICAL, *(versions.DEEP if config.deep_models else ())),
    )
    run.folder.claim(resume=config.resume)
    answers = _answer_all(config, run, data, units)
    found = study.summarise(data.videos, units, answers, config.fractions)
    table = study.to_table(found)
    write_json(storage.join(run.out, "study.json"), {"videos": _counts(data), **found})
    storage.write_bytes(storage.join(run.out, "study.parquet"), parquet.parquet_bytes(table))
    if curve := study.curve_rows(table):
        write_json(storage.join(run.out, f"{study.CURVE}.json"), curve)
        save_figure(plots.learning_curve(curve), storage.join(run.out, f"{study.CURVE}.png"))
    run.folder.finish(videos=_counts(data), seconds=time.monotonic() - began)
    _say(config, data, found)


def _read(config: StudyConfig) -> Data:
    """Both runs, videos that are not in both left out."""
    features = config.features and read_features(config.features, config.families)
    clips = config.clips and read_clips(config.clips)
    sources = [source for source in (features, clips) if source]
    if not sources:
        raise UserError("there is nothing to learn from: give --features or --clips")
    given = study.common_videos(sources)
    videos = select(given, config.selection)
    _ = videos.class_names  # What is wrong with them is said without a table.
    split_report.print_splits(videos, given=given.gives_splits)
    return Data(videos=videos, features=features or None, clips=clips or None)


def _settings(config: StudyConfig, data: Data) -> dict[str, Any]:
    """What every answer depends on."""
    settings: dict[str, Any] = {
        "seed": config.training.seed,
        "videos": data.videos.digest,
        "calibrated": config.calibrated,
    }
    if data.features is not None:
        made = digests.of(data.features.settings)
        settings |= {"features": made, "families": list(data.features.families)}
    if data.clips is not None:
        settings["clips"] = digests.of(data.clips.settings)
    if config.deep_models:
        settings |= deciding_settings(config.deep, config.training, config.augmentation)
    return settings


def _asked(config: StudyConfig, data: Data) -> dict[str, Any]:
    sources = {"features": config.features, "clips": config.clips}
    return {
        **{name: uri and storage.without_secrets(uri) for name, uri in sources.items()},
        "models": list(config.models),
        "selection": dataclasses.asdict(data.videos.selection),
        "folds": config.folds,
        "repeats": config.repeats,
        "fractions": list(config.fractions),
    }


def _counts(data: Data) -> dict[str, int]:
    """Videos by split, all of them, and how many either run alone has."""
    splits = pc.value_counts(data.videos.table["split"].drop_null()).to_pylist()
    counts = {split["values"]: split["counts"] for split in splits}
    sources = [source for source in (data.features, data.clips) if source is not None]
    every = {video for source in sources for video in source.table["video_id"].to_pylist()}
    total = len(data.videos.table)
    return {**counts, "all": total, "left_out": len(every) - total}


def _answer_all(
    config: StudyConfig, run: StudyRun, data: Data, units: Sequence[Unit]
) -> dict[str, Answer]:
    """Every unit's answer: those of an earlier run, and the others one by one."""
    stored = {unit.name: run.read(unit, data.videos) for unit in units}
    answers = {name: answer for name, answer in stored.items() if answer is not None}
    left = [unit for unit in units if unit.name not in answers]
    for name in dict.fromkeys(unit.model for unit in left if unit.model in models.DEEP):
        # What is wrong with a network is said here, before any work.
        started = make_network(_job(config, data, name, data.videos), fresh=True)
        if started.loaded:
            print(started.loaded, flush=True)
    if answers:
        print(f"{len(answers)} of {len(units)} units were done already", flush=True)
    teacher = _Teacher(config, run, data)
    known = [(u.model, answers[u.name].training_seconds) for u in units if u.name in answers]
    while left:
        unit = left.pop(0)
        began = time.monotonic()
        answer = teacher.answer(unit)
        run.write(unit, data.videos, answer)
        answers[unit.name] = answer
        seconds = time.monotonic() - began
        known.append((unit.model, seconds))
        to_come = duration(study.seconds_left(known, [other.model for other in left]))
        done = len(units) - len(left)
        print(f"{done}/{len(units)} {unit.name}: {seconds:.1f} s, {to_come} left", flush=True)
    return answers


def _job(config: StudyConfig, data: Data, model: str, assigned: Examples) -> DeepJob:
    """A training of the clips of the videos of ``assigned``, by the splits it tells."""
    assert data.clips is not None
    split = dict(zip(*(assigned.table[c].to_pylist() for c in ("video_id", "split")), strict=True))
    of_clip = [split.get(video) for video in data.clips.table["video_id"].to_pylist()]
    index = data.clips.table.schema.get_field_index("split")
    table = data.clips.table.set_column(index, "split", pa.array(of_clip, pa.string()))
    job = deep_job(
        model,
        dataclasses.replace(data.clips, table=table),
        data.videos.class_names,
        deep=config.deep,
        training=config.training,
        augmentation=config.augmentation,
    )
    return dataclasses.replace(job, splits={k: v for k, v in split.items() if v is not None})


class _Teacher:
    """Trains the model of a unit and asks it; holds what all units share."""

    def __init__(self, config: StudyConfig, run: StudyRun, data: Data) -> None:
        self._config, self._run, self._data = config, run, data
        self._names = data.videos.class_names
        self._y = data.videos.targets(self._names)
        self._given = {classical.MAJORITY: np.zeros((len(self._y), 1), np.float32)}
        if data.features is not None:
            ids = pa.array(data.videos.table["video_id"].to_pylist(), pa.string())
            rows = pc.index_in(ids, data.features.table["video_id"].combine_chunks())
            table = data.features.table.take(rows)
            self._given[study.METADATA] = metadata_matrix(table)
            if config.classical_models:
                matrix = to_matrix(table, data.features.families)
                self._given |= dict.fromkeys(config.classical_models, matrix)

    def answer(self, unit: Unit) -> Answer:
        """Raises UserError, with the unit's name, for what can't be trained."""
        try:
            return self._deep(unit) if unit.model in models.DEEP else self._classical(unit)
        except UserError as error:
            raise UserError(f"{unit.name}: {error}") from error

    def _classical(self, unit: Unit) -> Answer:
        x, groups = self._given[unit.model], self._data.videos.groups
        name = "extra_trees" if unit.model == study.METADATA else unit.model
        began = time.monotonic()
        fitted = classical.fit(
            name,
            x[unit.train],
            self._y[unit.train],
            [groups[row] for row in unit.train],
            self._names,
            seed=unit.seed,
            calibrated=self._config.calibrated,
        )
        seconds = time.monotonic() - began
        return Answer(
            probabilities=classical.predict(fitted, x[unit.judged]), training_seconds=seconds
        )

    def _deep(self, unit: Unit) -> Answer:
        job = self._unit_job(unit)
        folder = storage.join(self._run.out, WORK, unit.name)
        began = time.monotonic()
        trained = training.train(
            job, folder=folder, workers=self._config.deep.who, on_rows=lambda _: None
        )
        seconds = time.monotonic() - began
        answer = Answer(
            probabilities=self._predict(unit, job, trained.state),
            training_seconds=seconds,
            best_epoch=trained.rows[best_epoch(trained.rows, job.training)].epoch,
        )
        storage.remove_tree(folder, inside=self._run.out)
        return answer

    def _unit_job(self, unit: Unit) -> DeepJob:
        split = np.full(len(self._y), None, object)
        split[unit.train], split[unit.val] = "train", "val"
        table = self._data.videos.table
        index = table.schema.get_field_index("split")
        assigned = dataclasses.replace(
            self._data.videos,
            table=table.set_column(index, "split", pa.array(split.tolist(), pa.string())),
        )
        job = _job(self._config, self._data, unit.model, assigned)
        # Without validation there is nothing to be patient about: all epochs are trained.
        patience = job.training.patience if unit.purpose != "cross-validation" else 0
        own = dataclasses.replace(job.training, seed=unit.seed, patience=patience)
        return dataclasses.replace(job, training=own)

    def _predict(
        self, unit: Unit, job: DeepJob, state: Mapping[str, torch.Tensor]
    ) -> NDArray[np.float64]:
        """``float64 (N, K)``: clips of one video averaged, in the order of ``unit.judged``."""
        clips = self._data.clips
        assert clips is not None
        network = models.build_model(**job.network)
        network.load_state_dict(state)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = DeepModel(
            name=unit.model,
            class_names=job.class_names,
            network=network.to(torch.device(device)).eval(),
            preprocessing=job.preprocessing,
            clip=ClipSettings.from_json(clips.settings),
            info={},
        )
        ids = self._data.videos.table["video_id"].take(pa.array(unit.judged))
        table = clips.table.filter(pc.is_in(clips.table["video_id"], ids.combine_chunks()))
        asked = dataclasses.replace(clips, table=table)
        judged = judging.judge(table, judging.predict(model, asked))
        row = {video: k for k, video in enumerate(judged.video_ids)}
        return judged.probabilities[[row[video] for video in ids.to_pylist()]]


def _say(config: StudyConfig, data: Data, found: Mapping[str, Any]) -> None:
    """What a person wants to know at the end."""
    counts = _counts(data)
    if counts["left_out"]:
        print(f"{counts['left_out']} videos are not in both runs, and were left out")
    console = Console(width=summary.WIDTH)
    first = next(iter(found["test"].values()))
    print(
        f"\ntest: {first['train_videos']} videos to learn from, "
        f"{first['metrics']['num_videos']} to be judged on"
    )
    console.print(_test_table(found["test"]))
    if found["cross_validation"]:
        print(f"\ncross-validation: {config.folds} folds of all {counts['all']} videos, mean and")
        print(f"standard deviation of {config.repeats} repeats")
        console.print(_cross_validation_table(found["cross_validation"]))
    if found["learning_curve"]:
        print("\nlearning curve: accuracy on the test videos by number of training videos")
        console.print(_curve_table(found["learning_curve"]))
    print(f"\nstudy folder {config.out}")


def _test_table(tests: Mapping[str, Any]) -> Table:
    table = Table("model", "accuracy", "95 %", "macro F1", "macro AUC", "training", box=None)
    for model, one in tests.items():
        metrics = one["metrics"]
        table.add_row(
            model,
            _shown(metrics["accuracy"]),
            _interval(metrics["intervals"]["accuracy"]),
            _shown(metrics["macro_f1"]),
            _shown(metrics["macro_auc"]),
            f"{one['training_seconds']:.1f} s",
        )
    return table


def _cross_validation_table(found: Mapping[str, Any]) -> Table:
    table = Table("model", "accuracy", "95 % of repeat 1", "macro F1", "macro AUC", box=None)
    for model, one in found.items():
        cells = [
            f"{_shown(one['mean'][key])} ± {_shown(one['std'][key])}"
            for key in ("accuracy", "macro_f1", "macro_auc")
        ]
        interval = _interval(one["repeats"][0]["metrics"]["intervals"]["accuracy"])
        table.add_row(model, cells[0], interval, *cells[1:])
    return table


def _curve_table(curve: Sequence[Mapping[str, Any]]) -> Table:
    sizes = sorted({(one["fraction"], one["train_videos"]) for one in curve})
    accuracy = {(one["model"], one["fraction"]): one["metrics"]["accuracy"] for one in curve}
    table = Table("model", *(f"{number} ({part:g})" for part, number in sizes), box=None)
    for model in dict.fromkeys(one["model"] for one in curve):
        table.add_row(model, *(_shown(accuracy[model, part]) for part, _ in sizes))
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


if __name__ == "__main__":
    cli.run(StudyConfig, main)
