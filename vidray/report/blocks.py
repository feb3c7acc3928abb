"""The parts of the page: text, tables, charts, galleries, and the sections that hold them.

A section of the page is a function of the runs that gives a ``Section``; it knows nothing of HTML.
Every part shows itself in a notebook. All text is escaped where it is put into the page, so parts
hold it as it is: names of videos and labels may say anything.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from vidray.report import templates


class _Shown:
    """A part that a notebook shows as the page does."""

    def _repr_html_(self) -> str:
        return templates.fragment(self)


@dataclass(frozen=True, kw_only=True)
class Prose(_Shown):
    """Paragraphs of plain text.

    Attributes:
        is_finding: stands out: one sentence that a reader should take away.
    """

    paragraphs: Sequence[str]
    is_finding: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """How a column of a table is shown.

    Attributes:
        title: its head; the name in the frame if not given.
        form: ``text``; ``share`` (0.755), ``percent``, ``count`` (12,345), ``number`` (3 digits),
            ``seconds``, ``bytes``, ``date``.
        best: marks the best value of the column: ``highest`` or ``lowest``; None for none.
        interval: names of two columns of the frame, the ends of an interval that is drawn below.
        hint: what the column means, where its title does not say.
    """

    title: str = ""
    form: Literal["text", "share", "percent", "count", "number", "seconds", "bytes", "date"] = (
        "text"
    )
    best: Literal["highest", "lowest"] | None = None
    interval: tuple[str, str] | None = None
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class DataTable(_Shown):
    """A table that a reader can sort.

    Attributes:
        name: of its CSV file beside the page: lower case, digits, hyphens; no other part has it.
        title: what it shows.
        frame: its data, all of it, as the CSV holds it. Missing is null.
        columns: those that are shown, in this order.
        note: what to know to read it.
        most_rows: shown; the CSV has the rest.
        link: column of the frame with an anchor (``#…``) for each row, for the first column shown.
    """

    name: str
    title: str
    frame: pd.DataFrame
    columns: Mapping[str, Column]
    note: str = ""
    most_rows: int = 100
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class Chart(_Shown):
    """A drawn chart; made by ``charts``.

    Attributes:
        name: of its CSV file, as a table's.
        title: what it shows.
        svg: drawn by Vega from our specification; every mark has its ``aria-label``.
        frame: what is drawn.
        note: what to see in it, in a sentence.
    """

    name: str
    title: str
    svg: str
    frame: pd.DataFrame
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small JPEG with the text for those who do not see it.

    Attributes:
        jpeg: its bytes.
        alt: what it shows, such as ``frame at 1.2 s``.
        caption: under it; nothing if not given.
    """

    jpeg: bytes = field(repr=False)
    alt: str
    caption: str = ""

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True, kw_only=True)
class Card:
    """One video of a gallery.

    Attributes:
        title: its file name.
        facts: name -> value, such as true label, label, probability.
        pictures: its frames.
        why_none: the reason if there are no pictures.
        anchor: an id that links name (``video-…``); it must be unlike all others of the page.
    """

    title: str
    facts: Mapping[str, str]
    pictures: Sequence[Thumbnail] = ()
    why_none: str = ""
    anchor: str = ""


@dataclass(frozen=True, kw_only=True)
class Gallery(_Shown):
    """Videos with their frames.

    Attributes:
        is_compact: many small cards in a grid, such as those that the points of a map lead to.
        why: the reason why a person should look at its videos, the first ones first; the first
            screen then lists some of them.
    """

    title: str
    cards: Sequence[Card]
    note: str = ""
    is_compact: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Fold(_Shown):
    """Parts under a heading of their own that a reader may close.

    Attributes:
        is_open: at first; what is of use to few readers is closed.
    """

    title: str
    blocks: Sequence[Part]
    is_open: bool = True


Part = Prose | DataTable | Chart | Gallery | Fold


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence for the first screen.

    Attributes:
        level: ``alarm``: somebody must do something; ``warning``: somebody should know; ``good``;
            ``note``.
        text: a sentence with the figures it follows from.
        section: name of the section that shows them.
    """

    level: Literal["alarm", "warning", "good", "note"]
    text: str
    section: str


@dataclass(frozen=True, kw_only=True)
class Section(_Shown):
    """A chapter of the page.

    Attributes:
        name: its anchor: lower case, digits, hyphens.
        title: its heading.
        lead: what it answers, in a sentence or two.
        blocks: its parts.
        findings: what the first screen and the chapter on strengths and limits say of it.
        files: further files beside the page, by name, such as tasks for Label Studio.
    """

    name: str
    title: str
    lead: str
    blocks: Sequence[Part]
    findings: Sequence[Finding] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
