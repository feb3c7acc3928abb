"""Searching hyperparameters, without Ray: what is tried next, what came of it, what mattered.

    space ─> Proposals ──ask──> parameters and settings ─> trained and judged (tune/search.py)
                 ^                                               │
                 └───────tell─── Trial, a JSON file each <───────┘
                                   └─> trial table, best of each family, importance

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

Family = Literal["classical", "deep"]
Metric = Literal["log_loss", "accuracy"]
Searcher = Literal["tpe", "random", "grid"]
State = Literal["ok", "stopped", "failed"]
Space = Callable[[optuna.Trial], dict[str, Any]]

METRICS = ("accuracy", "log_loss", "macro_f1", "macro_auc")
# TPE draws at random until it has so many results (Bergstra 2011; Optuna's default).
_STARTUP_TRIALS = 10
# Of fewer trials a forest of trees tells noise.
_LEAST_TRIALS = 8

TRIALS = pa.schema(
    [
        pa.field("trial", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
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
    """What came of a proposal.

    Attributes:
        state: ``ok``, ``stopped`` before its last epoch, or ``failed``.
        score: of the metric searched by; None of a failed one.
        metrics: METRICS where known: of the cross-validation of a classical model, of the best
            epoch on split val of a deep one.
        history: a row per epoch of a deep one: epoch, score, best_score.
        error: why it failed.
    """

    family: Family
    number: int
    params: dict[str, Any]
    settings: dict[str, Any]
    state: State
    score: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None

    @property
    def name(self) -> str:
        """Such as ``deep-0007``."""
        return name_of(self.family, self.number)

    @property
    def model(self) -> str:
        """The model's name."""
        model: str = self.settings["model"]
        return model


def name_of(family: Family, number: int) -> str:
    """Of a trial."""
    return f"{family}-{number:04}"


