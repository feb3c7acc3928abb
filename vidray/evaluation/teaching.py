"""One model of either kind: trained, judged on split val, and written as a model folder.

A lesson says what is trained on what. ``model_run`` gives it the folder, ``teach`` fills it:

    classical   pipeline.skops  model.json  metrics.json  importance.json
    deep        weights.safetensors  model.json  metrics.json  history.json  curve.png
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from vidray import masking, models
from vidray.distributed import training
from vidray.evaluation import exits, judging, plots
from vidray.evaluation.drawing import save_figure
from vidray.evaluation.judged import judge
from vidray.learning import recordings
from vidray.learning.deep_job import DeepJob, Trained, make_job, make_network, model_info
from vidray.learning.epochs import EpochRow, OnRows, best_epoch
from vidray.learning.examples import Examples, with_families
from vidray.learning.pruning import start
from vidray.learning.recordings import Demand
from vidray.learning.train_config import ClassicalSettings, FoldSettings, LearningSettings, Workers
from vidray.models import classical, importance, names
from vidray.models.carried_network import check_network, copy_network
from vidray.models.cross_validation import cross_validate
from vidray.models.folder import Model, save_classical, save_deep
from vidray.models.matrices import family_columns, feature_names
from vidray.models.networks.architecture import Architecture
from vidray.storage.json_file import write_json
from vidray.tables import digests, versions
from vidray.tables.run_folder import Kind, RunFolder

_MEANS = ("accuracy", "macro_f1", "macro_auc", "log_loss")


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The result of a lesson.

    Attributes:
        metrics: as metrics.json holds them: ``val``, null without such a split, and
            ``cross_validation`` of a classical model or ``best_epoch`` of a deep one.
        training_seconds: of the training alone, without judging.
        report: its part of run.json.
        rows: epochs of a deep model.
    """

    metrics: dict[str, Any]
    training_seconds: float
    report: dict[str, Any]
    rows: Sequence[EpochRow] = ()


@dataclass(frozen=True, kw_only=True)
class ClassicalLesson:
    """A classical model, from features.

    Args:
        model: its name.
        examples: features, with splits.
    """

    model: str
    examples: Examples
    settings: ClassicalSettings
    folds: FoldSettings
    seed: int

    libraries = versions.CLASSICAL
    kind: ClassVar[Kind] = "model"

    def deciding(self) -> dict[str, Any]:
        """All settings that the model depends on, beside the data."""
        groups = (self.settings, self.folds)
        own = {name: value for group in groups for name, value in dataclasses.asdict(group).items()}
        return own | {"seed": self.seed}

    def check(self) -> None:
        """Raise UserError where the recordings are too few for what is asked for, or the network
        that the features are of cannot be had.
        """
        if self.examples.network is not None:
            check_network(self.examples.network_folder, self.examples.network)
        train, class_names = self.examples.of_split("train"), self.examples.class_names
        demand = Demand(
            folds=self.folds.folds,
            repeats=self.folds.repeats,
            calibrated=self.settings.calibrated,
            seed=self.seed,
            left_out=self.examples.selection.without_classes,
        )
        recordings.check(train.targets(class_names), train.groups, class_names, demand)

    def teach(self, run: RunFolder) -> Taught:
        """Fit the model, judge it, and fill the folder."""
        began = time.monotonic()
        class_names = self.examples.class_names
        train, val = self.examples.of_split("train"), self.examples.of_split("val")
        pipeline = fit(
            self.model, train, class_names, seed=self.seed, calibrated=self.settings.calibrated
        )
        fitted = time.monotonic() - began
        metrics: dict[str, Any] = {"val": None, "cross_validation": None}
        if len(val.table):
            found = classical.predict(pipeline, val.matrix())
            metrics["val"] = judge(val.table, found).metrics(class_names)
        if self.folds.folds:
            metrics["cross_validation"] = self._cross_validation(train)
        save_fitted(run.out, self.model, pipeline, self.examples, class_names, self.examples.digest)
        write_json(run.path("metrics.json"), metrics)
        write_json(run.path("importance.json"), self._importance(pipeline))
        seconds = {"training": fitted, "all": time.monotonic() - began}
        return Taught(metrics=metrics, training_seconds=fitted, report={"seconds": seconds})

    def _cross_validation(self, train: Examples) -> dict[str, Any]:
        """Judge every video of split train by models that saw no video of its recording."""
        class_names = self.examples.class_names
        found = cross_validate(
            self.model,
            train.matrix(),
            train.targets(class_names),
            train.groups,
            class_names,
            seed=self.seed,
            folds=self.folds.folds,
            repeats=self.folds.repeats,
            calibrated=self.settings.calibrated,
        )
        judged = (judge(train.table, one) for one in found.probabilities)
        repeats = [one.metrics(class_names) for one in judged]
        means = {key: _mean([repeat[key] for repeat in repeats]) for key in _MEANS}
        return {**means, "repeats": repeats, "folds": found.metrics}

    def _importance(self, pipeline: Any) -> dict[str, Any]:
        """Importance of families and features, if possible on videos not learnt from."""
        val, network = self.examples.of_split("val"), self.examples.network
        families = self.examples.families
        split = "val" if len(val.table) > 1 else "train"
        held_out = self.examples.of_split(split)
        x, y = held_out.matrix(), held_out.targets(self.examples.class_names)
        return {
            "split": split,
            "families": importance.by_columns(
                pipeline, x, y, family_columns(families, network), seed=self.seed
            ),
            "features": importance.by_feature(
                pipeline, x, y, feature_names(families, network), seed=self.seed
            ),
        }


