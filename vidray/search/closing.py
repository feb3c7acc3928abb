"""The summary at a search's end: the winners, and how far to trust them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from vidray import storage
from vidray.evaluation.console import caveats
from vidray.models.names import ModelKind
from vidray.progress import duration
from vidray.search.proposals import Outcome, Trial
from vidray.search.search_run import Found, Search
from vidray.tables import summary
from vidray.tables.summary import Table

_STATES: tuple[Outcome, ...] = ("ok", "stopped", "failed")
# Of a model on average: one trial each compares defaults, and says little of the models.
_LEAST_TRIALS = 2


def show(found: Found, search: Search) -> None:
    """Print the trials by state, what mattered, the winners' figures, and doubts."""
    console = Console(width=summary.WIDTH)
    metric = search.settings.metric.replace("_", " ")
    trials = Table("kind", "trials", "ok", "stopped", "failed", "best model", metric, box=None)
    judged = Table(
        "best", "judged on", "videos", "accuracy", "95 %", "macro AUC", "log loss", box=None
    )
    for kind in search.runs:
        counts = Counter(trial.state for trial in found.of(kind))
        winner = found.winners.get(kind)
        best = (winner["model"], f"{winner['score']:.3f}") if winner else ("-", "-")
        states = [str(counts[state]) for state in _STATES]
        trials.add_row(kind, str(counts.total()), *states, *best)
        for name, metrics in _judged_on(kind, winner):
            judged.add_row(kind, name, *_figures(metrics))
    console.print(trials)
    for shares in found.importances.values():
        for model, own in shares.items():
            named = [f"{name.split('.')[-1]} {share:.0%}" for name, share in own.items()]
            print(f"what mattered to {model}: {', '.join(named)}")
    console.print(judged)
    for doubt in doubts(found, search.models):
        print(f"note: {doubt}")
    print(
        f"best: {found.winners[found.best]['model']} ({found.best}), model folder "
        f"{storage.join(search.out, 'best')}, in {duration(found.seconds)}"
    )


def _judged_on(
    kind: ModelKind, winner: Mapping[str, Any] | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """The data that judged the winner, and its figures; a deep one was chosen on split val."""
    if winner is None:
        return []
    chosen_by = [("cross-validation", winner["search"])] if kind == "classical" else []
    return [*chosen_by, ("split val", winner["val"]), ("split test", winner["test"])]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    interval = metrics.get("intervals", {}).get("accuracy")
    auc = metrics["macro_auc"]
    return [
        str(metrics["num_videos"]),
        f"{metrics['accuracy']:.3f}",
        f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "",
        "-" if auc is None else f"{auc:.3f}",
        f"{metrics['log_loss']:.3f}",
    ]


def doubts(found: Found, models: Mapping[ModelKind, Sequence[str]]) -> list[str]:
    """Reasons why the winners may not be the best, a sentence each.

    Args:
        models: names that each kind was chosen from.
    """
    sentences = []
    for kind, names in models.items():
        if (few := _too_few(kind, found.of(kind), names)) is not None:
            sentences.append(few)
        if kind in found.winners:
            winner = found.winners[kind]
            majority = winner["test"]["baselines"]["majority"]["accuracy"]
            on_test = caveats(winner["test"], majority)
            sentences += [f"{winner['model']} on split test: {sentence}" for sentence in on_test]
    return sentences


def _too_few(kind: ModelKind, trials: Sequence[Trial], models: Sequence[str]) -> str | None:
    """The doubt that trials are too few; a backbone counts as tried if any of its poolings is."""
    finished = [trial for trial in trials if trial.state != "failed"]
    tried = {trial.params["model"] for trial in trials}
    untried = [name for name in models if name not in tried]
    if not untried and len(finished) >= _LEAST_TRIALS * len(models):
        return None
    number = f"{len(finished)} trial{'s' * (len(finished) != 1)}"
    of = f"{len(models)} model{'s' * (len(models) != 1)}"
    named = f" (not tried: {', '.join(untried)})" if untried else ""
    few = f"{kind}: {number} of {of} are too few to compare them{named}"
    return f"{few}: give more --minutes or --trials"
