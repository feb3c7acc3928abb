"""A few frames of each class, to see what its videos show."""

from __future__ import annotations

import pandas as pd

from vidray.report.blocks import Fold, Gallery, Part
from vidray.report.tools import Tools
from vidray.report.video_cards import VideoCards, gallery
from vidray.report.video_sets import VideoSet, classes_of

_CLASSES, _MORE_CLASSES = 8, 16
_VIDEOS_EACH, _MORE_VIDEOS_EACH = 4, 2
_FRAMES_EACH = 2


def blocks(videos: VideoSet, tools: Tools, *, slug: str) -> list[Part]:
    """A gallery for each of the largest classes; those of some more in a fold."""
    labelled = videos.labelled
    names = classes_of(labelled)
    if not names or not tools.settings.frames:
        return []
    stretches = {
        str(video): (_number(begin), _number(end))
        for video, begin, end in zip(
            labelled["video_id"], labelled["begin_seconds"], labelled["end_seconds"], strict=True
        )
        if pd.notna(begin) or pd.notna(end)
    }
    cards = VideoCards(tools.thumbnails, f"class-{slug}", stretches)
    seed = tools.settings.seed
    found: list[Part] = [
        _of_class(choose(labelled, name, _VIDEOS_EACH, seed=seed), name, cards, _FRAMES_EACH)
        for name in names[:_CLASSES]
    ]
    more = [
        _of_class(choose(labelled, name, _MORE_VIDEOS_EACH, seed=seed), name, cards, 1)
        for name in names[_CLASSES : _CLASSES + _MORE_CLASSES]
    ]
    if more:
        left = len(names) - _CLASSES - len(more)
        title = f"{len(more)} more classes" + (f" ({left} smaller ones are not shown)" * (left > 0))
        found.append(Fold(title=title, blocks=more, is_open=False))
    return found


def _number(value: object) -> float | None:
    return None if pd.isna(value) else float(str(value))


def choose(labelled: pd.DataFrame, name: str, count: int, *, seed: int) -> pd.DataFrame:
    """Videos of a class drawn by chance, from as many recordings as there are."""
    drawn = labelled[labelled["label"] == name].sort_values("video_id")
    drawn = drawn.sample(frac=1, random_state=seed)
    turn = drawn.groupby("recording").cumcount()
    return drawn.loc[turn.sort_values(kind="stable").index].head(count)


def _of_class(rows: pd.DataFrame, name: str, cards: VideoCards, frames: int) -> Gallery:
    made = [
        cards.card(
            str(row["video_id"]),
            str(row["uri"]),
            {
                "split": str(row["split"] if pd.notna(row["split"]) else "none"),
                "recording": str(row["group"] if pd.notna(row["group"]) else "not known"),
            },
            frames=frames,
        )
        for row in rows.to_dict("records")
    ]
    return gallery(name, made, is_compact=True)
