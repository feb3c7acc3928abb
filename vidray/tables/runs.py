"""The run folder: a job's results, and the state from which a killed job resumes.

    OUT/
      run.json             what ran: settings, versions, counts, seconds ("running" until the end)
      videos.parquet       the VIDEOS table, frozen at the first start: a rerun goes on with these
      _staging/            finished parts, while the job runs; readers leave "_" folders out
      features/ or clips/  the table: part-00000.parquet, part-00001.parquet, ... (see shards)
      _SUCCESS             written last

A part is a fixed run of VIDEOS rows, so a table has the same bytes whatever the workers and blocks;
it is written whole or not at all, so a part that is there is a part that need not be done again.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidray import storage
from vidray.errors import ERROR_KINDS, UserError
from vidray.storage import disk, join
from vidray.storage.parquet import parquet_bytes, read_parquet
from vidray.tables import run_folder, versions
from vidray.tables.run_folder import RunFolder
from vidray.tables.schema import STATUSES, VIDEOS

# Many parts balance the work and bound what a kill loses; a part of 64 rows has 0.6 to 42 MB.
_MOST_VIDEOS_PER_PART = 64
_PARTS_WANTED = 64
TableName = Literal["features", "clips", "labels"]
# Columns whose videos are counted where they are above 0.
_DAMAGE = ("corrupt_frames", "damaged_packets")


@dataclass(frozen=True)
class Run:
    """One run folder and the settings that any run in it must share.

    Args:
        out: the folder.
        table: ``features``, ``clips`` or ``labels``.
        videos: where they come from, without secrets.
        digest: changes when a row may.
        libraries: that decide the numbers of a row.
    """

    out: str
    table: TableName
    videos: str
    digest: str
    libraries: tuple[str, ...] = versions.DECODING

    @property
    def versions(self) -> versions.Versions:
        """Versions of the libraries that decide the numbers of a row."""
        return versions.of(self.libraries)

    def folder(self, config: dict[str, Any]) -> RunFolder:
        """The folder, claimed for this run; ``config`` is what run.json shows of the settings."""
        return RunFolder(
            out=self.out,
            kind=self.table,
            same={"table": self.table, "videos": self.videos, "digest": self.digest},
            shown={"config": config},
            libraries=self.libraries,
        )

    def videos_to_do(self, config: dict[str, Any], list_videos: Callable[[], pa.Table]) -> pa.Table:
        """The VIDEOS of this run: listed at its first start, the same ever after.

        Raises:
            UserError: the folder holds another run or a foreign table, or the source is wrong.
        """
        self.check_settings(config)
        if not self.is_there():
            videos = list_videos()
            # Of two starts at once, one listing wins.
            self.folder(config).start()
            storage.write_once(join(self.out, "videos.parquet"), parquet_bytes(videos))
        return self.read_videos()

    def check_settings(self, config: dict[str, Any]) -> None:
        """Raise UserError unless the folder is free or holds a run of the same settings."""
        self.folder(config).check()

    def overwrite(self) -> None:
        """Remove what an earlier run of this table left; other files in the folder stay.

        Raises:
            UserError: what is there was not left by a run of this table.
        """
        self.folder({}).overwrite()

    def is_finished(self) -> bool:
        """Whether the table is whole and published."""
        return storage.exists(join(self.out, "_SUCCESS"))

    def refuse_changes(self, now: pa.Table) -> None:
        """Raise UserError unless the finished run is of the VIDEOS that are there ``now``."""
        before = self.read_videos()
        old, new = (
            set(zip(*(t[c].to_pylist() for c in before.column_names), strict=True))
            for t in (before, now)
        )
        if old != new:
            raise UserError(
                f"{self.out} holds a finished run of {len(before)} videos, and {self.videos} "
                "has changed since: "
                f"{len(new - old)} rows new or changed, {len(old - new)} gone or changed. "
                "Choose another --out, or give --overwrite to make all again"
            )

    def is_there(self) -> bool:
        """Whether it was started, and nobody has removed it since."""
        return storage.exists(join(self.out, "videos.parquet"))

    def read_videos(self) -> pa.Table:
        """The frozen VIDEOS.

        Raises:
            UserError: they are damaged.
        """
        where = join(self.out, "videos.parquet")
        videos = read_parquet(where)
        for field in VIDEOS:
            if not field.nullable and field not in videos.schema.remove_metadata():
                raise storage.damaged(where, f"no {field.type} {field.name}")
        return videos

    def read_report(self) -> dict[str, Any]:
        """run.json of the finished run, complete.

        Raises:
            UserError: it is damaged.
        """
        report = run_folder.read_json(self.out)
        counts, seconds = report.get("counts"), report.get("seconds")
        if not isinstance(seconds, dict) or not isinstance(counts, dict):
            raise storage.damaged(join(self.out, "run.json"))
        kinds, rate = counts.get("error_kinds"), report.get("videos_per_second", "none")
        numbers = [counts.get(name) for name in ("videos", *STATUSES)]
        numbers += [counts.get(f"with_{name}", 0) for name in _DAMAGE]
        numbers += [seconds.get(name) for name in ("working", "startup")]
        numbers += [] if rate is None else [rate]
        if not isinstance(kinds, dict) or not kinds.keys() <= ERROR_KINDS.keys():
            raise storage.damaged(join(self.out, "run.json"))
        if not all(map(_is_number, [*numbers, *kinds.values()])):
            raise storage.damaged(join(self.out, "run.json"))
        return report

    def part_numbers(self, videos: pa.Table) -> pa.Array:
        """``int32 (N,)``: the part of each row of ``videos``."""
        size = videos_per_part(len(videos))
        return pa.array((k // size for k in range(len(videos))), pa.int32())

    def part_uris(self, part: int) -> tuple[str, str]:
        """The URIs of a part before and after the table is published."""
        name = f"part-{part:05d}.parquet"
        return join(self.out, "_staging", name), join(self.out, self.table, name)

    def done_parts(self) -> dict[int, str]:
        """Part number -> URI of every part that is written, published or not."""
        done: dict[int, str] = {}
        # In this order: a run beside this one may publish them between the two looks.
        for folder in ("_staging", self.table):
            for info in storage.list_files(join(self.out, folder), hidden=True):
                name = re.fullmatch(r"part-(\d+)\.parquet", storage.name_of(info.uri))
                if name:
                    done[int(name[1])] = info.uri
        return done

    def read_part(self, part: int, columns: list[str] | None = None) -> pa.Table | None:
        """A part that is written, or some of its columns; or None."""
        return self._of_part(part, lambda uri: read_parquet(uri, columns))

    def _of_part(self, part: int, read: Callable[[str], pa.Table]) -> pa.Table | None:
        staged, published = self.part_uris(part)
        # In this order: a run beside this one may publish it between the two looks.
        for uri in (staged, published):
            try:
                return read(uri)
            except FileNotFoundError:
                continue
        return None

    def write_part(self, part: int, table: pa.Table) -> None:
        """Stage one part, whole or not at all; pixels go to a file beside it, before it."""
        staged, _ = self.part_uris(part)
        if "pixels" in table.column_names:
            table, pixels = _take_out_pixels(table)
            self._stage(staged.removesuffix(".parquet") + ".npy", pixels)
        self._stage(staged, parquet_bytes(table))

    def _stage(self, uri: str, data: bytes) -> None:
        try:
            storage.write_bytes(uri, data)
        except FileNotFoundError:
            # A run beside this one has published, and with it moved the folder away meanwhile.
            storage.write_bytes(uri, data)

    def check(self, videos: pa.Table) -> dict[str, Any]:
        """Counts per status and error kind, once every video is known to have exactly one row.

        Raises:
            RuntimeError: rows are missing, doubled or foreign.
        """
        done = sorted(self.done_parts())
        columns = ["video_id", "status", "error_kind", "config_digest"]
        clips = ["clip_index"] if self.table == "clips" else []
        with ThreadPoolExecutor(16) as pool:
            read = partial(read_parquet, columns=columns + clips, if_there=_DAMAGE)
            found = list(pool.map(lambda part: self._of_part(part, read), done))
        parts = [part for part in found if part is not None]
        rows = pa.concat_tables(parts) if parts else pa.table({name: [] for name in columns})
        firsts = _first_rows(rows)
        if not firsts["video_id"].combine_chunks().equals(videos["video_id"].combine_chunks()):
            raise RuntimeError(
                f"{len(firsts)} rows for {len(videos)} videos in {self.out}: lost or doubled"
            )
        digests = rows["config_digest"].unique().to_pylist()
        if any(not self.digest.startswith(digest) for digest in digests):
            raise RuntimeError(f"{self.out} holds rows of other settings: {digests}")
        return {**count(rows), **({"rows": len(rows)} if clips else {})}

    def publish(self, config: dict[str, Any], report: dict[str, Any]) -> None:
        """Publish the table; run.json and then _SUCCESS are written last."""
        if storage.exists(join(self.out, "_staging")):
            if storage.exists(join(self.out, self.table)) and not storage.is_bucket(self.out):
                # A run beside this one was first.
                storage.remove_tree(join(self.out, "_staging"), inside=self.out)
            else:
                storage.publish(join(self.out, "_staging"), join(self.out, self.table))
        self._remove_drafts()
        self.folder(config).finish(**report)

    def _remove_drafts(self) -> None:
        """Remove drafts of a run beside this one, or of a killed one."""
        for info in storage.list_files(join(self.out, self.table), hidden=True):
            if disk.is_draft(storage.name_of(info.uri)):
                storage.remove_tree(info.uri, inside=self.out)


def videos_per_part(num_videos: int) -> int:
    """Videos of a full part of a run."""
    return min(_MOST_VIDEOS_PER_PART, max(1, math.ceil(num_videos / _PARTS_WANTED)))


def _is_number(value: object) -> bool:
    """Whether a value is a finite number, which JSON does not guarantee."""
    return isinstance(value, int | float) and abs(value) < 2**63


def read_table(out: str, table: str = "features", columns: list[str] | None = None) -> pa.Table:
    """A run folder's table, in the order of its VIDEOS.

    Raises:
        UserError: the run is not finished, so there is no table yet.
    """
    if not storage.exists(join(out, "_SUCCESS")):
        raise UserError(
            f"{out} holds no finished run (no _SUCCESS): run the same command again to finish it"
        )
    return pa.concat_tables(read_parts(out, table, columns))


def read_parts(
    out: str, table: str = "features", columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """The parts of a finished table one after another, for tables larger than memory."""
    uris = sorted(info.uri for info in storage.list_files(join(out, table)))
    return (read_parquet(uri, columns) for uri in uris if uri.endswith(".parquet"))


def count(rows: pa.Table) -> dict[str, Any]:
    """``videos``, each ``status`` -> videos, and ``error_kinds``: kind -> videos.

    For tables with damage columns also ``with_corrupt_frames`` and ``with_damaged_packets``.
    """
    rows = _first_rows(rows)
    by_status = dict.fromkeys(STATUSES, 0)
    for value in pc.value_counts(rows["status"]).to_pylist():
        by_status[value["values"]] = value["counts"]
    kinds = pc.value_counts(rows["error_kind"].drop_null()).to_pylist()
    error_kinds = {kind["values"]: kind["counts"] for kind in kinds}
    damaged = {
        f"with_{name}": pc.sum(pc.greater(rows[name], 0)).as_py() or 0
        for name in _DAMAGE
        if name in rows.column_names
    }
    return {"videos": len(rows), **by_status, **damaged, "error_kinds": error_kinds}


def _first_rows(rows: pa.Table) -> pa.Table:
    """One row of each video: of CLIPS, which has one per clip, that of the first clip."""
    if "clip_index" not in rows.column_names:
        return rows
    return rows.filter(pc.equal(pc.fill_null(rows["clip_index"], 0), 0))


def _take_out_pixels(table: pa.Table) -> tuple[pa.Table, bytes]:
    """A part of CLIPS with ``pixels`` -> the same with ``pixels_row``, and the file of the pixels.

    The field's metadata holds the shape of a clip: ``{"shape": "16,112,112,3"}``.
    """
    field = table.schema.field("pixels")
    shape = tuple(int(side) for side in field.metadata[b"shape"].decode().split(","))
    column = table["pixels"].combine_chunks()
    clips = [
        np.frombuffer(value.as_buffer(), np.uint8).reshape(shape) for value in column.drop_null()
    ]
    pixels = np.stack(clips) if clips else np.zeros((0, *shape), np.uint8)
    is_there = column.is_valid()
    rows = np.cumsum(is_there.to_numpy(zero_copy_only=False)) - 1
    numbers = pc.if_else(is_there, pa.array(rows, pa.int32()), pa.scalar(None, pa.int32()))
    at = table.schema.get_field_index("pixels")
    sink = io.BytesIO()
    np.save(sink, pixels, allow_pickle=False)
    return table.set_column(at, "pixels_row", numbers), sink.getvalue()
