"""Cards of videos: a video that is shown several times has most of its frames in the page once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vidray import storage
from vidray.report.blocks import Card, Gallery
from vidray.report.thumbnails import Thumbnails

_FRAMES = 4


class VideoCards:
    """Makes the cards of one chapter.

    Args:
        prefix: of the anchors, ``video-PREFIX-1`` and so on; no other chapter's.
    """

    def __init__(self, thumbnails: Thumbnails, prefix: str) -> None:
        self._thumbnails = thumbnails
        self._prefix = prefix
        self._anchors: dict[str, str] = {}

    def card(self, uri: str, facts: Mapping[str, str], *, frames: int = _FRAMES) -> Card:
        """The card of a video: the first one has its frames, and is what links lead to; the next
        ones, in other lists, have one frame.
        """
        is_first = uri not in self._anchors
        if is_first:
            self._anchors[uri] = f"video-{self._prefix}-{len(self._anchors) + 1}"
        found = self._thumbnails.of(uri, count=frames if is_first else 1)
        why = found if isinstance(found, str) else ""
        return Card(
            title=storage.name_of(uri),
            facts=facts,
            pictures=() if isinstance(found, str) else found,
            why_none=why,
            anchor=self._anchors[uri] if is_first else "",
        )

    def link(self, uri: str) -> str | None:
        """``#…`` of a video's card; None where it has none."""
        return f"#{self._anchors[uri]}" if uri in self._anchors else None


def gallery(title: str, cards: Sequence[Card], note: str = "") -> Gallery:
    """Cards under one heading; if none has frames, and all for one reason, that is said once."""
    reasons = {card.why_none for card in cards}
    if len(reasons) == 1 and len(cards) > 1:
        (why,) = reasons
        cards = [replace(card, why_none="") for card in cards]
        note = " ".join(filter(None, (note, f"{why[:1].upper()}{why[1:]}." if why else "")))
    return Gallery(title=title, cards=cards, note=note)
