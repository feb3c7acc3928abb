"""One search, from its folder to its winners.

    claim the folder ─> trials of each kind on Ray ─> table ─> winners, judged ─> search.json

Where the time is limited and both kinds are searched, each kind's first trials, its models as they
are, come before the further ones of any kind: a slow kind is not left out by a long one.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidray import storage
from vidray.distributed.capacity import connect
from vidray.errors import UserError
from vidray.evaluation.drawing import save_figure
from vidray.learning.examples import Examples
from vidray.learning.train_config import Workers
from vidray.models import classical
from vidray.models.matrices import family_columns
from vidray.models.names import ModelKind
from vidray.search import conductor, winners
from vidray.search.conductor import Plan
from vidray.search.importances import importances
from vidray.search.labelled_runs import LabelledRun
from vidray.search.plots import importance_bars, search_curve
from vidray.search.proposals import Proposals, SearchSpace, Trial, to_table
from vidray.search.settings import SearchSettings
from vidray.search.trials import ClassicalTrials, DeepTrials
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables import versions
from vidray.tables.run_folder import RunFolder

# A deep trial without a GPU: more threads than this share a clip badly.
_MOST_CPUS = 4
_LIBRARIES: dict[ModelKind, tuple[str, ...]] = {
    "classical": (*versions.CLASSICAL, "optuna"),
    "deep": (*versions.DEEP, "optuna"),
}


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to search, the data, and the output folder.

    Args:
        out: the folder to write.
        runs: what each kind learns from.
        models: names that each kind is chosen from.
        first: the same in the order in which they are tried.
        space_of: what there is to try, of a kind, its examples, and ``first``.
    """

    out: str
    settings: SearchSettings
    runs: Mapping[ModelKind, LabelledRun]
    models: Mapping[ModelKind, tuple[str, ...]]
    first: Mapping[ModelKind, tuple[str, ...]]
    space_of: Callable[[ModelKind, Examples, Sequence[str]], SearchSpace]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search.

    Args:
        trials: all of them, those of earlier runs too.
        best: the kind whose winner is the best on split val.
        winners: see ``winners.hand_over``.
        importances: kind -> model -> parameter -> share of the scores' variance.
        seconds: that this run took.
    """

    trials: Sequence[Trial]
    best: ModelKind
    winners: Mapping[ModelKind, Mapping[str, Any]]
    importances: Mapping[ModelKind, Mapping[str, Mapping[str, float]]]
    seconds: float

    def of(self, kind: ModelKind) -> list[Trial]:
        """The trials of one kind."""
        return [trial for trial in self.trials if trial.kind == kind]


def run(search: Search, *, asked: Mapping[str, Any], overwrite: bool) -> Found:
    """Search each kind, write the best model of each, and write the results.

    Args:
        asked: what run.json shows beside the settings.
        overwrite: remove an earlier search from the folder first.

    Raises:
        UserError: the folder holds something else, or no trial came to its end.
    """
    began = time.monotonic()
    settings = search.settings
    connect()
    folder = _claim(search, asked, overwrite)
    trials = _tried(search, folder, time.monotonic())  # Ray's start does not count.
    storage.write_bytes(folder.path("trials.parquet"), parquet.parquet_bytes(to_table(trials)))
    best = winners.hand_over(
        folder, search.runs, trials, metric=settings.metric, seed=settings.seed
    )
    if not best:
        raise UserError(_nothing_found(trials, folder.path("trials.parquet")))
    found = Found(
        trials=trials,
        best=winners.choose(folder, best, metric=settings.metric),
        winners=best,
        importances={
            kind: importances([t for t in trials if t.kind == kind], seed=settings.seed)
            for kind in search.runs
        },
        seconds=time.monotonic() - began,
    )
    _write(folder, found, search)
    return found


def _nothing_found(trials: Sequence[Trial], table: str) -> str:
    if not trials:
        return "no trial was begun in the time given: give more --minutes"
    reason = next((trial.error for trial in trials if trial.error), "all were stopped")
    return (
        f"no trial came to its end ({reason}): see {table}, and give --overwrite to start afresh "
        "with what is right"
    )


def _claim(search: Search, asked: Mapping[str, Any], overwrite: bool) -> RunFolder:
    """Claim the folder, with all settings that a trial's result depends on."""
    libraries = tuple(name for kind in search.runs for name in _LIBRARIES[kind])
    folder = RunFolder(
        out=search.out,
        kind="search",
        settings=_deciding(search),
        shown={"asked": dict(asked)},
        libraries=libraries,
    )
    earlier = {} if overwrite else folder.earlier_settings()
    for kind in search.runs:
        # The first start decides these. What is proposed would change with another cluster, and
        # with another order of the models, which older versions tried as they are listed.
        generation, first = f"{kind}_generation", f"{kind}_first"
        listed = earlier.get(f"{kind}_models") or list(search.first[kind])
        folder.settings[generation] = earlier.get(generation) or _generation(search, kind)
        folder.settings[first] = earlier.get(first) or listed
    folder.claim(overwrite=overwrite)
    return folder


