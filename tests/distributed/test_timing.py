"""What a job measures of itself: receipts added up, by hand."""

import dataclasses
import json
from typing import Any

import pytest

from tests.planning.timed import TIMING, timing
from vidray.distributed.timing import Timeline, Timing
from vidray.errors import UserError
from vidray.storage import checked_json

HELD: dict[str, Any] = {
    name: TIMING[name]
    for name in (
        "nodes", "cpus", "gpus", "workers", "worker_bytes", "predictors", "gpus_each",
        "video_bytes", "predictor_seconds",
    )
}  # fmt: skip


def receipt(worker: str, block: int, began: float, ended: float, *each: float) -> dict[str, Any]:
    return {
        "worker": worker, "block": block, "began_at": began, "ended_at": ended,
        "video_seconds": list(each), "cpu_wait": 0.5,
    }  # fmt: skip


def added(*receipts: dict[str, Any]) -> Timing:
    timeline = Timeline()
    for one in receipts:
        timeline.add(one)
    found = timeline.timing(**HELD)
    assert found is not None
    return found


def test_seconds_beside_videos_and_between_blocks() -> None:
    found = added(
        receipt("a", 0, 100.0, 103.5, 1.0, 2.0),  # half a second beside its videos
        receipt("b", 1, 52.0, 53.0, 1.0),  # by another clock
        receipt("a", 0, 103.75, 104.75, 1.0),  # the next part of the block: a quarter between
        receipt("a", 2, 106.75, 107.75, 1.0),  # another block: two seconds of waiting
    )
    assert (found.parts, found.blocks, found.block_gaps) == (4, 3, 1)
    assert found.part_seconds == pytest.approx(0.5 + 0.25)
    assert found.block_gap_seconds == pytest.approx(2.0)
    assert found.videos == 5
    assert found.seconds_per_video == pytest.approx(6 / 5)
    assert found.cpu_wait_seconds == pytest.approx(2.0)
    assert found.worker_starts_seconds == (0.0, 48.0)


def test_videos_that_take_about_as_long_are_counted_together_and_the_sum_is_exact() -> None:
    seconds = [0.01 * k for k in range(1, 500)]
    found = added(receipt("a", 0, 0.0, 2000.0, *seconds))
    assert found.videos == len(seconds)
    assert found.seconds_per_video == pytest.approx(sum(seconds) / len(seconds))
    assert len(found.video_seconds) < 80
    assert [pair[0] for pair in found.video_seconds] == sorted(p[0] for p in found.video_seconds)
    slowest = found.video_seconds[-1]
    assert 4.99 / 2 ** (1 / 8) < slowest[0] <= 4.99


def test_more_waits_than_seconds_are_of_several_threads() -> None:
    found = added({**receipt("a", 0, 0.0, 1.0, 1.0), "cpu_wait": 7.0})
    assert found.cpu_wait_seconds == 1.0


def test_of_many_workers_some_begins_are_kept() -> None:
    found = added(*(receipt(f"w{k}", k, float(k), k + 1.0, 1.0) for k in range(300)))
    assert len(found.worker_starts_seconds) == 60
    assert found.worker_starts_seconds[:3] == (0.0, 5.0, 10.0)


def test_parts_that_were_there_are_not_timed() -> None:
    timeline = Timeline()
    timeline.add({**receipt("a", 0, 0.0, 9.0), "video_seconds": []})
    assert timeline.timing(**HELD) is None


def test_it_comes_back_from_json() -> None:
    for one in (timing(), timing(predictor_seconds=3.5, video_seconds=[[0.0, 1]])):
        told = json.loads(json.dumps(dataclasses.asdict(one)))
        assert checked_json.build(Timing, told, "timing") == one


def test_values_that_cannot_be_are_refused() -> None:
    for changed in ({"workers": 0}, {"cpu_wait_seconds": -1.0}, {"workers": 10**6}):
        with pytest.raises(UserError):
            timing(**changed)
