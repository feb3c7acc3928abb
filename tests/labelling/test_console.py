"""The last lines of a label job: labels beside the true ones, and a cost that means something."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from vidray.labelling import console
from vidray.labelling.commits import LabelSet
from vidray.tables import schema

LABELS = LabelSet(out="/data/labels", name="m-0123456789ab")


def _rows(number: int, true_label: str | None = "run") -> pa.Table:
    rows = [
        {
            "uri": f"/v/{k:03d}.mp4", "true_label": true_label, "probability": 0.5 + k / 1000,
            "label": "sit" if k % 4 == 0 else "run", "duration_seconds": 2.0, "commit": 3,
        }
        for k in range(number)
    ]  # fmt: skip
    rows.append({**rows[0], "uri": "/v/bad.mp4", "label": None, "probability": None})
    kinds = pa.schema([schema.LABELS.field(name) for name in console.COLUMNS])
    return pa.Table.from_pylist(rows, kinds)


def _report(videos: int, working: float) -> dict[str, Any]:
    return {
        "labels": {"run": 3, "sit": 1},
        "counts": {"videos": videos, "ok": videos, "failed": 0, "skipped": 0, "error_kinds": {}},
        "seconds": {"working": working, "startup": 5.0},
        "videos_done_before": 0,
        "videos_per_second": videos / working,
        "hours_of_video_per_hour": 7.0,
        "cost_per_thousand_videos": {"cpu_seconds": 1362.0, "gpu_seconds": 0.0},
    }


def test_labels_stand_beside_true_ones_from_all_over_the_commit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.print_commit(LABELS, 3, _rows(100), _report(101, 3.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["video", "true", "label", "label", "probability"]
    shown = [line.split() for line in lines[1:13]]
    assert shown[0] == ["000.mp4", "run", "sit", "0.50"]
    assert shown[-1] == ["099.mp4", "run", "run", "0.60"]
    assert lines[13] == "75 of 100 labels are the true ones (videos it learnt from count too)"
    assert lines[-1] == ("commit 3: /data/labels, files in its folder labels/set=m-0123456789ab")


def test_nothing_is_compared_where_no_true_label_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.print_commit(LABELS, 3, _rows(100, None), _report(101, 3.0))
    assert "true" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("videos", "working", "is_said"), [(20, 5.0, False), (20, 90.0, True), (500, 5.0, True)]
)
def test_a_cost_is_said_from_so_much_work_on(
    videos: int, working: float, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_commit(LABELS, 3, _rows(4), _report(videos, working))
    assert ("1362 CPU-seconds" in capsys.readouterr().out) == is_said
