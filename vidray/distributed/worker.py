"""The task of a Ray worker: process a block's videos in a sandbox and write them as parts.

A finished part is written to the run folder by the worker itself, so frames and features never
cross the object store, and no video can take the worker down with it. Only one small receipt per
part goes back through Ray.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from vidray import endings
from vidray.distributed import predictors
from vidray.distributed.resources import Resources
from vidray.distributed.sandbox import Ask, Sandbox
from vidray.errors import JobError, UserError, VideoError
from vidray.tables import rows, runs
from vidray.tables.runs import Run


class TableSettings(Protocol):
    """Settings of a table: a dataclass of values that JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    TARGET: ClassVar[str]
    """``module:function``, the work of a sandbox."""

    @property
    def digest(self) -> str:
        """A digest that changes when a row may."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows."""


@dataclass(frozen=True)
class Work:
    """The part of the settings that a worker needs.

    Not these themselves: with their modules it would load what only its sandbox needs, PyTorch
    among it (2 s).
    """

    target: str
    config: dict[str, Any]
    schema: pa.Schema
    digest: str
    predictors: tuple[Any, ...] = ()
    """``Predict`` actors, which the sandbox asks what a network says; none: it has its own."""

    @classmethod
    def of(cls, settings: TableSettings) -> Work:
        """The work that ``settings`` ask for."""
        return cls(settings.TARGET, dataclasses.asdict(settings), settings.schema, settings.digest)


def make_parts(block: pa.Table, run: Run, work: Work, resources: Resources) -> pa.Table:
    """Write a block's parts of the table, in a Ray worker; returns their receipts.

    A part that is there (the task is a retry) is not done again.
    """
    receipts: list[dict[str, Any]] = []
    parts = block["part"].unique().to_pylist()
    who = {"worker": f"{socket.gethostname()} {os.getpid()}", "block": min(parts)}
    try:
        for part in parts:
            receipt = _make_and_write(part, block, run, work, resources)
            if receipt is None:
                break  # Others have finished it, and what is made now would be of no use.
            receipts.append({**receipt, **who})
    except (UserError, JobError, OSError) as error:
        # By value: what is raised comes through Ray Data as a text only.
        line, code = endings.line_and_code(error)
        receipts.append({"refusal": line} if code == 2 else {"failure": line})
    return pa.Table.from_pylist(receipts, schema=_RECEIPT)


def _make_and_write(
    part: int, block: pa.Table, run: Run, work: Work, resources: Resources
) -> dict[str, Any] | None:
    """The receipt of a written part; None if the run is gone."""
    table, seconds, began_at = run.read_part(part), dict[str, float](), time.time()
    video_seconds, waited = list[float](), 0.0
    if table is None:
        if not run.is_there():
            return None
        videos = block.filter(pc.equal(block["part"], part)).drop_columns(["part"])
        sandbox = started_sandbox(work, resources)
        began_at = time.time()
        ask = predictors.ask(work.predictors)
        waited_before = sandbox.cpu_wait_seconds()
        table, seconds, video_seconds = _make_part(videos, work, sandbox, ask)
        # Of a child that was made again the earlier time is lost.
        waited = max(0.0, sandbox.cpu_wait_seconds() - waited_before)
        run.write_part(part, table)
    counts = runs.count(table)
    failed = counts["videos"] - counts["ok"]
    receipt = {"part": part, "videos": counts["videos"], "failed": failed, "began_at": began_at}
    times = {"video_seconds": video_seconds, "cpu_wait": waited, "ended_at": time.time()}
    return {**receipt, **times, "seconds": json.dumps(seconds)}


_RECEIPT = pa.schema(
    [
        ("part", pa.int32()),
        ("videos", pa.int32()),
        ("failed", pa.int32()),
        # When its first video was begun: Unix time, by the clock of the node.
        ("began_at", pa.float64()),
        ("ended_at", pa.float64()),
        ("seconds", pa.string()),
        ("video_seconds", pa.list_(pa.float64())),  # none of a part that was there
        ("cpu_wait", pa.float64()),  # of them, ready to run and without a CPU
        ("worker", pa.string()),
        ("block", pa.int32()),  # its first part
        # What the user must fix, or what has failed; the other columns are null then.
        ("refusal", pa.string()),
        ("failure", pa.string()),
    ]
)


def _make_part(
    videos: pa.Table, work: Work, sandbox: Sandbox, ask: Ask | None
) -> tuple[pa.Table, dict[str, float], list[float]]:
    batches: list[pa.RecordBatch] = []
    seconds: Counter[str] = Counter()
    each: list[float] = []
    for video in videos.to_pylist():
        began = time.monotonic()
        try:
            batch = sandbox.run(video, ask)
        except VideoError as error:
            batch = rows.failed(video, work.schema, work.digest, error)
        seconds.update(json.loads((batch.schema.metadata or {}).get(b"seconds", b"{}")))
        batches.append(batch.replace_schema_metadata(None))
        each.append(time.monotonic() - began)
    return pa.Table.from_batches(batches, schema=work.schema), dict(seconds), each


_sandboxes: dict[str, Sandbox] = {}


def started_sandbox(work: Work, resources: Resources) -> Sandbox:
    """The sandbox of this Ray worker, kept from task to task: its imports take 1 to 2 seconds."""
    asks = bool(work.predictors)
    limits = [resources.memory_bytes, resources.timeout_seconds]
    key = json.dumps([work.target, work.config, asks, *limits])
    if key not in _sandboxes:
        for other in _sandboxes.values():
            other.close()
        _sandboxes.clear()
        _sandboxes[key] = Sandbox(
            work.target,
            work.config,
            memory_bytes=resources.memory_bytes,
            timeout_seconds=resources.timeout_seconds,
            asks=asks,
        )
    _sandboxes[key].start()
    return _sandboxes[key]
