"""Labelled features or clips -> a model folder, ready for jobs/evaluate.py and jobs/label.py.

    python jobs/train.py --data runs/features --model extra_trees --out models/trees
    python jobs/train.py --data runs/clips --model r3d_18 --out models/r3d --epochs 30 --workers 2

Classical models learn from a run folder of jobs/extract.py in seconds to minutes; deep ones from
one of jobs/clips.py, on as many workers (CPUs or GPUs) as given, epoch after epoch. Run the same
command again after a kill and it goes on from the last epoch.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from rich.console import Console

from vidray import (
    cli,
    masking,
    models,
    storage,
)
from vidray.distributed import training
from vidray.errors import UserError
from vidray.evaluation import judging, plots
from vidray.evaluation.drawing import save_figure
from vidray.learning import recordings, split_report
from vidray.learning.augment import Augmentation
from vidray.learning.deep_job import (
    DeepJob,
    Trained,
    make_network,
    model_info,
)
from vidray.learning.epochs import (
    EpochRow,
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
from vidray.learning.recordings import Demand
from vidray.learning.train_config import (
    DeepSettings,
    Flat,
    check_model,
    deep_job,
)
from vidray.models import classical, importance
from vidray.models.claim import CHECKPOINTS, ModelRun
from vidray.models.cross_validation import cross_validate
from vidray.models.folder import save_classical, save_deep
from vidray.models.matrices import family_columns, feature_names
from vidray.progress import duration
from vidray.storage.json_file import write_json
from vidray.tables import (
    digests,
    out_folder,
    summary,
    versions,
)
from vidray.tables.summary import Table


@dataclass(frozen=True, kw_only=True)
class ClassicalSettings:
    """Classical models only."""

    families: tuple[str, ...] = ()
    """Feature families to learn from; all that were extracted if none is named."""
    folds: int = 5
    """Folds of the cross-validation on split train; no recording is in two. 0 leaves it out."""
    repeats: int = 3
    """Times it is done, each with other folds."""
    calibrated: bool = True
    """Turn scores into probabilities, by recordings left out: each class needs two. Without, only
    the label of svm has a meaning."""

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise UserError(f"folds is {self.folds}: it must be 2 or more, or 0 for none")
        if self.repeats < 1:
            raise UserError(f"repeats is {self.repeats}: it must be 1 or more")

    def demand(self, seed: int, left_out: tuple[str, ...]) -> Demand:
        """What it asks of the recordings of each class."""
        return Demand(
            folds=self.folds,
            repeats=self.repeats,
            calibrated=self.calibrated,
            seed=seed,
            left_out=left_out,
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train one model, classical or deep."""

    data: str
    """Finished run folder: of jobs/extract.py for a classical model, of jobs/clips.py for a deep
    one; local or in a bucket. Learns from split train, is judged on val; where the data give no
    splits, they are derived (see --split-fractions)."""
    model: str
    """svm, extra_trees, ... or r3d_18, resnet18_avg, ...: a wrong name lists them all."""
    out: str
    """Model folder to write, local or in a bucket."""
    resume: bool = True
    """Go on with an unfinished training of the same settings; --no-resume starts afresh."""
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    classical: Annotated[ClassicalSettings, Flat] = field(default_factory=ClassicalSettings)
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)


def main(config: TrainConfig) -> None:
    """Train, judge on the validation split, write the model folder."""
    check_model(config.model)
    out_folder.check(storage.canonical(config.out), "model")
    if config.model in classical.NAMES:
        _refuse(config, deep=DeepSettings(), training=Training(seed=config.training.seed),
                augmentation=Augmentation())  # fmt: skip
        found = read_features(config.data, config.classical.families)
        _train_classical(config, _selected(config, found))
    else:
        _refuse(config, classical=ClassicalSettings())
        _train_deep(config, _selected(config, read_clips(config.data)))


def _selected(config: TrainConfig, found: Examples) -> Examples:
    examples = select(found, config.selection)
    _ = examples.class_names  # What is wrong with them is said without a table.
    split_report.print_splits(examples, given=found.gives_splits)
    return examples


