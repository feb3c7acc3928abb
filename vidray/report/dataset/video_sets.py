"""Sets of videos: what runs over the same videos say of them, a row a video."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from vidray.errors import UserError
from vidray.report.runs import ClipsRun, ExtractRun, Runs
from vidray.storage import join, parquet
from vidray.tables.schema import SPLITS

# Splits beside those that jobs make.
_MOST_SPLITS = 6
_OTHER_SPLITS = "(other splits)"
# Of a row, the same in every table of the same videos.
_GIVEN = ("uri", "label", "split", "group")
_STATE = ("status", "error_kind", "error_message")


@dataclass(frozen=True, kw_only=True)
class VideoSet:
    """Videos, and what one or several runs say of them.

    Attributes:
        name: of the runs.
        frame: a row a video: video_id, uri, label, split, group, recording (a video without a group
            is its own), begin_seconds and end_seconds of its stretch, status, size_bytes,
            bytes_per_second, aspect, and the columns of FEATURES on file and picture. Missing is
            null.
        states: a row for each run and video: run, job, video_id, uri, status, error_kind,
            error_message.
        enhance: ``--enhance`` of the first run that extracted features; None without.
    """

    name: str
    frame: pd.DataFrame
    states: pd.DataFrame
    enhance: str | None

    def __repr__(self) -> str:
        return f"VideoSet({self.name!r}, {len(self.frame)} videos)"

    @property
    def labelled(self) -> pd.DataFrame:
        """The videos with a label that could be read."""
        return self.frame[self.frame["label"].notna() & (self.frame["status"] == "ok")]


def of_runs(runs: Runs) -> list[VideoSet]:
    """The sets of videos of the runs, those of more videos first; each set once.

    Runs are of one set if they are of the same videos, and no label or split contradicts another.
    """
    found: list[list[tuple[ExtractRun | ClipsRun, pd.DataFrame]]] = []
    tables: list[ExtractRun | ClipsRun] = [*runs.features, *runs.clips]
    for run in tables:
        rows = _row_a_video(run)
        same = next((one for one in found if _agree(one[0][1], rows)), None)
        if len(rows) and same is None:
            found.append([(run, rows)])
        elif same is not None:
            same.append((run, rows))
    return sorted(map(_joined, found), key=lambda one: -len(one.frame))


def _row_a_video(run: ExtractRun | ClipsRun) -> pd.DataFrame:
    """A run's rows, sorted by video: of CLIPS, which has one per clip, what its clips span."""
    rows = run.rows.to_pandas(strings_to_categorical=False)
    if isinstance(run, ClipsRun):
        spans = rows.groupby("video_id").agg(
            begin_seconds=("begin_seconds", "min"), end_seconds=("end_seconds", "max")
        )
        rows = rows.drop_duplicates("video_id").drop(columns=["begin_seconds", "end_seconds"])
        rows = rows.join(spans, on="video_id")
    rows = rows.drop_duplicates("video_id")
    rows["split"] = _of_few_splits(rows["split"])
    return rows.sort_values("video_id", ignore_index=True)


def _of_few_splits(splits: pd.Series[str]) -> pd.Series[str]:
    """Each split is columns of tables: a table of a stranger may have one a video."""
    known = [*SPLITS, *splits.value_counts().index[:_MOST_SPLITS]]
    return splits.where(splits.isna() | splits.isin(known), _OTHER_SPLITS)


def _agree(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two tables are of the same videos, with no label or split that differs."""
    if len(first) != len(second) or not first["video_id"].equals(second["video_id"]):
        return False
    return all(
        not (first[name].notna() & second[name].notna() & (first[name] != second[name])).any()
        for name in ("label", "split")
    )


def _joined(parts: Sequence[tuple[ExtractRun | ClipsRun, pd.DataFrame]]) -> VideoSet:
    frame = parts[0][1]
    for _, other in parts[1:]:
        # A video that one job could read is readable.
        better = (frame["status"] != "ok") & (other["status"] == "ok")
        frame = frame.copy()
        frame.loc[better, [*_STATE]] = other.loc[better, [*_STATE]]
        # What clips span is no stretch of the file where features were extracted from all of it.
        frame = frame.combine_first(other.drop(columns=["begin_seconds", "end_seconds"]))
    wanted = [name for name in _COLUMNS if name not in frame]
    frame = frame.assign(**dict.fromkeys(wanted))
    first = parts[0][0]
    extracted = [run for run, _ in parts if isinstance(run, ExtractRun)]
    states = pd.concat(
        [
            rows[["video_id", "uri", *_STATE]].assign(
                run=run.name, job="extract" if isinstance(run, ExtractRun) else "clips"
            )
            for run, rows in parts
        ],
        ignore_index=True,
    )
    enhance = extracted[0].config.get("enhance") if extracted else None
    return VideoSet(
        name=_short([run.name for run, _ in parts]),
        frame=_with_derived(frame, _sizes(first)),
        states=states,
        enhance=enhance if isinstance(enhance, str) else None,
    )


def _short(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more runs"


_COLUMNS = (
    "begin_seconds", "end_seconds", "width_px", "height_px", "rotation_degrees",
    "sample_aspect_ratio", "duration_seconds", "frames_per_second", "num_frames", "damaged_packets",
    "corrupt_frames", "corrupt_share", "codec", "container", "has_sound", "sharpness", "noise",
    "blockiness", "brightness", "contrast", "near_duplicate_share", "black_share", "enhanced_share",
)  # fmt: skip


def _sizes(run: ExtractRun | ClipsRun) -> pd.Series[float]:
    """Size of each file in bytes by video_id, as the job listed it; empty if that is not known."""
    with contextlib.suppress(UserError, OSError, pa.ArrowException):
        listed = parquet.read_parquet(join(run.out, "videos.parquet"), ["video_id", "size_bytes"])
        sizes = listed.to_pandas().drop_duplicates("video_id").set_index("video_id")["size_bytes"]
        return sizes.astype(float)
    return pd.Series(dtype=float)


def _with_derived(frame: pd.DataFrame, sizes: pd.Series[float]) -> pd.DataFrame:
    """The frame with what follows from its columns."""
    known = frame["video_id"].map(sizes) if len(sizes) else pd.Series(np.nan, frame.index)
    duration = pd.to_numeric(frame["duration_seconds"])
    width, height = (pd.to_numeric(frame[name]) for name in ("width_px", "height_px"))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = (known / duration).where(duration > 0)
        aspect = width * pd.to_numeric(frame["sample_aspect_ratio"]).fillna(1.0) / height
    turned = pd.to_numeric(frame["rotation_degrees"]).fillna(0) % 180 == 90
    return frame.assign(
        recording=frame["group"].where(frame["group"].notna(), "video " + frame["video_id"]),
        size_bytes=known,
        bytes_per_second=rate,
        aspect=aspect.where(~turned, 1 / aspect),
        resolution=[
            None if pd.isna(w) or pd.isna(h) else f"{w:.0f}x{h:.0f}"
            for w, h in zip(width, height, strict=True)
        ],
    )


def splits_of(frame: pd.DataFrame) -> list[str]:
    """The splits that occur, train first."""
    there = set(frame["split"].dropna().unique())
    usual = [name for name in ("train", "val", "test") if name in there]
    return [*usual, *sorted(there - set(usual))]


def classes_of(frame: pd.DataFrame) -> list[str]:
    """The labels that occur, the one of most videos first."""
    return [str(name) for name in frame["label"].value_counts().index]
