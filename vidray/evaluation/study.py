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
      learning_curve.json, learning_curve.png
      _SUCCESS              written last
"""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError
from vidray.evaluation import judging
from vidray.learning import recordings
from vidray.learning.examples import Examples
from vidray.learning.recordings import Demand
from vidray.models import classical
from vidray.models.folds import fewest_groups, group_folds
from vidray.sources import splits
from vidray.tables import digests
from vidray.tables.work_folder import WorkFolder

Purpose = Literal["test", "cross-validation", "learning-curve"]
Rows = NDArray[np.int64]

# Extra trees over what can be told without looking: see classical.metadata_matrix.
METADATA = "metadata"
BASELINES = (classical.MAJORITY, METADATA)
_CALIBRATED = (*classical.NAMES, METADATA)
CURVE = "learning_curve"
_COLUMNS = ("video_id", "uri", "fingerprint", "label", "split", "group")
_OURS = ("study.json", "study.parquet", f"{CURVE}.json", f"{CURVE}.png", "units")
_MEANS = ("accuracy", "macro_f1", "macro_auc", "log_loss")

STUDY = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("purpose", pa.string(), nullable=False),
        pa.field("repeat", pa.int32()),  # of a cross-validation
        pa.field("fraction", pa.float64()),  # of split train, in a learning curve
        pa.field("train_videos", pa.int32(), nullable=False),  # of a fold: their mean
        pa.field("judged_videos", pa.int32(), nullable=False),
        pa.field("accuracy", pa.float64(), nullable=False),
        pa.field("accuracy_low", pa.float64()),  # 95 % interval over recordings
        pa.field("accuracy_high", pa.float64()),
        pa.field("macro_f1", pa.float64()),
        pa.field("macro_auc", pa.float64()),
        pa.field("log_loss", pa.float64(), nullable=False),
        pa.field("training_seconds", pa.float64(), nullable=False),  # of all folds together
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """One model to train and to ask. Videos are rows of the table they were planned for.

    Attributes:
        seed: of folds and model; the same for all models.
        train: ``int64 (N,)``, what is learnt from.
        val: what a deep model picks its best epoch by; classical ones leave it alone.
        judged: what it gives probabilities for; no recording of it is in ``train`` or ``val``.
        folds, repeat, fold: of a cross-validation.
        fraction: of a learning curve.
    """

    model: str
    purpose: Purpose
    seed: int
    train: Rows
    val: Rows
    judged: Rows
    folds: int | None = None
    repeat: int | None = None
    fold: int | None = None
    fraction: float | None = None

    @property
    def name(self) -> str:
        """Such as ``svm.cross-validation.5-folds.repeat-0.fold-2``: that of its file."""
        parts = [self.model, self.purpose]
        if self.purpose == "cross-validation":
            parts += [f"{self.folds}-folds", f"repeat-{self.repeat}", f"fold-{self.fold}"]
        if self.purpose == "learning-curve":
            parts += [repr(self.fraction)]
        return ".".join(parts)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a unit.

    Attributes:
        probabilities: ``float64 (N, K)`` of the judged videos.
        training_seconds: wall clock.
        best_epoch: the epoch kept of a deep model.
    """

    probabilities: NDArray[np.float64]
    training_seconds: float
    best_epoch: int | None = None


def common_videos(sources: Sequence[Examples]) -> Examples:
    """The videos that every source has, one row each, sorted by id.

    Raises:
        UserError: none are common, sources tell different things of one, or a recording is in two
            splits.
    """
    tables = [source.table.select(list(_COLUMNS)) for source in sources]
    told = [{row["video_id"]: row for row in table.to_pylist()} for table in tables]
    giving = next((k for k, source in enumerate(sources) if source.gives_splits), None)
    if giving is not None:
        for source, rows in zip(sources, told, strict=True):
            if not source.gives_splits:  # It says nothing of them: the other's count.
                for video in rows.keys() & told[giving].keys():
                    rows[video]["split"] = told[giving][video]["split"]
    first, *others = told
    shared = sorted(set(first).intersection(*others))
    if not shared:
        raise UserError(
            "features and clips have no video in common: make both from the same --videos"
        )
    for other in others:
        for video in shared:
            _refuse_difference(first[video], other[video])
    table = pa.Table.from_pylist(
        [first[video] for video in shared], pa.schema([(name, pa.string()) for name in _COLUMNS])
    )
    splits.check_splits(table)
    return Examples(table=table, families=(), settings={}, source=sources[0].source)


