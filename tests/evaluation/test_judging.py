"""What a model is judged on and timed on."""

from pathlib import Path

import pyarrow as pa

from vidray.evaluation.judging import _videos
from vidray.storage import parquet


def test_what_clips_of_a_stretch_are_timed_on(tmp_path: Path) -> None:
    """Evaluating times the whole way from the file: of the row's stretch, not of a clip's."""
    listed = [
        {"video_id": "a", "begin_seconds": 5.0, "end_seconds": 9.0},
        {"video_id": "b", "begin_seconds": None, "end_seconds": None},
        {"video_id": "c", "begin_seconds": 1.0, "end_seconds": 2.0},
    ]
    clip = {"begin_seconds": 6.0, "end_seconds": 7.0, "label": "up"}
    for columns in (["video_id", "begin_seconds", "end_seconds"], ["video_id"]):
        table = pa.Table.from_pylist(listed).select(columns)
        (tmp_path / "videos.parquet").write_bytes(parquet.parquet_bytes(table))
        found = _videos(str(tmp_path), {name: {"video_id": name, **clip} for name in "ab"})
        spans = [(video["begin_seconds"], video["end_seconds"]) for video in found]
        assert spans == ([(5.0, 9.0), (None, None)] if len(columns) == 3 else [(None, None)] * 2)
        assert [video["label"] for video in found] == ["up", "up"]
