"""Proposals of a search and their results. No Ray here.

    space ─> Proposals ──ask──> parameters and settings ─> trained and judged (conductor, trials)
                 ^                                               │
                 └───────tell─── Trial, a JSON file each <───────┘
                                   └─> trial table, best of each kind, importances

Proposals come in generations: one is made of what the generations before it came to and of the
seed, never of which trial of its own was the quickest. So a search on two CPUs and one on forty, a
search that was killed and one that was not, try the same.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import optuna
import pyarrow as pa
from optuna.trial import TrialState

from vidray.models.names import ModelKind
from vidray.search.settings import Metric, is_loss

Searcher = Literal["tpe", "random"]
Outcome = Literal["ok", "stopped", "failed"]
Space = Callable[[optuna.Trial], dict[str, Any]]

METRICS = ("accuracy", "log_loss", "macro_f1", "macro_auc")
# TPE draws at random until it has so many results (Bergstra 2011; Optuna's default).
_STARTUP_TRIALS = 10

TRIALS = pa.schema(
    [
        pa.field("trial", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),  # the kind: classical or deep
        pa.field("number", pa.int32(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # ok, stopped (early, by ASHA), failed
        pa.field("error_message", pa.string()),
        pa.field("score", pa.float64()),  # the metric searched by
        *(pa.field(name, pa.float64()) for name in METRICS),
        pa.field("epochs", pa.int32()),  # trained, of a deep model
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)


# Attribute -> key of a trial's file; files of older searches have the same.
_NAMES_IN_FILES = {"kind": "family"}


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Something to try.

    Attributes:
        number: from 0, in the order of proposing.
        params: name -> value, as the searcher knows them.
        settings: the same, as the model takes them.
    """

    number: int
    params: dict[str, Any]
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of a proposal.

    Attributes:
        state: ``ok``, ``stopped`` before its last epoch, or ``failed``.
        score: of the metric searched by; None of a failed one.
        metrics: METRICS where known: of the cross-validation of a classical model, of the best
            epoch on split val of a deep one.
        history: a row per epoch of a deep one: epoch, score, best_score.
        error: why it failed.
    """

    kind: ModelKind
    number: int
    params: dict[str, Any]
    settings: dict[str, Any]
    state: Outcome
    score: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None

    @property
    def name(self) -> str:
        """The trial's name, such as ``deep-0007``."""
        return name_of(self.kind, self.number)

    @property
    def model(self) -> str:
        """The model's name."""
        model: str = self.settings["model"]
        return model


