"""Tables of searches: the best trial of each model, and how the score rose trial by trial."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Fold, Part
from vidray.report.runs import Runs, SearchResult

_HEAD = ("trial", "family", "number", "model", "state", "error_message", "score")
_FIGURES = ("accuracy", "macro_f1", "macro_auc", "log_loss")
_COLUMNS = ("epochs", "seconds")
_BEST = {
    "model": Column(title="Model"),
    "kind": Column(title="Kind"),
    "trial": Column(title="Best trial"),
    "accuracy": Column(title="Accuracy", form="share", best="highest"),
    "macro_f1": Column(title="F1", form="share", best="highest"),
    "macro_auc": Column(title="AUC", form="share", best="highest"),
    "log_loss": Column(title="Log loss", form="share", best="lowest"),
    "trials": Column(title="Trials", form="count"),
    "failed": Column(title="Failed", form="count"),
    "seconds": Column(title="Time in all", form="seconds"),
}
_TRIALS = {
    "trial": Column(title="Trial"),
    "model": Column(title="Model"),
    "state": Column(title="State"),
    **{name: _BEST[name] for name in _FIGURES},
    "seconds": Column(title="Time", form="seconds"),
    "settings": Column(title="Settings"),
    "error_message": Column(title="Error"),
}


def blocks(runs: Runs) -> list[Part]:
    """A fold a search."""
    found = [_of_search(search, number) for number, search in enumerate(runs.searches, start=1)]
    return [fold for fold in found if fold is not None]


def _of_search(search: SearchResult, number: int) -> Fold | None:
    trials = _trials(search)
    if trials.empty:
        return None
    settings = search.report.get("settings")
    metric = str(settings.get("metric", "accuracy")) if isinstance(settings, dict) else "accuracy"
    best = _best(trials, metric)
    table = DataTable(
        name=f"search-best-{number}",
        title=f"The best trial of each model, by {_in_words(metric)}",
        frame=best,
        columns=_BEST,
        note="By the score the search chose by: cross-validation within the training videos for "
        "classical models, split val for deep ones. The chosen settings were picked for it, so it "
        "flatters them; what they do on test videos is in the tables of judged models.",
    )
    every = DataTable(
        name=f"search-trials-{number}",
        title=f"All {len(trials)} trials",
        frame=trials,
        columns={name: c for name, c in _TRIALS.items() if trials[name].notna().any()},
    )
    return Fold(
        title=f"Search ({search.name}): {len(trials)} trials",
        blocks=[
            table,
            *_scores(trials, metric, number),
            Fold(title=every.title, blocks=[every], is_open=False),
        ],
    )


def _in_words(metric: str) -> str:
    return metric.replace("macro_", "").replace("_", " ")


def _trials(search: SearchResult) -> pd.DataFrame:
    """The trials with their own settings as one text; columns that are missing are null."""
    whole = search.trials.to_pandas()
    plain = [*_HEAD, *_FIGURES, *_COLUMNS]
    own = [name for name in whole.columns if name not in plain]
    frame = whole.reindex(columns=plain).rename(columns={"family": "kind"})
    for name in ("number", "score", *_FIGURES, *_COLUMNS):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame.assign(
        settings=[
            ", ".join(f"{name.partition('.')[2] or name} {row[name]}" for name in own
                      if pd.notna(row[name]))
            for row in whole[own].to_dict("records")
        ]
    )  # fmt: skip


def _best(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row a kind and model, the best by the metric first."""
    is_loss = metric == "log_loss"
    rows = []
    for (kind, model), some in trials.groupby(["kind", "model"], sort=False):
        judged = some[some["score"].notna()].sort_values("score", ascending=is_loss, kind="stable")
        first = {} if judged.empty else judged.iloc[0].to_dict()
        rows.append(
            {
                "model": model,
                "kind": kind,
                "score": first.get("score"),
                **{name: first.get(name) for name in ("trial", *_FIGURES, "settings")},
                "trials": len(some),
                "failed": int((some["state"] == "failed").sum()),
                "seconds": some["seconds"].sum(),
            }
        )
    return pd.DataFrame(rows).sort_values("score", ascending=is_loss, na_position="last")


def _scores(trials: pd.DataFrame, metric: str, number: int) -> Sequence[Chart]:
    """The best score so far, and each trial's, in the order of trials; a line a kind."""
    known = trials[trials["score"].notna()].sort_values(["kind", "number"], kind="stable")
    if known["number"].nunique() < 2:
        return []
    scores = known.groupby("kind", sort=False)["score"]
    frame = pd.DataFrame(
        {
            "trial": known["number"] + 1,
            "kind": known["kind"],
            "model": known["model"],
            "score": known["score"],
            "best_so_far": scores.cummin() if metric == "log_loss" else scores.cummax(),
        }
    )
    said = [
        f"trial {row['trial']}, {row['model']}: {row['score']:.4g}, best so far "
        f"{row['best_so_far']:.4g}"
        for row in frame.to_dict("records")
    ]
    look = charts.category("kind")
    at = {"field": "trial", "type": "quantitative", "title": "trial"}
    spec = {
        "encoding": {"x": at, "color": look},
        "layer": [
            {
                "mark": {"type": "line", "interpolate": "step-after", "aria": False},
                "encoding": {"y": charts.quantity("best_so_far", _in_words(metric))},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 40},
                "encoding": {
                    "y": charts.quantity("score", _in_words(metric), scale={"zero": False}),
                    "shape": look,
                    "description": {"field": "said"},
                },
            },
        ],
    }
    return [
        charts.draw(
            spec,
            frame.assign(said=said),
            name=f"search-scores-{number}",
            title="Score trial by trial",
            note="Points are trials, the line is the best so far: where it stays level, more "
            "trials bring little.",
        )
    ]