def _refuse(config: TrainConfig, **defaults: Any) -> None:
    """A flag that this model would ignore is a mistake, and is said to be one."""
    for name, default in defaults.items():
        given = dataclasses.asdict(getattr(config, name))
        for key, value in dataclasses.asdict(default).items():
            if given[key] != value:
                flag = "--" + key.replace("_", "-")
                raise UserError(f"{flag} is of no meaning to {config.model}: leave it out")


def _train_classical(config: TrainConfig, examples: Examples) -> None:
    names = examples.class_names
    seed = config.training.seed
    train, val = examples.of_split("train"), examples.of_split("val")
    y = train.targets(names)
    demand = config.classical.demand(seed, config.selection.without_classes)
    recordings.check(y, train.groups, names, demand)
    run = _run(config, examples, dataclasses.asdict(config.classical) | {"seed": seed})
    if not run.claim(resume=config.resume):
        _say_finished(config)
        return
    began = time.monotonic()
    x, calibrated = train.matrix(), config.classical.calibrated
    pipeline = classical.fit(
        config.model, x, y, train.groups, names, seed=seed, calibrated=calibrated
    )
    fitted = time.monotonic()
    metrics: dict[str, Any] = {"val": None, "cross_validation": None}
    if len(val.table):
        metrics["val"] = judging.judge(
            val.table, classical.predict(pipeline, val.matrix())
        ).metrics(names)
    if config.classical.folds:
        metrics["cross_validation"] = _cross_validation(config, train, names)
    held_out = val if len(val.table) > 1 else train
    held_x, held_y = held_out.matrix(), held_out.targets(names)
    matters = importance.by_columns(
        pipeline, held_x, held_y,
        family_columns(examples.families), seed=seed,
    )  # fmt: skip
    named = importance.by_feature(
        pipeline, held_x, held_y,
        feature_names(examples.families), seed=seed,
    )  # fmt: skip
    info = {
        **_info(config, "classical", examples, names),
        "families": examples.families,
        "features": examples.settings,
    }
    save_classical(run.out, info, pipeline)
    write_json(storage.join(run.out, "metrics.json"), metrics)
    measured_on = "val" if held_out is val else "train"
    write_json(
        storage.join(run.out, "importance.json"),
        {"split": measured_on, "families": matters, "features": named},
    )
    run.finish({"seconds": {"training": fitted - began, "all": time.monotonic() - began}})
    _say(config, metrics, fitted - began)


def _cross_validation(
    config: TrainConfig, train: Examples, names: tuple[str, ...]
) -> dict[str, Any]:
    """Every video of split train judged by models that saw no video of its recording."""
    found = cross_validate(
        config.model,
        train.matrix(),
        train.targets(names),
        train.groups,
        names,
        seed=config.training.seed,
        folds=config.classical.folds,
        repeats=config.classical.repeats,
        calibrated=config.classical.calibrated,
    )
    repeats = [judging.judge(train.table, one).metrics(names) for one in found.probabilities]
    keys = ("accuracy", "macro_f1", "macro_auc", "log_loss")
    means = {key: _mean([repeat[key] for repeat in repeats]) for key in keys}
    return {**means, "repeats": repeats, "folds": found.metrics}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _train_deep(config: TrainConfig, examples: Examples) -> None:
    names = examples.class_names
    assert examples.clips is not None
    job = deep_job(
        config.model,
        examples,
        names,
        deep=config.deep,
        training=config.training,
        augmentation=config.augmentation,
    )
    settings = job.to_json() | {"data": config.data, "splits": None}  # The digest tells those.
    run = _run(config, examples, settings)
    if config.deep.tensorboard:
        _check_tensorboard()
    if not run.claim(resume=config.resume):
        _say_finished(config)
        return
    started = make_network(job, fresh=True)  # What is wrong is said here, and once.
    if started.loaded:
        print(started.loaded)
    began = time.monotonic()
    trained = training.train(
        job,
        folder=storage.join(run.out, CHECKPOINTS),
        workers=config.deep.who,
        on_rows=_Epochs(config.training.epochs, began),
    )
    seconds = time.monotonic() - began
    save_deep(run.out, model_info(job, examples), trained.state)
    metrics = {"val": _judge_deep(run.out, examples, names), "best_epoch": _best(job, trained)}
    write_json(storage.join(run.out, "metrics.json"), metrics)
    history = [dataclasses.asdict(row) for row in trained.rows]
    write_json(storage.join(run.out, "history.json"), history)
    save_figure(plots.training_curve(history), storage.join(run.out, "curve.png"))
    if config.deep.tensorboard:
        _write_tensorboard(run.out, trained.rows)
    run.finish({"seconds": {"training": seconds}, "epochs": len(history)})
    _say(config, metrics, seconds)


