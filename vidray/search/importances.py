"""Importance of each hyperparameter of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna

from vidray.search.proposals import Trial

# With fewer trials, a forest of trees fits noise.
_LEAST_TRIALS = 8


def importances(trials: Sequence[Trial], *, seed: int) -> dict[str, dict[str, float]]:
    """The share of the scores' variance that each parameter explains (fANOVA, Hutter 2014).

    Args:
        trials: of one kind.

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
    """Shares of the parameters that all the trials have and that vary."""
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
    """The distribution of the values, as far as they show it: wide ranges are logarithmic."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = float(min(values)), float(max(values))
        return optuna.distributions.FloatDistribution(low, high, log=low > 0 and high / low > 50)
    return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))