def name_of(kind: ModelKind, number: int) -> str:
    """The name of a trial, its file and its folder."""
    return f"{kind}-{number:04}"


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The search space of one kind of models.

    Args:
        space: asks the searcher for its parameters and makes settings of them; its first parameter
            is ``model``, those of a model begin with its name and a dot.
        first: parameters to begin with: models' defaults, or every point of a grid.
        is_grid: whether ``first`` is all there is to try.
    """

    space: Space
    first: Sequence[Mapping[str, Any]]
    is_grid: bool = False


class Proposals:
    """Proposals, one after another.

    Args:
        space: what there is to try.
        searcher: ``tpe`` learns from what was tried, ``random`` does not.
        metric: what is searched by.
        seed: of the searcher.
        limit: proposals in all; a grid has no more than its points.
        generation: proposals that know nothing of each other's results; only ``tpe`` cares.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        searcher: Searcher,
        metric: Metric,
        seed: int,
        limit: int,
        generation: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        self._study = optuna.create_study(
            direction="minimize" if is_loss(metric) else "maximize", sampler=samplers[searcher]()
        )
        for params in space.first:
            self._study.enqueue_trial(dict(params))
        self._settings_of = space.space
        learns = searcher == "tpe" and not space.is_grid
        self._generation = generation if learns else max(limit, 1)
        self._limit = min(limit, len(space.first)) if space.is_grid else limit
        self._asked: list[optuna.Trial] = []
        self._trials: dict[int, Trial] = {}
        self._known = 0  # How many of the first trials were reported to the searcher.

    def __len__(self) -> int:
        return self._limit

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to ask."""
        return len(self._asked) >= self._limit

    def ask(self) -> Proposal | None:
        """The next one; None while an earlier generation is not over."""
        number = len(self._asked)
        begin = number - number % self._generation
        if any(earlier not in self._trials for earlier in range(self._known, begin)):
            return None
        self._tell_searcher(begin)
        asked = self._study.ask()
        self._asked.append(asked)
        settings = self._settings_of(asked)
        return Proposal(number=number, params=dict(asked.params), settings=settings)

    def tell(self, trial: Trial) -> None:
        """Take the result of a proposal, in any order."""
        self._trials[trial.number] = trial

    def _tell_searcher(self, end: int) -> None:
        """Report the trials before ``end``, in order."""
        for number in range(self._known, end):
            trial, asked = self._trials[number], self._asked[number]
            if trial.score is None:
                self._study.tell(asked, state=TrialState.FAIL)
            elif trial.state == "stopped":
                for row in trial.history:
                    asked.report(row["best_score"], row["epoch"])
                self._study.tell(asked, state=TrialState.PRUNED)
            else:
                self._study.tell(asked, trial.score)
            self._known = number + 1


def best_trial(trials: Iterable[Trial], metric: Metric) -> Trial | None:
    """The trial with the best score, the first of equals; stopped ones do not count."""
    known = [trial for trial in trials if trial.state == "ok" and trial.score is not None]
    sign = 1 if is_loss(metric) else -1
    return min(known, key=lambda trial: (sign * (trial.score or 0.0), trial.number), default=None)


def failed(proposal: Proposal, kind: ModelKind, error: str, seconds: float) -> Trial:
    """The failed trial of a proposal."""
    return Trial(
        kind=kind,
        number=proposal.number,
        params=proposal.params,
        settings=proposal.settings,
        state="failed",
        error=error,
        seconds=seconds,
    )


def to_table(trials: Sequence[Trial]) -> pa.Table:
    """The TRIALS table with a column per parameter: numbers, or text where any is no number."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        {
            "trial": trial.name,
            "family": trial.kind,
            "number": trial.number,
            "model": trial.model,
            "state": trial.state,
            "error_message": trial.error,
            "score": trial.score,
            **{name: trial.metrics.get(name) for name in METRICS},
            "epochs": len(trial.history) if trial.kind == "deep" else None,
            "seconds": trial.seconds,
        }
        for trial in trials
    ]
    table = pa.Table.from_pylist(rows, TRIALS)
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, _column([trial.params.get(name) for trial in trials]))
    return table


def _column(values: Sequence[Any]) -> pa.Array:
    known = [value for value in values if value is not None]
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    if is_number:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else str(v) for v in values], pa.string())


def to_json(trial: Trial) -> dict[str, Any]:
    """The trial as its file holds it."""
    values = {f.name: getattr(trial, f.name) for f in dataclasses.fields(trial)}
    return {_NAMES_IN_FILES.get(name, name): value for name, value in values.items()}


def from_json(values: Mapping[str, Any]) -> Trial:
    """The trial from the JSON of ``to_json``.

    Raises:
        KeyError, TypeError, ValueError: it was given something else.
    """
    names = [f.name for f in dataclasses.fields(Trial)]
    trial = Trial(**{name: values[_NAMES_IN_FILES.get(name, name)] for name in names})
    rows = [dict(row).values() for row in trial.history]
    known = [number for number in dict(trial.metrics).values() if number is not None]
    scores = [] if trial.state == "failed" else [trial.score]
    numbers = [trial.seconds, *scores, *known, *itertools.chain(*rows)]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("no numbers")
    if trial.state not in get_args(Outcome) or not isinstance(trial.error, str | None):
        raise ValueError("no such state")
    return trial
