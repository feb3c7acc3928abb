"""The least sure labels: their order, and the files for Label Studio."""

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.report import made, made_nights
from tests.report.made_nights import CLASSES, SET, failure, history, row
from vidray.report.blocks import DataTable, Fold, Gallery
from vidray.report.nights import rows, unsure
from vidray.report.nights.rows import NightRows
from vidray.report.runs import LabelHistory


def _found(one: LabelHistory) -> NightRows:
    found = rows.of_history(one)
    assert found is not None
    return found


def _row(video: str, commit: int, *probabilities: float, **changes: Any) -> dict[str, Any]:
    best = max(range(len(probabilities)), key=lambda k: probabilities[k])
    named = {"label": CLASSES[best], "probability": probabilities[best]}
    return row(video, commit, **{**named, "probabilities": list(probabilities), **changes})


def test_the_nearest_second_class_comes_first_whatever_the_first_one_has() -> None:
    one = history(
        [
            _row("sure", 1, 0.9, 0.06, 0.04),
            _row("near", 1, 0.49, 0.48, 0.03),
            _row("low", 1, 0.40, 0.31, 0.29),
        ]
    )
    frame = unsure.least_sure(_found(one))
    assert frame["video_id"].tolist() == ["near", "low", "sure"]
    assert frame["margin"].tolist() == pytest.approx([0.01, 0.09, 0.84])
    assert frame["second"].tolist() == ["run", "run", "run"]
    assert frame["second_probability"].tolist() == pytest.approx([0.48, 0.31, 0.06])


def test_of_a_video_only_its_newest_row_counts_and_failures_have_no_label() -> None:
    one = history(
        [
            _row("again", 1, 0.5, 0.5, 0.0),
            _row("again", 2, 0.8, 0.1, 0.1),
            _row("gone", 1, 0.5, 0.5, 0.0),
            failure("gone", 2, "missing"),
        ]
    )
    frame = unsure.least_sure(_found(one))
    assert frame["video_id"].tolist() == ["again"]
    assert frame["night"].tolist() == [2]
    assert frame["probability"].tolist() == [0.8]


def test_the_label_of_a_long_video_may_not_be_its_most_probable_class() -> None:
    # Its windows say run; their mean says jump.
    one = history([_row("long", 1, 0.5, 0.4, 0.1, label="run", probability=0.4)])
    frame = unsure.least_sure(_found(one))
    assert frame["second"].tolist() == ["jump"]
    assert frame["margin"].tolist() == pytest.approx([-0.1])


def test_rows_without_probabilities_are_judged_by_what_they_leave() -> None:
    nothing = {"probabilities": None, "class_names": None}
    one = history(
        [
            row("a", 1, probability=0.9, **nothing),
            row("b", 1, probability=0.55, **nothing),
            row("c", 1, probability=None, **nothing),
        ]
    )
    frame = unsure.least_sure(_found(one))
    assert frame["video_id"].tolist() == ["b", "a"]
    assert frame["margin"].tolist() == pytest.approx([0.1, 0.8])
    assert frame["second"].isna().all()


def test_no_more_than_a_thousand_are_listed() -> None:
    table = made_nights.night(1, 1100, failed=0.0)
    frame = unsure.least_sure(_found(history(table)))
    assert len(frame) == unsure.MOST_VIDEOS == 1000
    assert frame["margin"].is_monotonic_increasing


# What labelstud.io/guide/predictions and /guide/task_format state, as a schema.


def _check_tasks(tasks: Any, interface: bytes) -> None:
    view = ElementTree.fromstring(interface)
    assert view.tag == "View"
    (video,), (choices,) = view.findall("Video"), view.findall("Choices")
    assert video.get("value") == "$video"
    assert choices.get("toName") == video.get("name")
    assert choices.get("choice") == "single"
    values = [choice.get("value") for choice in choices.findall("Choice")]
    assert len(set(values)) == len(values) > 0
    assert isinstance(tasks, list)
    for task in tasks:
        assert set(task) == {"data", "predictions"}
        assert isinstance(task["data"]["video"], str)
        assert all(isinstance(value, str | int | float) for value in task["data"].values())
        for prediction in task["predictions"]:
            assert set(prediction) == {"model_version", "score", "result"}
            assert isinstance(prediction["model_version"], str)
            assert 0 <= prediction["score"] <= 1
            (result,) = prediction["result"]
            assert set(result) == {"id", "from_name", "to_name", "type", "value"}
            assert result["from_name"] == choices.get("name")
            assert result["to_name"] == video.get("name")
            assert result["type"] == "choices"
            (chosen,) = result["value"]["choices"]
            assert chosen in values
    ids = [task["predictions"][0]["result"][0]["id"] for task in tasks]
    assert len(set(ids)) == len(ids)


def test_tasks_and_interface_are_as_label_studio_documents_them() -> None:
    one = history([_row("a", 1, 0.5, 0.4, 0.1), _row("b", 2, 0.2, 0.3, 0.5, true_label="walk")])
    parts, files = unsure.blocks(_found(one), made_nights.tools(), "nights")
    tasks = json.loads(files["nights-label-studio.json"])
    _check_tasks(tasks, files["nights-label-studio.xml"])
    first = tasks[0]
    assert first["data"]["video"] == "/data/local-files/?d=videos/a.mp4"
    assert first["predictions"][0]["model_version"] == SET
    assert first["predictions"][0]["score"] == 0.5
    assert first["predictions"][0]["result"][0]["value"] == {"choices": ["jump"]}
    assert tasks[1]["data"]["true_label"] == "walk"
    assert [type(part) for part in parts] == [Gallery, Fold]


def test_hostile_classes_and_names_are_tasks_too() -> None:
    names = list(made.HOSTILE)
    one = history(
        [
            row(f"v{k}", 1, uri=f"s3://bucket/{name}", label=name, class_names=names)
            for k, name in enumerate(names)
        ]
    )
    _, files = unsure.blocks(_found(one), made_nights.tools(), "nights")
    _check_tasks(json.loads(files["nights-label-studio.json"]), files["nights-label-studio.xml"])


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("s3://bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("https://x.org/a.mp4", "https://x.org/a.mp4"),
        ("/data/a b&c?d#e.mp4", "/data/local-files/?d=data/a%20b%26c%3Fd%23e.mp4"),
        ("/data/مصارعة.mp4", "/data/local-files/?d=data/%D9%85%D8%B5%D8%A7%D8%B1%D8%B9%D8%A9.mp4"),
    ],
)
def test_files_of_a_disk_are_named_as_label_studio_serves_them(uri: str, found: str) -> None:
    assert unsure.address(uri) == found


def test_as_many_cards_as_asked_for_say_why_there_is_no_frame_once() -> None:
    table = made_nights.night(1, 40, failed=0.0)
    parts, _ = unsure.blocks(_found(history(table)), made_nights.tools(shown_videos=5), "nights")
    gallery, fold = parts
    assert isinstance(gallery, Gallery)
    assert len(gallery.cards) == 5
    assert "--no-frames" in gallery.note
    assert isinstance(fold, Fold)
    (listed,) = fold.blocks
    assert isinstance(listed, DataTable)
    assert len(listed.frame) == 40


def test_without_labels_that_is_said() -> None:
    parts, files = unsure.blocks(
        _found(history([failure("a", 1, "timeout")])), made_nights.tools(), "nights"
    )
    assert len(parts) == 1
    assert files == {}
