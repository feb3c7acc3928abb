"""Parts as a notebook shows them: with the page's style, and all text escaped."""

from html.parser import HTMLParser

import pandas as pd
import pytest

from tests.report import made
from vidray.report.blocks import (
    Card,
    Column,
    DataTable,
    Finding,
    Fold,
    Gallery,
    Part,
    Prose,
    Section,
)

EVIL = '<b onclick="x()">&amp;</b>'
PARTS: dict[str, Part | Section] = {
    "prose": Prose(paragraphs=[EVIL], is_finding=True),
    "table": DataTable(
        name="t",
        title=EVIL,
        note=EVIL,
        frame=pd.DataFrame({"a": [EVIL], "link": ['#"><b>']}),
        columns={"a": Column(title=EVIL, hint=EVIL)},
        link="link",
    ),
    "gallery": Gallery(
        title=EVIL,
        note=EVIL,
        cards=[
            Card(title=EVIL, facts={EVIL: EVIL}, why_none=EVIL),
            Card(title=EVIL, facts={}, pictures=[made.thumbnail(1)]),
        ],
    ),
    "fold": Fold(title=EVIL, blocks=[Prose(paragraphs=[EVIL])]),
    "section": Section(
        name="s",
        title=EVIL,
        lead=EVIL,
        blocks=[Prose(paragraphs=[EVIL])],
        findings=[Finding(level="alarm", text=EVIL, section="other")],
    ),
}


class _Seen(HTMLParser):
    """The tags, attributes and text of some HTML, outside of its style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._is_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._is_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._is_style = self._is_style and tag != "style"

    def handle_data(self, data: str) -> None:
        self.text += "" if self._is_style else data


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_shows_itself_with_its_text_as_it_is(kind: str) -> None:
    seen = _Seen(PARTS[kind]._repr_html_())
    assert EVIL in seen.text
    assert "onclick" not in {name for name, _ in seen.attributes}
    assert "script" not in seen.tags
    assert seen.tags.count("style") == 1


def test_a_table_has_heads_hints_links_and_what_is_best() -> None:
    seen = _Seen(made.model_table()._repr_html_())
    assert seen.tags.count("tr") == 1 + len(made.MODELS)
    assert ("scope", "row") in seen.attributes
    assert seen.attributes.count(("class", "best")) == 3
    assert ("href", "#video-0") in seen.attributes
    assert "Share of the videos whose label is right." in seen.text
    assert "Data: models.csv" in seen.text
    assert "0.490 to 0.590" in seen.text


def test_a_cut_table_says_what_is_left_out() -> None:
    text = _Seen(made.long_table(1234)._repr_html_()).text
    assert "100 of 1,234 rows; all are in videos.csv" in text


def test_a_table_without_rows_says_so() -> None:
    empty = DataTable(
        name="t", title="T", frame=pd.DataFrame({"a": []}), columns={"a": Column(title="A")}
    )
    assert "No rows." in _Seen(empty._repr_html_()).text


def test_a_long_text_is_folded_and_whole() -> None:
    seen = _Seen(Prose(paragraphs=[made.ERROR, "short"])._repr_html_())
    assert seen.tags.count("details") == 1
    assert "(10,004 characters)" in seen.text
    assert seen.text.count("moov atom") >= 475
    longer = _Seen(Prose(paragraphs=["x" * 50_000])._repr_html_()).text
    assert 19_000 < longer.count("x") < 21_000
    assert "cut after 20,000" in longer


def test_findings_say_their_level_and_lead_to_their_chapter() -> None:
    found = [Finding(level=level, text=level, section="b") for level in ("note", "alarm", "good")]
    own = Finding(level="warning", text="of this chapter", section="a")
    shown = Section(name="a", title="A", lead="", blocks=[], findings=[*found, own])
    text = _Seen(shown._repr_html_()).text
    assert text.index("Alarm") < text.index("Good") < text.index("Note")
    assert "of this chapter" not in text


def test_headings_go_down_by_one() -> None:
    inner = Gallery(title="Inner", cards=[])
    parts = Fold(title="Outer", blocks=[Fold(title="Middle", blocks=[inner])])
    whole = Section(name="s", title="S", lead="", blocks=[parts])
    tags = [tag for tag in _Seen(whole._repr_html_()).tags if tag[0] == "h" and tag[1:].isdigit()]
    assert tags == ["h2", "h3", "h4", "h5"]


def test_charts_that_follow_one_another_stand_together() -> None:
    two = made.every_chart(["a"])[:2]
    text = Fold(title="F", blocks=[*two, Prose(paragraphs=["p"]), two[0]])._repr_html_()
    assert text.count('<div class="charts">') == 2