def _refuse_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in one.items():
        if other[name] != value:
            raise UserError(
                f"{storage.without_secrets(one['uri'])}: {name} is {value} in the features and "
                f"{other[name]} in the clips: make both from the same --videos"
            )


def subset(
    labels: NDArray[np.int64], groups: Sequence[str | None], *, fraction: float, seed: int
) -> Rows:
    """A part of some videos: no group is split, classes keep their shares, each has a group.

    Groups are put into one seeded order in which the next is always of the class that has the
    smallest share so far; a subset is the beginning of that order whose number of videos is the
    nearest to the fraction. So a smaller subset is contained in a larger one.

    Args:
        labels: ``int (N,)``.
        groups: N names; a video without one is a group of its own.
        fraction: above 0, up to 1.
        seed: of the order.

    Returns:
        ``int64 (M,)``, sorted.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction is {fraction}: it must be above 0 and 1 at the most")
    keys = [(0, row) if name is None else (1, name) for row, name in enumerate(groups)]
    members: dict[tuple[int, str | int], list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.array([np.bincount(codes[m], minlength=len(classes)) for m in members.values()])
    order, first_whole = _order(counts, seed)
    sizes = counts.sum(axis=1)[order].cumsum()
    # Of the beginnings in which every class is: the nearest, of two the smaller.
    off = np.abs(sizes[first_whole:] - fraction * len(labels))
    taken = order[: first_whole + int(off.argmin()) + 1]
    of_group = list(members.values())
    return np.sort(np.concatenate([np.array(of_group[group], np.int64) for group in taken]))


def _order(counts: NDArray[np.int64], seed: int) -> tuple[Rows, int]:
    """Groups (rows of ``counts``, a column a class) in order, and where the last class comes in."""
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    # A queue for each class; a group of several classes is in several, and taken once.
    queues = [iter(shuffled[counts[shuffled, k] > 0].tolist()) for k in range(counts.shape[1])]
    have, total = np.zeros(counts.shape[1], np.int64), counts.sum(axis=0)
    order: list[int] = []
    taken: set[int] = set()
    first_whole = -1
    while len(order) < len(counts):
        neediest = int((have / total).argmin())
        group = next(group for group in queues[neediest] if group not in taken)
        taken.add(group)
        order.append(group)
        have += counts[group]
        if first_whole < 0 and have.all():
            first_whole = len(order) - 1
    return np.array(order, np.int64), first_whole


def plan(
    videos: Examples,
    models: Sequence[str],
    *,
    folds: int,
    repeats: int,
    fractions: Sequence[float],
    seed: int,
    calibrated: bool = True,
) -> list[Unit]:
    """All units, in the order in which they are worth having.

    Args:
        videos: what ``common_videos`` returned.
        models: names, baselines among them; those have no learning curve.
        folds: of the cross-validation over all videos; 0 leaves it out.
        repeats: how often it is done, repeat r with ``seed + r``.
        fractions: of split train, for the learning curve; 1.0 is the unit of the test.
        seed: 0 or more.
        calibrated: whether classical models are, on recordings left out.

    Raises:
        UserError: a split or a class has too little for what is asked for.
    """
    names = videos.class_names
    y, groups = videos.targets(names), videos.groups
    split = np.array(videos.table["split"].to_pylist(), object)
    train, val, test = (np.flatnonzero(split == s) for s in ("train", "val", "test"))
    if not len(test):
        raise UserError(
            f"no labelled video is in split test: {videos.other_fractions()}or add recordings"
        )
    demand = Demand(
        folds=folds,
        repeats=repeats,
        calibrated=calibrated and any(name in _CALIBRATED for name in models),
        seed=seed,
        left_out=videos.selection.without_classes,
    )
    recordings.check(y, groups, names, demand, of="all labelled videos")
    own_groups = [groups[row] for row in train]
    alone = dataclasses.replace(demand, folds=0)
    recordings.check(y[train], own_groups, names, alone)
    units = [
        Unit(model=model, purpose="test", seed=seed, train=train, val=val, judged=test)
        for model in models
    ]
    for repeat in range(repeats if folds else 0):
        found = group_folds(y, groups, folds=folds, seed=seed + repeat, class_names=names)
        units += [
            Unit(
                model=model, purpose="cross-validation", seed=seed + repeat, train=learnt,
                val=np.empty(0, np.int64), judged=judged, folds=folds, repeat=repeat, fold=fold,
            )
            for model in models
            for fold, (learnt, judged) in enumerate(found)
        ]  # fmt: skip
    for fraction in sorted(set(fractions) - {1.0}):
        part = train[subset(y[train], own_groups, fraction=fraction, seed=seed)]
        units += [
            Unit(
                model=model, purpose="learning-curve", seed=seed, train=part, val=val, judged=test,
                fraction=fraction,
            )
            for model in models
            if model not in BASELINES
        ]  # fmt: skip
    if demand.calibrated:
        _check_parts(units, y, groups, names, demand.left_out)
    return units


def _check_parts(
    units: Sequence[Unit],
    y: NDArray[np.int64],
    groups: Sequence[str | None],
    names: Sequence[str],
    left_out: Sequence[str],
) -> None:
    """Parts of split train are calibrated on recordings left out too: said now, not after hours."""
    for unit in units:
        if unit.purpose != "learning-curve" or unit.model not in _CALIBRATED:
            continue
        own = [groups[row] for row in unit.train]
        number, name = fewest_groups(y[unit.train], own, names)
        if number < 2:
            raise UserError(
                f"{unit.name} would learn class {name!r} from {number} recordings, and "
                "classical models need 2: use larger --fractions, --no-calibrated, "
                f"--without-classes {shlex.join([*left_out, name])}, or add recordings"
            )


def seconds_left(known: Sequence[tuple[str, float]], left: Sequence[str]) -> float:
    """How long the units ``left`` (their models) take, by the seconds of those that are ``known``.

    A model that none is known of is taken to need the mean of all.
    """
    of_model: dict[str, list[float]] = {}
    for model, seconds in known:
        of_model.setdefault(model, []).append(seconds)
    overall = statistics.fmean(seconds for _, seconds in known) if known else 0.0
    mean = {model: statistics.fmean(seconds) for model, seconds in of_model.items()}
    return sum(mean.get(model, overall) for model in left)


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """The folder of one study; arguments as of ``WorkFolder``."""

    out: str
    settings: dict[str, Any]
    asked: dict[str, Any]
    libraries: tuple[str, ...] = ()

    @property
    def folder(self) -> WorkFolder:
        """Where all of it lies."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return WorkFolder(kind="study", ours=_OURS, **own)

    def read(self, unit: Unit, videos: Examples) -> Answer | None:
        """The answer of an earlier run; None if there is none, or one about other videos."""

        def parse(values: Mapping[str, Any]) -> Answer | None:
            if values["digest"] != _digest(unit, videos):
                return None
            probabilities = np.array(values["probabilities"], np.float64)
            shape = (len(unit.judged), len(videos.class_names))
            if probabilities.shape != shape or not np.isfinite(probabilities).all():
                raise ValueError("no probabilities")
            epoch = values["best_epoch"]
            return Answer(
                probabilities=probabilities,
                training_seconds=float(values["training_seconds"]),
                best_epoch=None if epoch is None else int(epoch),
            )

        return self.folder.parsed(_where(unit), parse)

    def write(self, unit: Unit, videos: Examples, answer: Answer) -> None:
        """Keep an answer, whole or not at all."""
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
    return digests.of([unit.name, unit.seed, [[ids[row] for row in p.tolist()] for p in parts]])


