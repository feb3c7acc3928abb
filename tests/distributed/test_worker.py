"""What a Ray worker makes of a block, without Ray: parts, receipts, and what it cannot do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.made_runs import videos
from vidray.distributed import worker
from vidray.distributed.resources import Resources
from vidray.distributed.worker import Work
from vidray.errors import UserError
from vidray.tables import rows, schema
from vidray.tables.runs import Run

_RESOURCES = Resources(memory_gib=1)
_SCHEMA = schema.features_schema({})


def echoing(_config: Mapping[str, Any]) -> Any:
    """The work of a sandbox that knows each video's name only."""
    return lambda video: rows.made_by(lambda _: [{}], video, _SCHEMA, "d")


def refusing(config: Mapping[str, Any]) -> Any:
    """The work of a sandbox that cannot start."""
    if config["kind"] == "refusal":
        raise UserError("the model has changed")
    raise RuntimeError("no library")


def work(target: str, **config: str) -> Work:
    return Work(f"{__name__}:{target}", config, _SCHEMA, "d")


def block_of(run: Run, number: int) -> pa.Table:
    listed = [{**row, "size_bytes": 1, "fingerprint": "f"} for row in videos(number)]
    plan = run.videos_to_do({}, lambda: pa.Table.from_pylist(listed, schema=schema.VIDEOS))
    return plan.append_column("part", run.part_numbers(plan))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(out=str(tmp_path / "out"), table="features", videos="x", digest="d")


@pytest.fixture(autouse=True)
def _no_sandbox_stays() -> Any:
    yield
    for sandbox in worker._sandboxes.values():
        sandbox.close()
    worker._sandboxes.clear()


@pytest.mark.slow
def test_each_part_has_a_receipt_that_says_when_it_was_begun(run: Run) -> None:
    block = block_of(run, 3)
    before = time.time()
    receipts = worker.make_parts(block, run, work("echoing"), _RESOURCES).to_pylist()
    assert [receipt["part"] for receipt in receipts] == [0, 1, 2]
    assert [receipt["videos"] for receipt in receipts] == [1, 1, 1]
    began = [receipt["began_at"] for receipt in receipts]
    # The start of the sandbox is not work on a video.
    assert before + 0.2 < began[0] <= began[1] <= began[2] <= time.time()
    assert sorted(run.done_parts()) == [0, 1, 2]
    again = worker.make_parts(block, run, work("refusing"), _RESOURCES).to_pylist()
    assert [receipt["refusal"] or receipt["failure"] for receipt in again] == [None] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "told"),
    [("refusal", "the model has changed"), ("failure", "cannot start: RuntimeError: no library")],
)
def test_a_sandbox_that_cannot_start_ends_the_block_and_is_told(
    run: Run, kind: str, told: str
) -> None:
    (receipt,) = worker.make_parts(
        block_of(run, 3), run, work("refusing", kind=kind), _RESOURCES
    ).to_pylist()
    assert told in receipt[kind]
    assert not run.done_parts()
