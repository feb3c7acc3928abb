"""Which features classical models rely on: by family, by name, and several models together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vidray.models.importance import Importance
from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Fold, Part, Prose
from vidray.report.runs import TrainedModel

_MOST_FEATURES = 15
# There are a dozen; a file that somebody wrote may name any number.
_MOST_FAMILIES = 30


def importance_blocks(models: Sequence[TrainedModel]) -> list[Part]:
    """A fold for each model whose folder has importances; what they share comes first."""
    known = [model for model in models if model.importance]
    folds = [_importance(model, number) for number, model in enumerate(known, start=1)]
    shared = _shared(known)
    return [*([shared] if shared else []), *folds]


def _importance(model: TrainedModel, number: int) -> Fold:
    assert model.importance is not None
    families, features = (model.importance[kind] for kind in ("families", "features"))
    families = families[:_MOST_FAMILIES]
    blocks: list[Part] = [Prose(paragraphs=[importance_sentence(families, features)])]
    if len(families) > 1:
        name = f"importance-families-{number}"
        blocks.append(_dots(families, name, f"{model.name}: families of features"))
    if features:
        shown = f"the {min(_MOST_FEATURES, len(features))} most important features"
        blocks.append(
            _dots(
                features[:_MOST_FEATURES],
                f"importance-features-{number}",
                f"{model.name}: {shown}",
            )
        )
    return Fold(title=f"{model.name}: importance of features", blocks=blocks, is_open=number == 1)


def _shared(models: Sequence[TrainedModel]) -> DataTable | None:
    """Features on which several models rely; None where there are none."""
    rises: dict[str, dict[str, float]] = {}
    for model in models:
        for row in (model.importance or {}).get("features", ()):
            if _feature_matters(row):
                rises.setdefault(row.name, {})[model.name] = row.log_loss_rise
    rows = [
        {
            "feature": name,
            "models": len(of_model),
            "mean_rise": float(np.mean(list(of_model.values()))),
            "names": ", ".join(sorted(of_model)),
        }
        for name, of_model in rises.items()
        if len(of_model) > 1
    ]
    if not rows:
        return None
    frame = pd.DataFrame(rows).sort_values(
        ["models", "mean_rise"], ascending=False, ignore_index=True
    )
    return DataTable(
        name="importance-shared",
        title=f"Features on which more than one of {len(models)} models relies",
        frame=frame,
        columns={
            "feature": Column(),
            "models": Column(form="count"),
            "mean_rise": Column(title="rise of log loss", form="number", hint="mean of these"),
            "names": Column(title="which"),
        },
        note="What several models find is more likely in the videos than in a model's chance.",
        most_rows=_MOST_FEATURES,
    )


def _dots(rows: Sequence[Importance], name: str, title: str) -> Chart:
    frame = pd.DataFrame(
        {
            "name": row.name,
            "log_loss_rise": row.log_loss_rise,
            "low": row.log_loss_rise - row.log_loss_rise_std,
            "high": row.log_loss_rise + row.log_loss_rise_std,
            "accuracy_drop": row.accuracy_drop,
            "said": f"{row.name}: log loss rises by {row.log_loss_rise:.4f} "
            f"(± {row.log_loss_rise_std:.4f}), accuracy falls by {100 * row.accuracy_drop:.1f} %",
        }
        for row in rows
    )
    return charts.dots(
        frame,
        label="name",
        value="log_loss_rise",
        low="low",
        high="high",
        value_title="rise of log loss if shuffled",
        name=name,
        title=title,
        note="The line is one standard deviation over the shuffles to either side.",
    )


def importance_sentence(families: Sequence[Importance], features: Sequence[Importance]) -> str:
    """What the importances say, with their figures."""
    how = "Each is shuffled among the held-out videos; the more the log loss rises, the more the "
    said = [f"{how}model relies on it."]
    if families:
        said.append(_families_sentence(families))
    if features:
        clear = sum(map(_feature_matters, features))
        said.append(
            f"Of {len(features)} single features, {clear} matter by more than twice the spread of "
            f"the shuffles; the first is {features[0].name} ({_rise(features[0])})."
        )
    return " ".join(said)


def _families_sentence(families: Sequence[Importance]) -> str:
    best, idle = families[0], [row.name for row in families if not _matters(row)]
    if len(families) == 1:
        verdict = "" if _matters(best) else ", no more than from one shuffle to the next"
        return f"All its features are of one family, {best.name} ({_rise(best)}{verdict})."
    if not _matters(best):
        return (
            f"No family matters by more than the spread of the shuffles, {best.name} most "
            f"({_rise(best)}): the model needs none of them alone, or the videos are too few."
        )
    said = (
        f"It relies most on {best.name} ({_rise(best)}): without it accuracy falls by "
        f"{100 * best.accuracy_drop:.1f} points."
    )
    return f"{said} It can do without {', '.join(idle)}." if idle else said


def _matters(row: Importance) -> bool:
    """Whether a family's rise is more than the spread of its ten shuffles: t = 3, p < 0.01."""
    return row.log_loss_rise > row.log_loss_rise_std


def _feature_matters(row: Importance) -> bool:
    """The same of a single feature: twice the spread of five shuffles is t = 4, p < 0.01 each."""
    return row.log_loss_rise > 2 * row.log_loss_rise_std


def _rise(row: Importance) -> str:
    return f"{row.log_loss_rise:+.4f} ± {row.log_loss_rise_std:.4f}"
