"""Videos that many models get wrong, or all: what is hard about them, or is the label wrong?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from vidray import storage
from vidray.evaluation.answers import class_indices
from vidray.report import charts
from vidray.report.blocks import Column, DataTable, Finding, Fold, Part, Prose
from vidray.report.inside.video_cards import VideoCards, gallery, recording
from vidray.report.judged.comparable import ComparedModels

# Of two models both are wrong often enough by chance.
_FEWEST_MODELS = 3
_RARE = 0.01


def shared_mistakes(
    group: ComparedModels, cards: VideoCards, most: int
) -> tuple[Fold, list[Finding]]:
    """How many models get each video wrong, and the videos that all do, with frames.

    Args:
        group: of two models or more.
        most: videos with frames.
    """
    frame = _per_video(group)
    counts = _counts(frame, group)
    models = len(group.members)
    hard = frame[frame["models_wrong"] == models]
    by_chance = float(counts["expected_if_independent"].iloc[-1])
    which = "both models" if models == 2 else f"all {models} models"
    said = (
        f"{len(hard)} of {len(frame)} videos are wrong in {which}. "
        f"If the models erred independently of one another, {by_chance:.2g} would be expected."
    )
    mostly = frame[frame["models_wrong"] > models / 2]
    shown = [
        cards.card(row["video_id"], row["uri"], _facts(row, models))
        for row in mostly.head(most).to_dict("records")
    ]
    frame["link"] = cards.links(frame["video_id"])
    blocks: list[Part] = [Prose(paragraphs=[said])]
    if shown:
        note = "Where models agree and are sure, look whether the label is right."
        title = f"Wrong in most models ({len(shown)} of {len(mostly)})"
        why = "most models get it wrong: is its label right?"
        blocks.append(gallery(title, shown, note, why=why))
    blocks += [_chart(counts, group), _table(frame, group, most)]
    return Fold(title=_title(group), blocks=blocks), _findings(hard, len(frame), models, by_chance)


def _title(group: ComparedModels) -> str:
    return f"What {len(group.members)} models get wrong together"


def _per_video(group: ComparedModels) -> pd.DataFrame:
    """A row a video, those that most models get wrong first, the surest of them first."""
    truth = class_indices(group.truth, group.class_names)
    order_of_classes = {name: place for place, name in enumerate(group.class_names)}
    scores = []
    for member in group.members:
        columns = np.argsort([order_of_classes[name] for name in member.class_names])
        scores.append(member.probabilities[group.order_of(member)][:, columns])
    answers = np.stack(scores)  # (M, N, K)
    said = answers.argmax(axis=2)  # (M, N)
    is_wrong = said != truth
    best = group.order_of(group.best)
    of_truth = answers[:, np.arange(len(truth)), truth]  # (M, N)
    votes = [_most_common(said[is_wrong[:, k], k], group) for k in range(len(truth))]
    return pd.DataFrame(
        {
            "video_id": group.video_ids,
            "video": [storage.name_of(group.best.uris[row]) for row in best],
            "uri": [group.best.uris[row] for row in best],
            "recording": [group.best.groups[row] for row in best],
            "true_label": group.truth,
            "models_wrong": is_wrong.sum(axis=0),
            "instead": [name for name, _ in votes],
            "models_instead": [count for _, count in votes],
            "probability_of_true": of_truth.mean(axis=0),
        }
    ).sort_values(
        ["models_wrong", "probability_of_true", "video"],
        ascending=[False, True, True],
        ignore_index=True,
    )


def _most_common(said: NDArray[np.int64], group: ComparedModels) -> tuple[str | None, int]:
    """The class that most models give instead, and how many do; None where none is wrong."""
    if not len(said):
        return None, 0
    votes = np.bincount(said)
    return group.class_names[int(votes.argmax())], int(votes.max())


def _facts(row: dict[str, object], models: int) -> dict[str, str]:
    return {
        "models say": f"{row['instead']} ({row['models_instead']} of {models})",
        "true label": f"{row['true_label']}, {row['probability_of_true']:.3f} on average",
        "recording": recording(row["recording"]),
    }


def _counts(frame: pd.DataFrame, group: ComparedModels) -> pd.DataFrame:
    """Videos by the number of models that get them wrong, and how many it were by chance."""
    models = len(group.members)
    shares = [1 - member.metrics["accuracy"] for member in group.members]
    counted = np.bincount(frame["models_wrong"], minlength=models + 1)
    expected = len(frame) * chance_of_each_number(shares)
    labels = ["none", *map(str, range(1, models)), f"all {models}"]
    return pd.DataFrame(
        {
            "wrong_in": labels,
            "videos": counted,
            "expected_if_independent": expected,
            "said": [
                f"wrong in {label} models: {n} videos; {e:.2g} expected if they erred independently"
                for label, n, e in zip(labels, counted, expected, strict=True)
            ],
        }
    )


def chance_of_each_number(shares: Sequence[float]) -> NDArray[np.float64]:
    """Probability that 0, 1, … of independent events of these probabilities happen (the
    Poisson-binomial distribution), ``float64 (M + 1,)``.
    """
    found = np.ones(1)
    for share in shares:
        found = np.convolve(found, [1 - share, share])
    return found


def _chart(counts: pd.DataFrame, group: ComparedModels) -> Part:
    return charts.bars(
        counts,
        label="wrong_in",
        value="videos",
        value_title="videos",
        name=f"mistakes-together-counts-{group.number}",
        title="Videos by the number of models that get them wrong",
        note=(
            "Models that err on the same videos have the same weakness, or the same wrong labels: "
            "then more videos stand at both ends than if they erred independently."
        ),
    )


def _table(frame: pd.DataFrame, group: ComparedModels, most: int) -> DataTable:
    return DataTable(
        name=f"mistakes-together-{group.number}",
        title="Videos by how many models get them wrong",
        frame=frame,
        columns={
            "video": Column(title="Video"),
            "true_label": Column(title="True label"),
            "instead": Column(title="Most wrong models say"),
            "models_wrong": Column(title="Models wrong", form="count"),
            "probability_of_true": Column(
                title="Of the true label",
                form="share",
                hint="the mean probability that the models give it",
            ),
            "recording": Column(title="Recording"),
        },
        most_rows=most,
        link="link",
    )


def _findings(hard: pd.DataFrame, videos: int, models: int, by_chance: float) -> list[Finding]:
    """A warning where more videos are wrong in all models than chance would have it."""
    more_by_chance = binom.sf(len(hard) - 1, videos, by_chance / videos)
    if models < _FEWEST_MODELS or not len(hard) or more_by_chance > _RARE:
        return []
    names = ", ".join(hard["video"].head(3))
    others = f" and {len(hard) - 3} more" if len(hard) > 3 else ""
    text = (
        f"All {models} models get {len(hard)} of {videos} test videos wrong, {by_chance:.2g} "
        f"expected by chance: look whether their labels are right ({names}{others})."
    )
    return [Finding(level="warning", text=text, section="mistakes")]