def _judge_deep(out: str, examples: Examples, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The saved model, loaded as a user would, on the validation split."""
    val = examples.of_split("val")
    if not len(val.table):
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models.load(out, device=device)
    return judging.judge(val.table, judging.predict(model, val)).metrics(names)


def _best(job: DeepJob, trained: Trained) -> int:
    return trained.rows[best_epoch(trained.rows, job.training)].epoch


def _run(config: TrainConfig, examples: Examples, settings: dict[str, Any]) -> ModelRun:
    public = {
        "data": config.data,
        "model": config.model,
        "selection": dataclasses.asdict(examples.selection),
    }
    values = masking.throughout({**settings, **public})
    digest = digests.of([values, examples.digest])
    is_classical = config.model in classical.NAMES
    libraries = versions.CLASSICAL if is_classical else versions.DEEP
    out = storage.canonical(config.out)
    return ModelRun(out=out, digest=digest, config=values, libraries=libraries)


def _info(
    config: TrainConfig, family: str, examples: Examples, names: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "family": family,
        "name": config.model,
        "class_names": names,
        "data_digest": examples.digest,
        "selection": examples.selection,
    }


class _Epochs:
    """Prints a line an epoch, with what is left."""

    def __init__(self, epochs: int, began: float) -> None:
        self._epochs, self._began, self._first = epochs, began, 0

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        row = rows[-1]
        if not self._first:
            self._first = row["epoch"]
            self._began = time.monotonic() - row["seconds"] - row["seconds_validating"]
        done = row["epoch"] - self._first + 1
        left = (time.monotonic() - self._began) / done * (self._epochs - row["epoch"])
        val = "" if row["val_loss"] is None else (
            f"val {row['val_loss']:.3f} {row['val_accuracy']:.1%}, "
        )  # fmt: skip
        waited = row["seconds_waiting_for_data"] / row["seconds"]
        print(
            f"epoch {row['epoch']}/{self._epochs}: "
            f"loss {row['train_loss']:.3f} accuracy {row['train_accuracy']:.1%}, {val}"
            f"{row['clips_per_second']:.1f} clips/s, {waited:.1%} waiting for data, "
            f"{row['peak_memory_bytes'] / 2**30:.2f} GiB, {duration(left)} left",
            flush=True,
        )


def _check_tensorboard() -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        message = "--tensorboard needs the extra: pip install 'vidray[tensorboard]'"
        raise UserError(message) from None


def _write_tensorboard(out: str, rows: list[EpochRow]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    if storage.is_bucket(out):
        raise UserError(f"{out} is in a bucket, and TensorBoard's files are written locally")
    with SummaryWriter(storage.join(out, "tensorboard")) as writer:
        for row in rows:
            for name, value in dataclasses.asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch)


def _say_finished(config: TrainConfig) -> None:
    print(f"nothing to do: {config.out} holds the finished model of this training")


def _say(config: TrainConfig, metrics: dict[str, Any], seconds: float) -> None:
    """What a person wants to know at the end."""
    table = Table("judged on", "videos", "accuracy", "95 %", "macro F1", "macro AUC", box=None)
    shown = {"val": metrics["val"], "cross-validation": metrics.get("cross_validation")}
    for name, found in shown.items():
        if found is None:
            continue
        source = found if "intervals" in found else found["repeats"][0]
        low, high = source["intervals"]["accuracy"] or (float("nan"), float("nan"))
        auc = found["macro_auc"]
        table.add_row(
            name,
            str(source["num_videos"]),
            f"{found['accuracy']:.3f}",
            f"{low:.2f} to {high:.2f}",
            f"{found['macro_f1']:.3f}",
            "-" if auc is None else f"{auc:.3f}",
        )
    if table.row_count:
        Console(width=summary.WIDTH).print(table)
    print(f"{config.model}: trained in {duration(seconds)}, model folder {config.out}")


if __name__ == "__main__":
    cli.run(TrainConfig, main)
