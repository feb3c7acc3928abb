"""One trial of a search: settings in, a score out. Ray Tune runs it, ``report`` is Ray Tune's.

A classical trial is one cross-validation on split train that never splits a recording. A deep one
is a training on Ray's workers, which is judged on split val after each epoch, and leaves a model
folder if it was not stopped before its end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray import storage
from vidray.distributed.training import train
from vidray.errors import UserError
from vidray.learning.deep_job import (
    DeepJob,
    make_job,
    make_network,
    model_info,
)
from vidray.learning.epochs import (
    EpochRow,
    best_epoch,
)
from vidray.learning.examples import (
    Examples,
    apply,
    read_clips,
)
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.selection import Selection
from vidray.learning.train_config import DeepSettings, Workers
from vidray.models.cross_validation import cross_validate
from vidray.models.folder import save_deep
from vidray.models.prepared import Prepared
from vidray.search.proposals import name_of
from vidray.search.settings import Metric, is_loss
from vidray.storage.json_file import write_json

# In the folder of a deep trial: the epoch after which it is to end. A trial of several workers that
# Ray Tune itself stops leaves their places reserved for ever where Ray 2.60 has no dashboard.
STOP = "stop"

Report = Callable[[dict[str, Any]], None]
TrialSettings = Mapping[str, Any]

_OF_EPOCH = {"log_loss": "val_loss", "accuracy": "val_accuracy"}


def recorded(
    run: Callable[[TrialSettings, Report], None], settings: TrialSettings, report: Report
) -> None:
    """Run a trial; an error becomes its result, so it is not tried again and the search goes on."""
    try:
        run(settings, report)
    except MemoryError as error:
        report({"error_message": f"out of memory: {error}"})
    except Exception as error:  # noqa: BLE001  Whatever it is, it is written down.
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        report({"error_message": kind + " ".join(str(error).split())[-500:]})


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassicalTrials:
    """The data of classical trials and their cross-validation.

    Args:
        x: ``float32 (N, D)`` of split train, NaN where unknown.
        y: ``int64 (N,)``.
        groups: N recordings.
        class_names: K names.
        columns: feature family -> its columns of ``x``.
        folder: of a node, for what trials share (see ``Prepared``).
        folds, repeats, calibrated, seed: of the cross-validation.
        metric: what the score is.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    groups: Sequence[str | None]
    class_names: tuple[str, ...]
    columns: Mapping[str, NDArray[np.int64]]
    folder: str
    folds: int
    repeats: int
    calibrated: bool
    metric: Metric
    seed: int

    def run(self, settings: TrialSettings, report: Report) -> None:
        """Report METRICS over all folds, averaged over repeats, and ``best_score``."""
        wanted = settings["families"]
        prepared = Prepared(
            name=" ".join(wanted),
            x=self.x
            if list(wanted) == list(self.columns)
            else self.x[:, np.concatenate([self.columns[family] for family in wanted])],
            y=self.y,
            folder=Path(self.folder),
        )
        found = cross_validate(
            settings["model"],
            prepared.row_numbers,
            self.y,
            self.groups,
            self.class_names,
            seed=self.seed,
            folds=self.folds,
            repeats=self.repeats,
            calibrated=self.calibrated,
            prepared=prepared,
            **classical_options(settings),
        )
        metrics = found.mean_metrics(self.y)
        report({**metrics, "best_score": _finite(metrics[self.metric])})


def classical_options(settings: TrialSettings) -> dict[str, Any]:
    """Arguments of ``classical.fit``, as a trial's settings have them."""
    names = ("dimensionality", "scaling", "kept_variance", "parameters")
    return {name: settings[name] for name in names if name in settings}


@dataclass(frozen=True, kw_only=True)
class DeepTrials:
    """The data of deep trials and their training.

    Args:
        data: run folder of clips.
        work: folder for checkpoints and models, a folder within it for each trial.
        deep, training, augmentation: what a trial's settings do not say.
        workers: who trains.
        metric: what the score is.
        selection: what of ``data`` is learnt from, with the fractions that were decided on.
    """

    data: str
    work: str
    deep: DeepSettings
    training: Training
    augmentation: Augmentation
    workers: Workers
    metric: Metric
    selection: Selection = field(default_factory=Selection)

    def run(self, settings: TrialSettings, report: Report) -> None:
        """Report each epoch as it is done, the last one when the model folder is written."""
        examples = apply(read_clips(self.data), self.selection)
        job = self._job(examples, settings)
        make_network(job, fresh=True)  # What is wrong with it is said at once.
        where = self.folder(settings["number"])
        reports = _EpochReports(report, job.training, self.metric, storage.join(where, STOP))
        checkpoints = storage.join(where, "checkpoints")
        trained = train(
            job, folder=checkpoints, workers=self.workers, on_rows=reports.all_but_the_last_epoch
        )
        if reports.is_stopped:
            return
        rows = [dataclasses.asdict(row) for row in trained.rows]
        save_deep(
            storage.join(where, "model"), model_info(job, examples, trained.rows), trained.state
        )
        write_json(storage.join(where, "model", "history.json"), rows)
        storage.remove_tree(checkpoints, inside=where)
        reports.whole(rows)

    def folder(self, number: int) -> str:
        """The folder of a trial: its checkpoints, then its model."""
        return storage.join(self.work, name_of("deep", number))

    def _job(self, examples: Examples, settings: TrialSettings) -> DeepJob:
        def over(group: Any) -> Any:
            own = {f.name for f in dataclasses.fields(group)} & settings.keys()
            return dataclasses.replace(group, **{name: settings[name] for name in own})

        return make_job(
            settings["model"],
            examples,
            examples.class_names,
            deep=over(self.deep),
            training=dataclasses.replace(
                over(self.training), keep="loss" if is_loss(self.metric) else "accuracy"
            ),
            augmentation=Augmentation(**settings["augmentation"])
            if "augmentation" in settings
            else self.augmentation,
        )


class _EpochReports:
    """Reports of epochs to Ray Tune: each epoch once, also where a training was resumed.

    ``report`` returns when the scheduler has decided, and if that is to stop, ``stop`` is there.
    """

    def __init__(self, report: Report, settings: Training, metric: Metric, stop: str) -> None:
        self._report, self._settings, self._metric = report, settings, metric
        self._stop = stop
        self._number = 0
        self.is_stopped = False

    def all_but_the_last_epoch(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Report all epochs but the last; whether to go on."""
        for end in range(self._number + 1, min(len(rows), self._settings.epochs - 1) + 1):
            self._number = end
            self._report(self._scored(rows[:end]))
            if self._is_to_stop(rows[end - 1]["epoch"]):
                self.is_stopped = True
                return False
        return True

    def _is_to_stop(self, epoch: int) -> bool:
        """Whether Ray Tune wants the trial to stop; a restarted one stops where it did before."""
        return storage.exists(self._stop) and int(storage.read_bytes(self._stop)) <= epoch

    def whole(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.all_but_the_last_epoch(rows)
        self._report({**self._scored(rows), "is_whole": True})

    def _scored(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The last epoch's score, and those of the best so far, whose weights are kept."""
        known = _OF_EPOCH[self._metric]
        kept = rows[best_epoch([EpochRow(**row) for row in rows], self._settings)]
        return {
            "epoch": rows[-1]["epoch"],
            "score": rows[-1][known],
            "best_score": _finite(kept[known]),
            **{name: kept[column] for name, column in _OF_EPOCH.items()},
        }


def _finite(score: float | None) -> float:
    if score is None or not np.isfinite(score):
        raise UserError(f"its score is {score}: it learnt nothing that can be compared")
    return score
