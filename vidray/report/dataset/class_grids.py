"""A grid of frames for each class, to see what its videos show."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from vidray import storage
from vidray.report.blocks import Card, Fold, Gallery, Part, Thumbnail
from vidray.report.dataset.video_sets import VideoSet, classes_of
from vidray.report.inside.video_cards import gallery
from vidray.report.tools import Tools

_CLASSES, _MORE_CLASSES = 8, 16
_VIDEOS_EACH, _MORE_VIDEOS_EACH = 6, 3
_MOST_CAPTION = 18
_HEIGHT_PX = 72  # two of 16:9 stand side by side in a card


def blocks(videos: VideoSet, tools: Tools) -> list[Part]:
    """A card for each of the largest classes; those of some more in a fold."""
    labelled = videos.labelled
    names = classes_of(labelled)
    if not names or not tools.settings.frames:
        return []
    shown, more = names[:_CLASSES], names[_CLASSES : _CLASSES + _MORE_CLASSES]
    note = "One frame, from the middle, of each of a few videos drawn by chance."
    found: list[Part] = [_grid("Frames of each class", labelled, shown, _VIDEOS_EACH, tools, note)]
    if more:
        left = len(names) - len(shown) - len(more)
        note = f"{left:,} smaller classes are not shown." if left else ""
        grid = _grid("Frames of more classes", labelled, more, _MORE_VIDEOS_EACH, tools, note)
        found.append(Fold(title=f"{len(more)} more classes", blocks=[grid], is_open=False))
    return found


def choose(labelled: pd.DataFrame, name: str, count: int, *, seed: int) -> pd.DataFrame:
    """Videos of a class drawn by chance, from as many recordings as there are."""
    drawn = labelled[labelled["label"] == name].sort_values("video_id")
    drawn = drawn.sample(frac=1, random_state=seed)
    turn = drawn.groupby("recording").cumcount()
    return drawn.loc[turn.sort_values(kind="stable").index].head(count)


def _grid(
    title: str, labelled: pd.DataFrame, names: list[str], count: int, tools: Tools, note: str
) -> Gallery:
    cards = [
        _card(labelled, name, choose(labelled, name, count, seed=tools.settings.seed), tools)
        for name in names
    ]
    return gallery(title, cards, note)


def _card(labelled: pd.DataFrame, name: str, rows: pd.DataFrame, tools: Tools) -> Card:
    of_class = labelled[labelled["label"] == name]
    pictures: list[Thumbnail] = []
    why = ""
    for row in rows.to_dict("records"):
        found = tools.thumbnails.of(
            str(row["uri"]),
            count=1,
            begin_seconds=_number(row["begin_seconds"]),
            end_seconds=_number(row["end_seconds"]),
            height_px=_HEIGHT_PX,
        )
        if isinstance(found, str):
            why = why or found
        else:
            file = storage.name_of(str(row["uri"]))
            short = file if len(file) <= _MOST_CAPTION else f"{file[: _MOST_CAPTION - 1]}\u2026"
            pictures += [replace(one, alt=f"{one.alt} of {file}", caption=short) for one in found]
    return Card(
        title=name,
        facts={
            "videos": f"{len(of_class):,}",
            "recordings": f"{of_class['recording'].nunique():,}",
        },
        pictures=pictures,
        why_none="" if pictures else why,
    )


def _number(value: object) -> float | None:
    return None if pd.isna(value) else float(str(value))
