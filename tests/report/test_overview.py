"""The first screen says what the runs are and what needs a person, the most urgent first."""

from pathlib import Path

import pandas as pd

from tests.made_runs import features_run
from tests.report import folders
from vidray.report import overview
from vidray.report.blocks import (
    Card,
    Column,
    DataTable,
    Finding,
    Fold,
    Gallery,
    Prose,
    Section,
)
from vidray.report.reading import read
from vidray.report.runs import Problem, Runs


def _section(*findings: Finding, name: str = "compare", table: str = "") -> Section:
    frame = pd.DataFrame({"model": ["a", "b"], "accuracy": [0.5, 0.6], "other": [1, 2]})
    columns = {column: Column() for column in frame}
    made = DataTable(name=table, title="Models", frame=frame, columns=columns)
    fold = Fold(title="x", blocks=[made])
    blocks = [fold] if table else []
    return Section(name=name, title="Compare", lead="", blocks=blocks, findings=findings)


def _finding(level: str, text: str) -> Finding:
    return Finding(level=level, text=text, section="compare")  # type: ignore[arg-type]


def test_what_the_page_shows_is_counted(tmp_path: Path) -> None:
    features_run(tmp_path / "features", 16)
    folders.model(tmp_path / "knn")
    folders.evaluation(tmp_path / "knn_test", tmp_path / "knn")
    for first in (0, 20):
        folders.night(tmp_path / "labels", folders.label_rows(20, first=first))
    made = overview.section(read([str(tmp_path)]), [])
    text = made.blocks[0]
    assert isinstance(text, Prose)
    (said,) = text.paragraphs
    assert said == (
        "This page shows 16 videos described by features, 1 model trained, 1 evaluation and "
        "2 nights of labels of 40 videos."
    )
    fold = made.blocks[-1]
    assert isinstance(fold, Fold)
    table = fold.blocks[0]
    assert isinstance(table, DataTable)
    holds = dict(zip(table.frame["run"], table.frame["holds"], strict=True))
    assert holds == {
        "features": "16 videos: motion, temporal",
        "knn": "knn, 2 classes",
        "knn_test": "knn on 16 videos of split test",
        "labels": "40 rows in 2 nights",
    }
    assert table.frame["took"][1] == 2.0  # "all" of run.json.


def test_findings_are_ordered_by_how_urgent_they_are() -> None:
    sections = [
        _section(_finding("note", "n"), _finding("warning", "w")),
        _section(_finding("alarm", "a"), _finding("good", "g"), name="nights"),
    ]
    made = overview.section(Runs(folders=("x",)), sections)
    assert [finding.text for finding in made.findings] == ["a", "w", "g", "n"]
    assert made.lead.startswith("1 alarm")
    made = overview.section(Runs(folders=("x",)), sections[:1])
    assert made.lead == "No alarm, and 1 warning to know of."
    assert overview.section(Runs(folders=("x",)), []).lead == "Nothing here needs a person."


def test_a_folder_that_is_not_on_the_page_is_a_warning() -> None:
    problems = [Problem(folder="/a/b", why="is not finished"), Problem(folder="/c", why="is gone")]
    (finding,) = overview.section(Runs(folders=("x",)), [], problems).findings
    assert finding.text == "Not on this page: b is not finished, and 1 more."
    assert (finding.level, finding.section) == ("warning", "problems")


def test_the_table_is_that_of_the_most_telling_chapter() -> None:
    nights = _section(name="nights", table="nights-1")
    compare = _section(name="compare", table="compare-1")
    made = overview.section(Runs(folders=("x",)), [nights, compare])
    table = made.blocks[1]
    assert isinstance(table, DataTable)
    assert list(table.columns) == ["model", "accuracy"]
    made = overview.section(Runs(folders=("x",)), [nights])
    table = made.blocks[1]
    assert isinstance(table, DataTable)
    assert list(table.columns) == ["model", "accuracy", "other"]


def _gallery(why: str, *names: str) -> Gallery:
    cards = [Card(title=name, facts={}, anchor=f"video-{name}") for name in names]
    return Gallery(title="x", cards=cards, why=why)


def _with(name: str, *blocks: Gallery | Fold) -> Section:
    return Section(name=name, title=name, lead="", blocks=blocks)


def test_videos_to_look_at_are_some_of_each_reason() -> None:
    mistakes = _with(
        "mistakes",
        _gallery("all wrong", "a", "b"),
        Fold(title="x", blocks=[_gallery("sure", *"acdefghijk"), _gallery("", "never")]),
    )
    nights = _with("nights", _gallery("unsure", *"lmnopq"))
    made = overview.section(Runs(folders=("x",)), [mistakes, nights])
    (table,) = [one for one in made.blocks if isinstance(one, DataTable)]
    # Four of each reason first, then those of the first reasons.
    assert table.frame["video"].tolist() == ["a", "b", "c", "d", "e", "f", "l", "m", "n", "o"]
    assert table.frame["why"].tolist() == ["all wrong"] * 2 + ["sure"] * 4 + ["unsure"] * 4
    assert table.frame["link"][0] == "#video-a"
    made = overview.section(Runs(folders=("x",)), [nights])
    (table,) = [one for one in made.blocks if isinstance(one, DataTable)]
    assert "".join(table.frame["video"]) == "lmnopq"
    assert not [
        one
        for one in overview.section(Runs(folders=("x",)), [_with("data")]).blocks
        if isinstance(one, DataTable)
    ]
