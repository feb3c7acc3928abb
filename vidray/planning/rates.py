"""What a finished run measured, read from its folder: the rates of which a plan is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray import storage
from vidray.distributed.timing import Timing
from vidray.errors import UserError
from vidray.labelling import commit_files
from vidray.labelling.commit_files import Commit
from vidray.storage import checked_json, join, names, without_secrets
from vidray.tables import run_folder

# Kinds of run that videos go through one by one.
_KINDS = ("label", "features", "clips")
# The stage in which predictors are asked is the first of these that a run has.
_ASKING = ("predict_then", "embed", "predict")


@dataclass(frozen=True, kw_only=True)
class _Seconds:
    """``seconds`` of run.json, as far as a plan needs them."""

    startup: float
    working: float
    checking: float
    in_workers: Mapping[str, Any]
    listing: float | None = None
    committing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one run measured.

    Attributes:
        run: its folder, as shown.
        kind: of run: ``label``, ``features`` or ``clips``.
        timing: where the seconds of its workers went.
        stages: seconds in workers by stage, together.
        startup_seconds: until the first video was begun: Ray, workers, predictors.
        working_seconds: from there until the last part was written.
        listing_seconds: of listing and comparing; None: the run was gone on with and did not list.
        listed: videos in the listing.
        checking_seconds: of looking through the parts at the end.
        committing_seconds: of publishing labels; 0 for other tables.
        videos: rows that were checked and published.
        table_bytes: of the table's files, for each row.
        hours_of_video_per_hour: as the run says; None: it does not.
    """

    run: str
    kind: str
    timing: Timing
    stages: Mapping[str, float]
    startup_seconds: float
    working_seconds: float
    listing_seconds: float | None
    listed: int
    checking_seconds: float
    committing_seconds: float
    videos: int
    table_bytes: float
    hours_of_video_per_hour: float | None

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Mean seconds of each group of videos that took about as long, ``float64 (K,)``."""
        return np.array([seconds for seconds, _ in self.timing.video_seconds])

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of videos in each group, ``float64 (K,)``."""
        numbers = np.array([number for _, number in self.timing.video_seconds])
        return np.asarray(numbers / numbers.sum())

    @property
    def bytes_per_video(self) -> float:
        """Mean size of a video as listed."""
        return self.timing.video_bytes / self.timing.videos

    @property
    def waiting_share(self) -> float:
        """Share of the workers' time in which other work held their CPU."""
        spent = self.timing.seconds_per_video * self.timing.videos
        return min(1.0, self.timing.cpu_wait_seconds / spent) if spent else 0.0

    @property
    def asking_share(self) -> float:
        """Share of the workers' time with a video in which a predictor was asked."""
        if not self.timing.predictors:
            return 0.0
        # Of two networks the second is asked, of a classical model the one that embeds.
        found = [self.stages[name] for name in _ASKING if name in self.stages]
        asked = found[0] if found else 0.0
        return min(1.0, asked / (self.timing.seconds_per_video * self.timing.videos))


def read(run: str) -> Rates:
    """The rates of the newest night of a folder of labels, or of a finished run of another table.

    Raises:
        UserError: there is no such run, it is not finished, nothing was made in it, its run.json is
            damaged, or it is of a vidray that did not measure this yet.
    """
    out, shown = storage.canonical(run), without_secrets(run)
    try:
        report = run_folder.read_json(out)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"--run {shown} holds no run.json: give the folder of --out of jobs/label.py, "
            "jobs/extract.py or jobs/clips.py"
        ) from None
    kind = run_folder.kind_of(report)
    if kind not in _KINDS:
        raise UserError(
            f"--run {shown} holds {run_folder.described(report)}: give the folder of "
            "jobs/label.py, jobs/extract.py or jobs/clips.py"
        )
    is_whole = kind == "label" or storage.exists(join(out, run_folder.SUCCESS))
    if report.get("state") != "finished" or not is_whole:
        raise UserError(f"--run {shown} is not finished: run the same command again to finish it")
    return _rates(out, shown, kind, report)


def _rates(out: str, shown: str, kind: str, report: Mapping[str, Any]) -> Rates:
    where = f"{shown}/run.json"
    if "timing" not in report:
        raise UserError(
            f"{where} has no timing, since an older vidray wrote it: label or extract some videos "
            "into another folder with this one"
        )
    if report["timing"] is None:
        raise UserError(f"{where} has timed no video: nothing was left to do in its last run")
    timing = checked_json.build(Timing, report["timing"], f"{where}: timing")
    seconds = _part(_Seconds, report, "seconds", where)
    stages = {str(name): _number(value, where) for name, value in seconds.in_workers.items()}
    counts = report.get("counts")
    videos = counts.get("videos") if isinstance(counts, dict) else None
    rate = report.get("hours_of_video_per_hour")
    listed = report.get("listed", videos)
    if type(videos) is not int or videos < 1 or type(listed) is not int or listed < 1:
        raise storage.damaged(join(out, run_folder.RUN), "its numbers of videos are no numbers")
    return Rates(
        run=shown,
        kind=kind,
        timing=timing,
        stages=stages,
        startup_seconds=_number(seconds.startup, where),
        working_seconds=_number(seconds.working, where),
        listing_seconds=None if seconds.listing is None else _number(seconds.listing, where),
        listed=listed,
        checking_seconds=_number(seconds.checking, where),
        committing_seconds=_number(seconds.committing, where),
        videos=videos,
        table_bytes=_table_bytes(out, kind, report, videos),
        hours_of_video_per_hour=None if rate is None else _number(rate, where),
    )


def _part(kind: Any, report: Mapping[str, Any], name: str, where: str) -> Any:
    """A part of run.json; keys that a plan does not need are left out."""
    values = report.get(name)
    if isinstance(values, Mapping):
        known = {field.name for field in dataclasses.fields(kind)}
        values = {key: value for key, value in values.items() if key in known}
    return checked_json.build(kind, values, f"{where}: {name}", may_lack=(kind,))


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e15:
        raise UserError(f"{where} has {checked_json.shown(value)} for a time: it is damaged")
    return float(value)


def _table_bytes(out: str, kind: str, report: Mapping[str, Any], videos: int) -> float:
    """Bytes of the table's files for each of its rows; of labels, of the last file of the set."""
    if kind != "label":
        files = storage.list_files(join(out, kind))
        return sum(file.size_bytes for file in files) / videos
    newest = newest_commit(out, report)
    rows = commit_files.read(newest, ["commit"])
    return storage.file_info(newest.uri).size_bytes / max(1, len(rows))


def newest_commit(out: str, report: Mapping[str, Any]) -> Commit:
    """The last file of labels of the set that run.json names.

    Raises:
        UserError: there is none.
    """
    name = report.get("set")
    if not isinstance(name, str) or not names.is_name(name):
        raise storage.damaged(join(out, run_folder.RUN), "it names no set of labels")
    found = commit_files.find(out, name)
    if not found:
        raise UserError(f"{without_secrets(out)} holds no labels of set {name}")
    return max(found, key=lambda commit: commit.last)