@dataclass(frozen=True, kw_only=True)
class DeepLesson:
    """A deep model, from clips.

    Args:
        job: what decides its weights.
        examples: clips, with splits.
        workers: who trains.
        on_rows: called after each epoch with the rows so far (``EpochRow`` as dicts).
    """

    job: DeepJob
    examples: Examples
    workers: Workers
    on_rows: OnRows

    libraries = versions.DEEP
    kind: ClassVar[Kind] = "model"

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.job.network["name"])

    def deciding(self) -> dict[str, Any]:
        """All settings that the model depends on, beside the data and its splits."""
        return self.job.deciding()

    def check(self) -> None:
        """Do nothing: a network learns from a single recording of a class, too."""

    def teach(self, run: RunFolder) -> Taught:
        """Train or resume, judge, and fill the folder."""
        job, said = start.begun(self.job, self.examples, run.work)
        started, trained, seconds = train_network(job, self.workers, run, self.on_rows)
        info = model_info(job, self.examples, trained.rows, source=started.source) | said
        save_deep(run.out, info, trained.state)
        if self.job.exits is not None:
            device, allow = judging.device_of("auto"), self.job.exits.allow
            exits.write_rule(run.out, info, self.examples, allow=allow, device=device)
        best = trained.rows[best_epoch(trained.rows, self.job.training)].epoch
        model = models.load(run.out, device=judging.device_of("auto"))  # As a user would.
        metrics = {"val": judge_val(model, self.examples), "best_epoch": best}
        write_json(run.path("metrics.json"), metrics)
        return taught(run, metrics, trained, seconds)


def train_network(
    job: DeepJob, workers: Workers, run: RunFolder, on_rows: OnRows
) -> tuple[Architecture, Trained, float]:
    """Train a network to the end, or go on from where ``run`` stopped.

    Returns:
        The network as it started, what was trained, and the seconds of this call.

    Raises:
        UserError: the weights to start from, or what the cluster has, do not fit.
    """
    started = make_network(job, fresh=True)  # What is wrong is said here, and once.
    if started.loaded:
        print(started.loaded)
    began = time.monotonic()
    trained = training.train(job, folder=run.work, workers=workers, on_rows=on_rows)
    return started, trained, time.monotonic() - began