class Proposals:
    """What to try, one after another.

    Args:
        space: asks the searcher for its parameters and makes settings of them; its first parameter
            is ``model``, those of a model begin with its name and a dot.
        searcher: ``tpe`` learns from what was tried, ``random`` does not; ``grid`` tries ``first``
            and no more.
        metric: what is searched by.
        seed: of the searcher.
        limit: proposals in all.
        generation: proposals that know nothing of each other's results; only ``tpe`` cares.
        first: parameters to begin with: models' defaults, a grid.
    """

    def __init__(
        self,
        space: Space,
        *,
        searcher: Searcher,
        metric: Metric,
        seed: int,
        limit: int,
        generation: int,
        first: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        samplers["grid"] = samplers["random"]
        self._study = optuna.create_study(
            direction="minimize" if is_loss(metric) else "maximize", sampler=samplers[searcher]()
        )
        for params in first:
            self._study.enqueue_trial(dict(params))
        self._space = space
        self._generation = generation if searcher == "tpe" else max(limit, 1)
        self._limit = min(limit, len(first)) if searcher == "grid" else limit
        self._asked: list[optuna.Trial] = []
        self._told: dict[int, Trial] = {}
        self._known = 0  # Trials that the searcher was told of: the first so many.

    def __len__(self) -> int:
        return self._limit

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to ask."""
        return len(self._asked) >= self._limit

    def ask(self) -> Proposal | None:
        """The next one; None while an earlier generation is not told."""
        number = len(self._asked)
        begin = number - number % self._generation
        if any(earlier not in self._told for earlier in range(self._known, begin)):
            return None
        self._tell_searcher(begin)
        asked = self._study.ask()
        self._asked.append(asked)
        settings = self._space(asked)
        return Proposal(number=number, params=dict(asked.params), settings=settings)

    def tell(self, trial: Trial) -> None:
        """What came of a proposal, in any order."""
        self._told[trial.number] = trial

    def _tell_searcher(self, end: int) -> None:
        """Of the trials before ``end``, in order."""
        for number in range(self._known, end):
            trial, asked = self._told[number], self._asked[number]
            if trial.score is None:
                self._study.tell(asked, state=TrialState.FAIL)
            elif trial.state == "stopped":
                for row in trial.history:
                    asked.report(row["best_score"], row["epoch"])
                self._study.tell(asked, state=TrialState.PRUNED)
            else:
                self._study.tell(asked, trial.score)
            self._known = number + 1


def is_loss(metric: Metric) -> bool:
    """Whether less is better."""
    return metric == "log_loss"


def best_trial(trials: Iterable[Trial], metric: Metric) -> Trial | None:
    """The one with the best score, of equals the first; a stopped one is none."""
    known = [trial for trial in trials if trial.state == "ok" and trial.score is not None]
    sign = 1 if is_loss(metric) else -1
    return min(known, key=lambda trial: (sign * (trial.score or 0.0), trial.number), default=None)


def failed(proposal: Proposal, family: Family, error: str, seconds: float) -> Trial:
    """The trial of a proposal that came to nothing."""
    return Trial(
        family=family,
        number=proposal.number,
        params=proposal.params,
        settings=proposal.settings,
        state="failed",
        error=error,
        seconds=seconds,
    )


def to_table(trials: Sequence[Trial]) -> pa.Table:
    """TRIALS, and a column for each parameter: numbers, or text where any value is none."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        {
            "trial": trial.name,
            "family": trial.family,
            "number": trial.number,
            "model": trial.model,
            "state": trial.state,
            "error_message": trial.error,
            "score": trial.score,
            **{name: trial.metrics.get(name) for name in METRICS},
            "epochs": len(trial.history) if trial.family == "deep" else None,
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


def importances(trials: Sequence[Trial], *, seed: int) -> dict[str, dict[str, float]]:
    """How much of the scores' variance each parameter explains (fANOVA, Hutter 2014).

    Args:
        trials: of one family.

    Returns:
        Model -> {parameter: share}, of models with 8 trials or more that have a score; shares of
        one model sum to 1. A parameter that only some trials of a model have is left out.
    """
    scored = [trial for trial in trials if trial.score is not None]
    models = list(dict.fromkeys(trial.params["model"] for trial in scored))
    found: dict[str, dict[str, float]] = {}
    for model in models:
        own = [trial for trial in scored if trial.params["model"] == model]
        if len(own) >= _LEAST_TRIALS and (shares := _fanova(own, seed)):
            found[model] = shares
    return found


def _fanova(trials: Sequence[Trial], seed: int) -> dict[str, float]:
    """Of parameters that all the trials have and that vary."""
    shared = set.intersection(*(set(trial.params) for trial in trials)) - {"model"}
    varied = sorted(n for n in shared if len({str(t.params[n]) for t in trials}) > 1)
    scores = {trial.score for trial in trials}
    if not varied or len(scores) < 2:
        return {}
    spaces = {name: _distribution([trial.params[name] for trial in trials]) for name in varied}
    study = optuna.create_study()
    for trial in trials:
        study.add_trial(
            optuna.create_trial(
                params={name: trial.params[name] for name in varied},
                distributions=spaces,
                value=trial.score,
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _distribution(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    """What the values were drawn from, as far as they tell: wide ranges are of orders."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = float(min(values)), float(max(values))
        return optuna.distributions.FloatDistribution(low, high, log=low > 0 and high / low > 50)
    return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))


def grid(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last name's values changing first."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def from_json(values: Mapping[str, Any]) -> Trial:
    """The trial that ``dataclasses.asdict`` was taken of.

    Raises:
        KeyError, TypeError, ValueError: it was taken of something else.
    """
    trial = Trial(**{f.name: values[f.name] for f in dataclasses.fields(Trial)})
    rows = [dict(row).values() for row in trial.history]
    known = [number for number in dict(trial.metrics).values() if number is not None]
    scores = [] if trial.state == "failed" else [trial.score]
    numbers = [trial.seconds, *scores, *known, *itertools.chain(*rows)]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("no numbers")
    if trial.state not in get_args(State) or not isinstance(trial.error, str | None):
        raise ValueError("no such state")
    return trial
