"""Cards of videos: one that is in several lists has most of its frames in the page once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from vidray import storage
from vidray.report.blocks import Card, Gallery
from vidray.report.formats import is_missing
from vidray.report.frames import thumbnails
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.runs import Runs

Seconds = tuple[float | None, float | None]


class VideoCards:
    """Makes the cards of one chapter.

    Args:
        prefix: of the anchors, ``video-PREFIX-1`` and so on; no other chapter's.
        stretches: of ``stretches_of``.
        height_px: of the frames.
        has_captions: the time of each frame stands below it.
    """

    def __init__(
        self,
        source: Thumbnails,
        prefix: str,
        stretches: Mapping[str, Seconds] | None = None,
        *,
        height_px: int = thumbnails.HEIGHT_PX,
        has_captions: bool = True,
    ) -> None:
        self._source = source
        self._prefix = prefix
        self._stretches = stretches or {}
        self._height_px = height_px
        self._has_captions = has_captions
        self._anchors: dict[str, str] = {}
        self._frames: dict[str, int] = {}

    def card(self, video_id: str, uri: str, facts: Mapping[str, str], *, frames: int = 4) -> Card:
        """The card of a video with ``frames``, or with one if a card before it has as many. The
        first one is what links lead to.
        """
        is_first = video_id not in self._anchors
        if is_first:
            self._anchors[video_id] = f"video-{self._prefix}-{len(self._anchors) + 1}"
        count = frames if frames > self._frames.get(video_id, 0) else 1
        self._frames[video_id] = max(count, self._frames.get(video_id, 0))
        begin, end = self._stretches.get(video_id, (None, None))
        found = self._source.of(
            uri,
            count=count,
            begin_seconds=begin,
            end_seconds=end,
            height_px=self._height_px,
        )
        if not isinstance(found, str) and not self._has_captions:
            found = [replace(one, caption="") for one in found]
        return Card(
            title=_title(uri, begin, end),
            facts=facts,
            pictures=() if isinstance(found, str) else found,
            why_none=found if isinstance(found, str) else "",
            anchor=self._anchors[video_id] if is_first else "",
        )

    def links(self, video_ids: Iterable[str]) -> pd.Series[Any]:
        """``#…`` of the first card of each video; None where it has none."""
        anchors = [self._anchors.get(video) for video in video_ids]
        # pandas would make NaN of None, and a link of that.
        return pd.Series([anchor and f"#{anchor}" for anchor in anchors], dtype=object)


def recording(value: object) -> str:
    """The recording of a video as a card says it."""
    return "unknown" if is_missing(value) else str(value)


def stretches_of(runs: Runs) -> dict[str, Seconds]:
    """Begin and end in seconds of the videos that are a part of a file, by ``video_id``."""
    found: dict[str, Seconds] = {}
    names = ("video_id", "begin_seconds", "end_seconds")
    for run in runs.features:
        if any(run.rows[name].null_count < len(run.rows) for name in names[1:]):
            columns = (run.rows[name].to_pylist() for name in names)
            found |= {
                video: (begin, end)
                for video, begin, end in zip(*columns, strict=True)
                if begin is not None or end is not None
            }
    return found


def _title(uri: str, begin: float | None, end: float | None) -> str:
    name = storage.name_of(uri)
    if begin is None and end is None:
        return name
    return f"{name}, {begin or 0:g} s to {'its end' if end is None else f'{end:g} s'}"


def gallery(
    title: str, cards: Sequence[Card], note: str = "", *, is_compact: bool = False, why: str = ""
) -> Gallery:
    """Cards under one heading; if none has frames, and all for one reason, that is said once."""
    reasons = {card.why_none for card in cards}
    if len(reasons) == 1 and len(cards) > 1 and (none := next(iter(reasons))):
        cards = [replace(card, why_none="") for card in cards]
        note = f"{note} {none[:1].upper()}{none[1:]}.".strip()
    return Gallery(title=title, cards=cards, note=note, is_compact=is_compact, why=why)