def summarise(
    videos: Examples,
    units: Sequence[Unit],
    answers: Mapping[str, Answer],
    fractions: Sequence[float] = (),
) -> dict[str, Any]:
    """All figures, as JSON can hold them.

    Args:
        videos, units, fractions: see ``plan``.
        answers: unit's name -> answer.

    Returns:
        ``class_names``; ``test``: model -> figures; ``cross_validation``: model -> ``mean`` and
        ``std`` over repeats of accuracy, macro_f1, macro_auc, log_loss, and ``repeats``, the
        figures of each; ``learning_curve``: figures with ``model`` and ``fraction``. Figures are
        ``train_videos, training_seconds, best_epoch`` and ``metrics``, those of
        ``evaluation.compute_metrics``.
    """

    def figures(*together: Unit) -> dict[str, Any]:
        return _figures(videos, together, [answers[unit.name] for unit in together])

    tests = {unit.model: unit for unit in units if unit.purpose == "test"}
    curve = [unit for unit in units if unit.purpose == "learning-curve"]
    if 1.0 in fractions:
        whole = (unit for model, unit in tests.items() if model not in BASELINES)
        curve += [dataclasses.replace(unit, fraction=1.0) for unit in whole]
    return {
        "class_names": videos.class_names,
        "test": {model: figures(unit) for model, unit in tests.items()},
        "cross_validation": _cross_validations(units, figures),
        "learning_curve": [
            {"model": unit.model, "fraction": unit.fraction, **figures(unit)} for unit in curve
        ],
    }


