"""The errors of each model, worst first, its most and least sure answers, with frames; before
them the videos that models get wrong together, whose labels may be wrong.
"""

from __future__ import annotations

import pandas as pd

from vidray import storage
from vidray.evaluation.answers import class_indices, losses
from vidray.report.blocks import Column, DataTable, Finding, Fold, Part, Prose, Section
from vidray.report.inside.all_wrong import shared_mistakes
from vidray.report.inside.video_cards import VideoCards, gallery, recording, stretches_of
from vidray.report.judged.comparable import ComparedModels, groups
from vidray.report.runs import JudgedModel, Runs
from vidray.report.tools import Tools

# Somebody relies on an answer as sure as this.
_SURE = 0.9


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no model was judged."""
    cards = VideoCards(tools.thumbnails, "mistakes", stretches_of(runs))
    most = tools.settings.shown_videos
    blocks: list[Part] = []
    findings: list[Finding] = []
    number = 0
    for group in groups(runs):
        if len(group.members) > 1:
            together, found = shared_mistakes(group, cards, most)
            blocks.append(together)
            findings += found
        for member in group.members:
            number += 1
            blocks.append(_fold(group, member, cards, number, most))
    if not blocks:
        return None
    return Section(
        name="mistakes",
        title="Mistakes",
        lead=(
            "What the models get wrong, the worst first, and what they are most and least sure of. "
            "Look at the frames: is the answer wrong, or the label?"
        ),
        blocks=blocks,
        findings=findings,
    )


def _fold(
    group: ComparedModels, member: JudgedModel, cards: VideoCards, number: int, most: int
) -> Fold:
    """One model: its errors, and its least and most sure answers; the first one is open."""
    frame = answers(member)
    wrong, right = frame[~frame["is_right"]], frame[frame["is_right"]]
    blocks: list[Part] = [Prose(paragraphs=_sentences(frame))]
    fewer = max(1, most // 2)
    why = f"{group.label(member)} is wrong, and sure of it" if number == 1 else ""
    lists = (
        ("Errors, worst first", wrong.head(most), len(wrong), 4, why),
        ("Least sure answers", frame.nsmallest(fewer, "probability"), len(frame), 1, ""),
        ("Most sure right answers", right.nlargest(fewer, "probability"), len(right), 1, ""),
    )
    for title, rows, of, frames, reason in lists:
        made = [
            cards.card(row["video_id"], row["uri"], _facts(row), frames=frames)
            for row in rows.to_dict("records")
        ]
        if made:
            blocks.append(gallery(f"{title} ({len(made)} of {of:,})", made, why=reason))
    frame["link"] = cards.links(frame["video_id"])
    blocks.append(_table(frame, f"mistakes-{number}", group.label(member), most))
    title = f"{group.label(member)}: {len(wrong):,} of {len(frame):,} videos wrong"
    return Fold(title=title, blocks=blocks, is_open=number == 1)


def answers(member: JudgedModel) -> pd.DataFrame:
    """A row a video: the errors first, of these and of the others the greatest loss first."""
    truth = class_indices(member.truth, member.class_names)
    rows = range(len(truth))
    frame = pd.DataFrame(
        {
            "video_id": member.video_ids,
            "video": [storage.name_of(uri) for uri in member.uris],
            "uri": member.uris,
            "recording": member.groups,
            "true_label": member.truth,
            "label": member.predicted,
            "probability": member.probabilities.max(axis=1),
            "probability_of_true": member.probabilities[rows, truth],
            "loss": losses(truth, member.probabilities),
            "is_right": [a == b for a, b in zip(member.truth, member.predicted, strict=True)],
        }
    )
    return frame.sort_values(
        ["is_right", "loss", "video"], ascending=[True, False, True], ignore_index=True
    )


def _facts(row: dict[str, object]) -> dict[str, str]:
    said, truth = f"{row['label']}, {row['probability']:.3f}", str(row["true_label"])
    if not row["is_right"]:
        truth = f"{truth}, {row['probability_of_true']:.3f}"
    return {
        "the model says": f"{said} ({'right' if row['is_right'] else 'wrong'})",
        "true label": truth,
        "recording": recording(row["recording"]),
    }


def _sentences(frame: pd.DataFrame) -> list[str]:
    """How many answers are wrong, of how many recordings, and how sure the model is of them."""
    wrong = frame[~frame["is_right"]]
    sure = frame[frame["probability"] >= _SURE]
    sure_wrong = sure[~sure["is_right"]]
    said = [
        f"Answers that are wrong: {len(wrong):,} of {len(frame):,} ({_percent(wrong, frame)}).",
        f"Of those with a probability of {_SURE} or more: {len(sure_wrong):,} of {len(sure):,}"
        + (f" ({_percent(sure_wrong, sure)})." if len(sure) else "."),
    ]
    known = frame[frame["recording"].notna()]
    videos = known.groupby("recording")["is_right"].agg(["size", "sum"])
    lost = videos[(videos["sum"] == 0) & (videos["size"] > 1)]
    if len(lost):
        count = int(lost["size"].sum())
        said.append(
            f"Recordings of which every video is wrong: {len(lost):,} of {len(videos):,}, with "
            f"{count:,} of the errors ({', '.join(map(str, lost.index[:5]))}"
            + (" and others)." if len(lost) > 5 else ").")
        )
    return [" ".join(said)]


def _percent(some: pd.DataFrame, of: pd.DataFrame) -> str:
    return f"{100 * len(some) / max(1, len(of)):.1f} %"


def _table(frame: pd.DataFrame, name: str, model: str, most: int) -> DataTable:
    return DataTable(
        name=name,
        title=f"Answers of {model}, errors first",
        frame=frame,
        columns={
            "video": Column(title="Video"),
            "true_label": Column(title="True label"),
            "label": Column(title="The model says"),
            "probability": Column(
                title="Probability", form="share", hint="of the label that the model gives"
            ),
            "probability_of_true": Column(
                title="Of the true label", form="share", hint="the probability of the true label"
            ),
            "loss": Column(
                title="Loss", form="number", hint="minus the logarithm of the column before"
            ),
            "recording": Column(title="Recording"),
        },
        most_rows=most,
        link="link",
    )