def _deciding(search: Search) -> dict[str, Any]:
    own = search.settings
    settings: dict[str, Any] = {
        "seed": own.seed,
        "metric": own.metric,
        "searcher": own.searcher,
        "preset": own.preset if own.preset == "notebook" else "none",  # As older searches say.
    }
    for kind, run in search.runs.items():
        settings[f"{kind}_data"] = run.examples.digest
        settings[f"{kind}_models"] = list(search.models[kind])
    if "classical" in search.runs:
        settings |= {
            "feature_families": list(search.runs["classical"].examples.families),
            "folds": own.folds.folds,
            "repeats": own.folds.repeats,
            "calibrated": own.learning.classical.calibrated,
        }
    if "deep" in search.runs:
        settings |= own.learning.deciding_deep()
        settings["early_stopping"] = own.early_stopping
    return settings


def _generation(search: Search, kind: ModelKind) -> int:
    """Proposals that do not wait for one another: classical trials differ in length."""
    return _at_once(search, kind) * (4 if kind == "classical" else 1)


def _at_once(search: Search, kind: ModelKind) -> int:
    room = conductor.room(kind, _workers(search.settings))
    if not room:
        raise UserError(f"the cluster has no room for a {kind} trial: add nodes")
    return min(room, search.settings.at_once or room)


def _workers(settings: SearchSettings) -> Workers:
    """The workers of a deep trial; a single worker is the trial's own process."""
    given = settings.learning.workers
    return dataclasses.replace(given, most_cpus=_MOST_CPUS, in_process=given.workers == 1)


# Trials


def _tried(search: Search, folder: RunFolder, began: float) -> list[Trial]:
    """Run all trials, kind after kind."""
    kinds, settings = list(search.runs), search.settings
    if settings.minutes is not None and len(kinds) > 1:
        for number, kind in enumerate(kinds):
            deadline = _deadline(settings.minutes, began, len(kinds) - number)
            _try(search, folder, kind, deadline, limit=len(search.models[kind]))
    trials = []
    for number, kind in enumerate(kinds):
        deadline = _deadline(settings.minutes, began, len(kinds) - number)
        trials += _try(search, folder, kind, deadline, limit=None)
    return trials


def _deadline(minutes: float | None, began: float, kinds_left: int) -> float | None:
    """The time after which this kind begins no trial: the kinds left share what is left."""
    if minutes is None:
        return None
    now = time.monotonic()
    return now + max(0.0, began + 60 * minutes - now) / kinds_left


def _try(
    search: Search, folder: RunFolder, kind: ModelKind, deadline: float | None, *, limit: int | None
) -> list[Trial]:
    """Run the trials of one kind: the first ``limit`` of them, or all."""
    settings, run = search.settings, search.runs[kind]
    space = search.space_of(kind, run.examples, folder.settings[f"{kind}_first"])
    wanted = len(space.first) if space.is_grid else settings.trials
    plan = Plan(
        kind=kind,
        folder=folder,
        proposals=Proposals(
            space,
            searcher=settings.searcher,
            metric=settings.metric,
            seed=settings.seed,
            limit=min(wanted, limit or wanted),
            generation=folder.settings[f"{kind}_generation"],
        ),
        metric=settings.metric,
        at_once=_at_once(search, kind),
        deadline=deadline,
        epochs=settings.learning.training.epochs,
        stops_early=settings.early_stopping,
    )
    models = ", ".join(folder.settings[f"{kind}_first"])
    print(
        f"{kind}: up to {len(plan.proposals)} trials of {models}; {plan.at_once} at once",
        flush=True,
    )
    if kind == "deep":
        return conductor.run_deep(plan, _deep_trials(search, folder))
    return conductor.run_classical(plan, _classical_trials(search))


def _classical_trials(search: Search) -> ClassicalTrials:
    settings, examples = search.settings, search.runs["classical"].examples
    train = examples.of_split("train")
    return ClassicalTrials(
        x=classical.without_infinities(train.matrix()),
        y=train.targets(examples.class_names),
        groups=train.groups,
        class_names=examples.class_names,
        columns=family_columns(examples.families, examples.network),
        folder=conductor.node_folder(),
        folds=settings.folds.folds,
        repeats=settings.folds.repeats,
        calibrated=settings.learning.classical.calibrated,
        metric=settings.metric,
        seed=settings.seed,
    )


def _deep_trials(search: Search, folder: RunFolder) -> DeepTrials:
    settings, run = search.settings, search.runs["deep"]
    return DeepTrials(
        data=run.uri,
        selection=run.examples.selection,
        work=folder.work,
        deep=settings.learning.deep,
        training=settings.learning.training,
        augmentation=settings.learning.augmentation,
        workers=_workers(settings),
        metric=settings.metric,
    )


# What is left


def _write(folder: RunFolder, found: Found, search: Search) -> None:
    """Write search.json, its pictures, and last of all ``_SUCCESS``."""
    metric = search.settings.metric
    values = {
        "metric": metric,
        "best": found.best,
        "winners": found.winners,
        "importance": found.importances,
    }
    write_json(folder.path("search.json"), values)
    figure = search_curve(found.trials, metric=metric)
    save_figure(figure, folder.path("search.png"))
    shares = {model: own for kind in found.importances.values() for model, own in kind.items()}
    if shares:
        save_figure(importance_bars(shares), folder.path("importance.png"))
    counts = {kind: Counter(trial.state for trial in found.of(kind)) for kind in search.runs}
    folder.finish(trials=counts, seconds=found.seconds)