def _figures(videos: Examples, units: Sequence[Unit], answers: Sequence[Answer]) -> dict[str, Any]:
    """Of one unit, or of all folds of a repeat pooled: every video is judged once."""
    rows = np.concatenate([unit.judged for unit in units])
    probabilities = np.concatenate([answer.probabilities for answer in answers])
    metrics = judging.judge(videos.table.take(rows), probabilities).metrics(videos.class_names)
    best = [answer.best_epoch for answer in answers]
    return {
        "train_videos": round(statistics.fmean(len(unit.train) for unit in units)),
        "training_seconds": sum(answer.training_seconds for answer in answers),
        "best_epoch": best[0] if len(best) == 1 else None,
        "metrics": metrics,
    }


def _cross_validations(
    units: Sequence[Unit], figures: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    folds: dict[str, dict[int, list[Unit]]] = {}
    for unit in units:
        if unit.repeat is not None:
            folds.setdefault(unit.model, {}).setdefault(unit.repeat, []).append(unit)
    found = {}
    for model, of_repeat in folds.items():
        repeats = [figures(*of_repeat[repeat]) for repeat in sorted(of_repeat)]
        values = {key: [r["metrics"][key] for r in repeats] for key in _MEANS}
        found[model] = {
            "mean": {key: _over(statistics.fmean, value, 1) for key, value in values.items()},
            "std": {key: _over(statistics.stdev, value, 2) for key, value in values.items()},
            "repeats": repeats,
        }
    return found


def _over(
    function: Callable[[list[float]], float], values: Sequence[float | None], least: int
) -> float | None:
    known = [value for value in values if value is not None]
    return function(known) if len(known) >= least else None


def to_table(summary: Mapping[str, Any]) -> pa.Table:
    """STUDY: a row per model and purpose, and repeat or fraction."""
    rows = [_row(model, "test", found) for model, found in summary["test"].items()]
    for model, found in summary["cross_validation"].items():
        rows += [
            _row(model, "cross-validation", one, repeat=number)
            for number, one in enumerate(found["repeats"])
        ]
    rows += [
        _row(one["model"], "learning-curve", one, fraction=one["fraction"])
        for one in summary["learning_curve"]
    ]
    return pa.Table.from_pylist(rows, STUDY)


def _row(
    model: str,
    purpose: Purpose,
    found: Mapping[str, Any],
    *,
    repeat: int | None = None,
    fraction: float | None = None,
) -> dict[str, Any]:
    metrics = found["metrics"]
    low, high = metrics["intervals"]["accuracy"] or (None, None)
    return {
        "model": model,
        "purpose": purpose,
        "repeat": repeat,
        "fraction": fraction,
        "train_videos": found["train_videos"],
        "judged_videos": metrics["num_videos"],
        "accuracy_low": low,
        "accuracy_high": high,
        **{key: metrics[key] for key in _MEANS},
        "training_seconds": found["training_seconds"],
    }


def curve_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The learning curve of a STUDY table, as ``plots.learning_curve`` takes it."""
    return [
        {
            **{key: row[key] for key in ("model", "fraction", "train_videos", *_MEANS)},
            "low": row["accuracy_low"],
            "high": row["accuracy_high"],
        }
        for row in table.to_pylist()
        if row["purpose"] == "learning-curve"
    ]
