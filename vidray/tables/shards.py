"""Shards: pixels of clips beside their table, in files that training maps into memory.

    OUT/clips/part-00000.parquet   a row per clip: label, times, ``pixels_row``; failed videos too
    OUT/clips/part-00000.npy       ``uint8 (N, T, H, W, 3)``: the pixels of clip ``pixels_row``

An epoch reads the clips in random order: from a mapped file each costs one copy out of the page
cache, and several workers of a machine share that cache (bench/clips.py compares).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError
from vidray.tables import run_folder, runs


class Clips:
    """The clips of a finished run of ``jobs/clips.py``, ready to be read in any order.

    Args:
        uri: the run folder. One in a bucket is copied to this machine first, to ``cache``.
        cache: folder for copies; the user's cache folder if not given.

    Attributes:
        table: CLIPS without failed videos, in the order of VIDEOS; row k belongs to ``read([k])``.
        num_frames, size_px: T and H = W of every clip.
        report: what run.json holds, the settings the clips were cut with among it.

    Raises:
        UserError: not a finished run of clips, or one without a single clip.
    """

    def __init__(self, uri: str, cache: str | None = None) -> None:
        self.uri = storage.canonical(uri)
        if not storage.exists(storage.join(self.uri, "run.json")):
            raise UserError(f"{uri} is not a run folder (no run.json): make one with jobs/clips.py")
        self.report: dict[str, Any] = run_folder.read_json(self.uri)
        if run_folder.kind_of(self.report) != "clips":
            found = run_folder.described(self.report)
            raise UserError(
                f"{uri} holds {found}, not clips: deep models learn from jobs/clips.py's"
            )
        if not storage.exists(storage.join(self.uri, "_SUCCESS")):
            raise UserError(f"{uri} holds an unfinished run: give its command once more")
        tables: list[pa.Table] = []
        where: list[NDArray[np.int64]] = []
        self._shards: list[NDArray[np.uint8]] = []
        for part, info in zip(
            runs.read_parts(self.uri, "clips"), _shard_files(self.uri), strict=True
        ):
            clips = part.filter(pc.equal(part["status"], "ok"))
            if not len(clips):
                continue
            numbers = clips["pixels_row"].to_numpy().astype(np.int64)
            where.append(np.stack([np.full(len(clips), len(self._shards)), numbers], axis=1))
            tables.append(clips.drop_columns(["pixels_row"]))
            self._shards.append(_mapped(info, cache))
        if not tables:
            raise UserError(
                f"{uri} holds no clip, since no video was labelled and could be read: see "
                "error_kind and error_message of its table"
            )
        self.table: pa.Table = pa.concat_tables(tables)
        self._where = np.concatenate(where)  # (N, 2): shard, row in it
        self.num_frames, self.size_px = (int(side) for side in self._shards[0].shape[1:3])

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        shape = (self.num_frames, self.size_px, self.size_px, 3)
        return f"Clips({self.uri}, {len(self)} of uint8 {shape})"

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``uint8 (N, T, H, W, 3)``, RGB: the clips of these rows of ``table``."""
        clips = np.empty((len(rows), *self._shards[0].shape[1:]), np.uint8)
        for clip, (shard, row) in zip(clips, self._where[rows].tolist(), strict=True):
            clip[:] = self._shards[shard][row]
        return clips


def _shard_files(uri: str) -> list[storage.FileInfo]:
    files = storage.list_files(storage.join(uri, "clips"))
    return sorted((f for f in files if f.uri.endswith(".npy")), key=lambda f: f.uri)


def _mapped(info: storage.FileInfo, cache: str | None) -> NDArray[np.uint8]:
    path = (
        _copied(info, Path(cache or _default_cache())) if storage.is_bucket(info.uri) else info.uri
    )
    shard: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return shard


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidray"


def _copied(info: storage.FileInfo, cache: Path) -> Path:
    """The file of a bucket on this machine; of two workers that copy it at once, either wins."""
    name = hashlib.sha256(f"{info.uri} {info.fingerprint}".encode()).hexdigest()[:32]
    path = cache / f"{name}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as draft:
            draft.write(storage.read_bytes(info.uri))
        Path(draft.name).replace(path)
    return path