def taught(run: RunFolder, metrics: dict[str, Any], trained: Trained, seconds: float) -> Taught:
    """The result of a network's training, whose curve is written: history.json and curve.png."""
    history = [dataclasses.asdict(row) for row in trained.rows]
    write_json(run.path("history.json"), history)
    save_figure(plots.training_curve(history), run.path("curve.png"))
    report = {"seconds": {"training": seconds}, "epochs": len(history)}
    return Taught(metrics=metrics, training_seconds=seconds, report=report, rows=trained.rows)


Lesson = ClassicalLesson | DeepLesson


def lesson_of(
    model: str,
    examples: Examples,
    settings: LearningSettings,
    *,
    folds: FoldSettings,
    on_rows: OnRows,
) -> Lesson:
    """The lesson of the model of this name.

    Args:
        examples: features for a classical model, clips for a deep one; with splits.
        folds: of a classical model's cross-validation.
        on_rows: see ``DeepLesson``.

    Raises:
        UserError: what is asked for can't be trained from these clips.
    """
    if model in names.CLASSICAL:
        return ClassicalLesson(
            model=model,
            examples=examples,
            settings=settings.classical,
            folds=folds,
            seed=settings.seed,
        )
    job = make_job(
        model,
        examples,
        examples.class_names,
        deep=settings.deep,
        training=settings.training,
        augmentation=settings.augmentation,
    )
    return DeepLesson(job=job, examples=examples, workers=settings.workers, on_rows=on_rows)


class Claiming(Protocol):
    """A lesson as far as its folder asks: what it depends on."""

    kind: ClassVar[Kind]

    @property
    def libraries(self) -> tuple[str, ...]:
        """Those that decide its numbers."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def examples(self) -> Examples:
        """What is learnt from."""

    def deciding(self) -> dict[str, Any]:
        """All settings that the result depends on, beside the data."""


def model_run(lesson: Claiming, *, data: str, out: str) -> RunFolder:
    """The model folder of a lesson; it is refused where it holds a model of other settings.

    Args:
        data: the run folder that is learnt from, as the user has given it.
        out: the model folder.
    """
    public = {
        "data": data,
        "model": lesson.model,
        "selection": lesson.examples.selection.to_json(),
    }
    values = masking.throughout({**lesson.deciding(), **public})
    return RunFolder(
        out=out,
        kind=lesson.kind,
        same={"digest": digests.of([values, lesson.examples.digest])},
        shown={"config": values},
        libraries=lesson.libraries,
    )


def fit(
    model: str, train: Examples, class_names: Sequence[str], *, seed: int, **options: Any
) -> Any:
    """A classical pipeline, fitted to rows of features; options as of ``classical.fit``."""
    y = train.targets(class_names)
    return classical.fit(model, train.matrix(), y, train.groups, class_names, seed=seed, **options)


def save_fitted(
    out: str,
    model: str,
    pipeline: Any,
    examples: Examples,
    class_names: Sequence[str],
    data_digest: str,
) -> None:
    """Write the pipeline and model.json, and the network whose embeddings the pipeline takes.

    Args:
        examples: of the families that the pipeline takes.
        data_digest: of all that was given to learn from.

    Raises:
        UserError: the network is gone, or has changed since the extraction.
    """
    if examples.network is not None:
        copy_network(examples.network_folder, examples.network, out)
    info = {
        "family": "classical",
        "name": model,
        "class_names": class_names,
        "data_digest": data_digest,
        "selection": examples.selection.to_json(),
        "families": examples.families,
        # Of these families alone: a video to label is described by no others.
        "features": with_families(examples, examples.families).settings,
    }
    save_classical(out, info, pipeline)


def judge_val(model: Model, examples: Examples) -> dict[str, Any] | None:
    """Judge on split val; None where no video is in it."""
    val = examples.of_split("val")
    if not len(val.table):
        return None
    return judge(val.table, judging.predict(model, val)).metrics(examples.class_names)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
