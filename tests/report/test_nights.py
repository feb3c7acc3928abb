"""The chapter on nights: counts, words, what is left after each night, and hostile names."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.report import folders, made, made_nights
from tests.report.made_nights import failure, history, night, report, row
from vidray.report import beside, nights, page
from vidray.report.blocks import Chart, DataTable, Prose, Section
from vidray.report.nights import alarms, charts_over_nights, labels, rows
from vidray.report.reading import read
from vidray.report.runs import LabelHistory, Runs
from vidray.report.settings import ReportSettings

SETTINGS = ReportSettings(frames=False, cpu_hour_price=0.5, gpu_hour_price=10.0)


def _found(one: LabelHistory) -> rows.NightRows:
    found = rows.of_history(one)
    assert found is not None
    return found


def _section(*histories: LabelHistory, **settings: object) -> Section:
    section = nights.section(Runs(folders=("x",), labels=histories), made_nights.tools(**settings))
    assert section is not None
    return section


def _texts(section: Section) -> str:
    blocks = beside.parts(section.blocks)
    return "\n".join(text for one in blocks if isinstance(one, Prose) for text in one.paragraphs)


def _three_nights() -> LabelHistory:
    """A fails for good, b for now and then succeeds, c changes, d fails as often as it may."""
    return history(
        [
            failure("a", 1, "unreadable"),
            failure("b", 1, "timeout"),
            row("c", 1),
            failure("d", 1, "missing"),
            row("b", 2, attempts=2),
            row("c", 2),
            failure("d", 2, "missing", attempts=2),
            row("e", 2),
            failure("d", 3, "missing", attempts=3),
            row("f", 3),
            row("g", 3, status="skipped", label=None, probability=None),
        ],
        config={"max_attempts": 3},
    )


def test_every_night_has_its_videos_and_what_became_of_them() -> None:
    frame = rows.per_night(_found(_three_nights()), SETTINGS).set_index("night")
    assert frame["came_in"].tolist() == [4, 4, 3]
    assert frame["new"].tolist() == [4, 1, 2]
    assert frame["again"].tolist() == [0, 3, 1]
    assert frame["labelled"].tolist() == [1, 3, 1]
    assert frame["failed"].tolist() == [3, 1, 1]
    assert frame["skipped"].tolist() == [0, 0, 1]
    assert frame["waiting"].tolist() == [2, 1, 0]  # b and d, d, nobody
    assert frame["given_up"].tolist() == [1, 1, 2]  # a, a, a and d
    assert frame["cost"].isna().all()
    assert f"{frame['committed_at'][3]:%Y-%m-%d}" == "2026-10-29"


def test_a_night_s_report_gives_speed_and_cost() -> None:
    one = history([row("a", 1), row("b", 4)], {4: report(1)})
    frame = rows.per_night(_found(one), SETTINGS)
    assert frame["night"].tolist() == [1, 4]
    assert np.isnan(frame["videos_per_second"][0])
    assert frame["videos_per_second"][1] == 2.0
    # An hour of CPU and a tenth of an hour of GPU a thousand videos, at 0.5 and 10 an hour.
    assert frame["cost"][1] == pytest.approx(0.0015)
    assert frame["hours_of_video"].tolist() == pytest.approx([10 / 3600, 0.01])


def test_of_a_compacted_night_its_report_says_how_many_came_in_and_failed() -> None:
    counts = {"videos": 3, "ok": 1, "failed": 2, "skipped": 0, "error_kinds": {"timeout": 2}}
    kept = [row("a", 1), row("b", 2, attempts=2), row("c", 2, attempts=2)]
    found = _found(history(kept, {1: report(3, counts=counts), 2: report(2)}))
    frame = rows.per_night(found, SETTINGS)
    assert frame["came_in"].tolist() == [3, 2]
    assert frame["failed"].tolist() == [2, 0]
    assert np.isnan(frame["again"][0])
    assert frame["again"][1] == 2
    assert rows.failures(found)["timeout"].tolist() == [2, 0]
    assert found.is_whole.tolist() == [False, True]


def test_reports_of_anything_cost_their_figures_only() -> None:
    for wrong in (
        {"counts": 3},
        {"counts": {"videos": "x", "error_kinds": [1]}},
        {"seconds": None},
    ):
        found = _found(history([row("a", 1)], {1: wrong}))
        assert rows.per_night(found, SETTINGS)["came_in"].tolist() == [1]
        assert rows.failures(found).columns.tolist() == ["night"]


def test_last_night_is_told_in_words() -> None:
    found = _found(_three_nights())
    frame = rows.per_night(found, SETTINGS)
    assert nights.last_night(found, frame, rows.failures(found)) == (
        "Night 3 (2026-10-29): 3 videos came in (1 of them labelled again), 1 labelled, "
        "1 failed (1 missing), 1 skipped. 2 in all are given up."
    )


def test_failures_are_grouped_with_an_example_and_a_long_error_is_cut() -> None:
    one = history(
        [row("ok", 1)]
        + [failure(f"bad{k}", 1, "unreadable", error_message=made.ERROR) for k in range(3)]
        + [failure("late", 1, "timeout")]
    )
    section = _section(one)
    (table,) = (
        block
        for block in beside.parts(section.blocks)
        if isinstance(block, DataTable) and block.name == "nights-failures"
    )
    assert table.frame["kind"].tolist() == ["unreadable", "timeout"]
    assert table.frame["videos"].tolist() == [3, 1]
    assert table.frame["example"].tolist() == ["bad0.mp4", "late.mp4"]
    assert len(table.frame["shown"][0]) == 201
    assert table.frame["error_message"][0] == made.ERROR
    assert [f.level for f in section.findings if "came in" in f.text] == ["warning"]


def test_accuracy_of_a_night_has_an_interval_over_recordings() -> None:
    right = np.random.default_rng(0).random(60) < 0.5
    videos = [
        row(f"v{k}.{j}", 1, group=f"g{k}", true_label="jump" if right[k] else "run")
        for k, j in itertools.product(range(60), range(5))
    ]
    later = [row(f"w{j}", 2, group="one", true_label="jump") for j in range(5)]
    unknown = [row("u", 1), failure("f", 1, "timeout", true_label="run")]
    found = _found(history([*videos, *later, *unknown]))
    nobody = np.zeros(len(found.rows), np.bool_)
    frame = labels.accuracy(found, nobody, seed=0)
    assert frame["videos"].tolist() == [300, 5]
    assert frame["accuracy"].tolist() == pytest.approx([right.mean(), 1.0])
    # All videos of a recording are right, or all are wrong: as wide as of 60 videos, not of 300.
    width = frame["high"][0] - frame["low"][0]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(right.var() / 60), rel=0.1)
    assert np.isnan(frame["low"][1])  # one recording
    assert labels.accuracy(found, found.night == 0, seed=0)["night"].tolist() == [2]


def test_a_source_whose_labels_are_no_classes_of_the_model_says_nothing_of_it() -> None:
    named = {"class_names": ["jump", "run"]}
    videos = [row(f"v{k}", 1, label="jump", true_label="jump", **named) for k in range(4)]
    others = [row(f"w{k}", 1, label="jump", true_label="corpus", **named) for k in range(6)]
    found = _found(history([*videos, *others]))
    frame = labels.accuracy(found, np.zeros(10, np.bool_), seed=0)
    assert frame[["videos", "accuracy"]].to_numpy().tolist() == [[4, 1.0]]
    # One that it never gave is a class all the same, where its rows name the classes.
    missed = [row(f"r{k}", 1, label="jump", true_label="run", **named) for k in range(4)]
    found = _found(history([*videos, *missed]))
    frame = labels.accuracy(found, np.zeros(8, np.bool_), seed=0)
    assert frame[["videos", "accuracy"]].to_numpy().tolist() == [[8, 0.5]]


def test_of_many_names_the_largest_and_the_rest_are_drawn() -> None:
    frame = pd.DataFrame({"night": [1, 2], **{f"c{k:02}": [k, 1] for k in range(12)}})
    largest = charts_over_nights.largest(frame)
    assert largest.columns.tolist() == [
        "night",
        *(f"c{k:02}" for k in range(11, 4, -1)),
        "all others",
    ]
    assert largest["all others"].tolist() == [0 + 1 + 2 + 3 + 4, 5]


@pytest.mark.slow
def test_several_sets_each_have_a_part_and_no_name_is_twice() -> None:
    table = pa.concat_tables([night(1, 30), night(2, 30)])
    section = _section(history(table), history(table, set_name="s3d-ba9876543210"))
    named = [b.name for b in beside.parts(section.blocks) if isinstance(b, DataTable | Chart)]
    assert len(set(named)) == len(named) > 10
    assert len(section.findings) <= 3
    assert "labels by s3d" in _texts(section)
    assert len(section.files) == 4


def test_there_is_no_chapter_without_labels() -> None:
    assert nights.section(Runs(folders=()), made_nights.tools()) is None
    assert nights.section(Runs(folders=(), labels=(history([]),)), made_nights.tools()) is None


def test_a_night_of_failures_only_and_rows_of_an_older_version_are_shown() -> None:
    section = _section(history([failure("a", 1, "unreadable"), failure("b", 1, "crashed")]))
    assert "0 labelled, 2 failed" in _texts(section)
    old = dict.fromkeys(("corrupt_share", "class_names", "attempts", "duration_seconds"))
    section = _section(history([row("a", 1, **old), row("b", 2, **old)]))
    assert "Night 2 (2026-10-28): 1 video came in" in _texts(section)


def test_hostile_names_stay_text() -> None:
    names = made.HOSTILE
    pairs = itertools.product(enumerate(names), (1, 2))
    one = history(
        [
            row(
                f"v{k}",
                commit,
                uri=f"/v/{k}{commit}/{name}",
                label=name,
                class_names=list(names[:3]),
            )
            for (k, name), commit in pairs
        ]
        + [failure("bad", 2, "unreadable", uri=f"/v/{made.VIDEO}", error_message=made.SCRIPT)]
    )
    section = _section(one)
    runs = Runs(folders=("x",), labels=(one,))
    html = page.render(runs, [section], [], ReportSettings(), data_folder="d")
    assert "<img src=x" not in html
    assert "<script>alert" not in html
    for content in section.files.values():
        content.decode()
    json.loads(section.files["nights-label-studio.json"])


def test_a_report_that_contradicts_the_rows_is_not_believed(tmp_path: Path) -> None:
    made_up = folders.label_rows(4)
    made_up[0] |= {"status": "failed", "error_kind": "missing", "duration_seconds": float("inf")}
    made_up[1] |= {"duration_seconds": -5.0}
    folders.night(tmp_path / "labels", made_up)  # Its report counts four that are ok.
    (labelled,) = read([str(tmp_path)]).labels
    for counts in ({"videos": 4, "ok": 4, "failed": 0}, {"videos": -1, "ok": -3, "failed": 99}):
        lies = {"counts": counts, "hours_of_video": -2}
        found = _found(dataclasses.replace(labelled, nights={1: lies}))
        (last,) = rows.per_night(found, SETTINGS).to_dict("records")
        assert (last["came_in"], last["labelled"], last["failed"]) == (4, 3, 1)
        seconds = sum(float(str(one["duration_seconds"])) for one in made_up[2:])
        assert last["hours_of_video"] == pytest.approx(seconds / 3600)


def test_nights_without_a_figure_are_not_said_to_be_the_first() -> None:
    _, text = alarms.verdict(_found(_three_nights()), [])
    assert "with the nights before it" in text
    assert "no night before" not in text
