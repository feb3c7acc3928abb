"""Clips without labels: none that judges is learnt from, under whatever name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made_runs import clips_run, videos
from vidray.errors import UserError
from vidray.learning.examples import Examples, read_clips
from vidray.learning.unlabelled import clips_beside, read_beside
from vidray.tables.shards import Clips

SIZE = {"frames": 2, "size_px": 8}


def unlabelled(number: int, **values: Any) -> dict[str, Any]:
    """A video that nothing is known of, unless ``values`` say it."""
    row = {
        "video_id": f"u{number}", "uri": f"/bucket/u{number}.mp4", "fingerprint": f"f-u{number}",
        "label": None, "split": None, "group": None, "status": "ok",
    }  # fmt: skip
    return row | values


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """16 videos: recordings g0, g1, g4, g5 train, g2 and g3 val, g6 and g7 test."""
    return read_clips(str(clips_run(tmp_path_factory.mktemp("data") / "clips", 16, **SIZE)))


def run(out: Path, rows: list[dict[str, Any]], **cut: Any) -> str:
    made = {**SIZE, "unlabelled": "keep", **cut}
    return str(clips_run(out / "more", rows=rows, **made))


def learnt(data: str, labelled: Examples) -> list[str]:
    found = clips_beside(data, labelled)
    return list(Clips(found.uri).table["video_id"].take(found.rows).to_pylist())


@pytest.mark.parametrize(
    ("values", "is_learnt"),
    [
        ({}, True),
        ({"label": "anything"}, True),  # No label is looked at.
        ({"group": "g0"}, True),
        ({"group": "g2"}, False),
        ({"group": "g7"}, False),
        ({"split": "train"}, True),
        ({"split": "val"}, False),
        ({"split": "test"}, False),
        ({"uri": "/videos/v006.mp4"}, False),  # Another stretch of a video of val.
        ({"uri": "/videos/v000.mp4"}, True),
        ({"fingerprint": "f-v006"}, False),
        ({"fingerprint": "f-v000"}, True),
        ({"video_id": "v000"}, False),  # It is learnt from already.
        ({"video_id": "v006"}, False),
    ],
)
def test_what_judges_is_not_learnt_from(
    values: dict[str, str], is_learnt: bool, labelled: Examples, tmp_path: Path
) -> None:
    # The first is there in any case, and takes the noise of the first labelled clip.
    rows = [unlabelled(0), *[unlabelled(k) for k in range(1, 20)], unlabelled(99, **values)]
    found = learnt(run(tmp_path, rows), labelled)
    assert (rows[-1]["video_id"] in found) == is_learnt


def test_a_copy_of_the_pixels_under_another_name_is_not_learnt_from(
    labelled: Examples, tmp_path: Path
) -> None:
    """``clips_run`` draws one noise for row k: these are the labelled clips, labels and all."""
    rows = [
        {**row, "video_id": f"c{k}", "uri": f"/c/{k}", "fingerprint": f"c{k}", "group": None,
         "split": None} for k, row in enumerate(videos(16))
    ]  # fmt: skip
    data = run(tmp_path, rows)
    found = learnt(data, labelled)
    judging = {k for k, row in enumerate(videos(16)) if row["split"] != "train"}
    assert found == [f"c{k}" for k in range(16) if k not in judging]
    assert clips_beside(data, labelled).left_out == len(judging)


def test_the_data_themselves_give_their_rows_without_a_label(tmp_path: Path) -> None:
    rows = [*videos(16), unlabelled(0), unlabelled(1, group="g2"), unlabelled(2)]
    data = run(tmp_path, rows)
    examples = read_clips(data)
    assert learnt(data, examples) == ["u0", "u2"]


def test_nothing_left_is_told(labelled: Examples, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no clip to learn from beside the labelled ones"):
        clips_beside(run(tmp_path, [unlabelled(0, split="test")]), labelled)
    assert labelled.clips is not None
    with pytest.raises(UserError, match="no clip to learn from beside the labelled ones"):
        clips_beside(labelled.clips.uri, labelled)


@pytest.mark.parametrize("cut", [{"frames": 3}, {"size_px": 10}, {"clip_seconds": 1.0},
                                 {"clips_per_video": 2}])  # fmt: skip
def test_clips_that_are_cut_otherwise_are_refused(
    cut: dict[str, Any], labelled: Examples, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"was cut with .*: cut both alike"):
        clips_beside(run(tmp_path, [unlabelled(0)], **cut), labelled)


def test_more_clips_of_a_video_are_cut_alike_where_their_length_is_given(tmp_path: Path) -> None:
    own = clips_run(tmp_path / "own", 16, clip_seconds=1.0, **SIZE)
    more = run(tmp_path, [unlabelled(k) for k in range(20)], clip_seconds=1.0, clips_per_video=3)
    assert "u19" in learnt(more, read_clips(str(own)))


def test_the_digest_is_of_the_clips_that_are_learnt_from(
    labelled: Examples, tmp_path: Path
) -> None:
    rows = [unlabelled(k) for k in range(18)]
    first = clips_beside(run(tmp_path / "a", rows), labelled)
    assert clips_beside(run(tmp_path / "b", rows), labelled).digest == first.digest
    changed = [*rows[:-1], unlabelled(17, fingerprint="other")]
    assert clips_beside(run(tmp_path / "c", changed), labelled).digest != first.digest
    assert json.dumps(first.rows.tolist())


def test_clips_of_two_runs_are_read_as_one(labelled: Examples, tmp_path: Path) -> None:
    own, more = labelled.clips, Clips(run(tmp_path, [unlabelled(k) for k in range(5)]))
    assert own is not None
    own_rows, other_rows = np.array([3, 0, 7]), np.array([4, 1])
    rows = np.array([4, 0, 2, 3, 3])
    found = read_beside(own, own_rows, more, other_rows, rows)
    expected = [more.read(np.array([1])), own.read(np.array([3])), own.read(np.array([7])),
                more.read(np.array([4])), more.read(np.array([4]))]  # fmt: skip
    assert (found == np.concatenate(expected)).all()
