"""The cost of labelling a million videos, from rates that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidray.report.runs import JudgedModel, Runs, find_stated, number_in
from vidray.report.settings import ReportSettings

_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class MeasuredRate:
    """What one video takes.

    Attributes:
        cpu_seconds, gpu_seconds: of cores and GPUs that are held.
        source: where it was measured, in words.
    """

    cpu_seconds: float
    gpu_seconds: float
    source: str

    def per_million(self, settings: ReportSettings) -> float:
        """The price of a million videos, in the currency of the settings' prices."""
        cpu = self.cpu_seconds * settings.cpu_hour_price
        gpu = self.gpu_seconds * settings.gpu_hour_price
        return 1e6 * (cpu + gpu) / _HOUR


def rate_in_jobs(judged: JudgedModel, runs: Runs) -> MeasuredRate | None:
    """The rate of whole jobs with this very model, reading, failures and retries among it: of the
    nights that labelled with it, else of the run that made its features, if it made no others, with
    the model's own seconds. None if no such run is on the page.
    """
    return _of_nights(judged, runs) or _of_features(judged, runs)


def _of_nights(judged: JudgedModel, runs: Runs) -> MeasuredRate | None:
    digest = judged.report.get("model_digest")
    if not isinstance(digest, str):
        return None
    reports = [
        night
        for history in runs.labels
        if digest in history.rows["model_digest"].unique().to_pylist()
        for night in history.nights.values()
    ]
    found = list(_measured(reports))
    videos = sum(number for number, _, _ in found)
    if not videos:
        return None
    return MeasuredRate(
        cpu_seconds=sum(number * cpu for number, cpu, _ in found) / videos,
        gpu_seconds=sum(number * gpu for number, _, gpu in found) / videos,
        source=f"labelling {videos:,.0f} videos in {len(found)} nights"
        if len(found) > 1
        else f"labelling {videos:,.0f} videos in a night",
    )


def _of_features(judged: JudgedModel, runs: Runs) -> MeasuredRate | None:
    """The rate of making the features that the model takes; families that it leaves alone would
    count, too.
    """
    run = find_stated(runs.features, judged.config.get("data"))
    alone = judged.cost.get("seconds_per_video")
    families = None if judged.model is None else judged.model.info.get("families")
    is_whole = run is not None and isinstance(families, list) and set(families) == {*run.families}
    if run is None or alone is None or not is_whole:
        return None
    for number, cpu, gpu in _measured([run.report]):
        return MeasuredRate(
            cpu_seconds=cpu + alone,
            gpu_seconds=gpu,
            source=f"describing {number:,.0f} videos, and the model alone",
        )
    return None


def rate_alone(judged: JudgedModel) -> MeasuredRate | None:
    """The rate of one process on the few videos that its evaluation was timed on."""
    whole = judged.cost.get("end_to_end_seconds_per_video")
    if whole is None:
        return None
    timed = judged.cost.get("timed_videos")
    on = "" if timed is None else f" on {timed:.0f} videos"
    if "peak_gpu_bytes" not in judged.cost:
        source = f"one process from file to label{on}, one core taken for busy"
        return MeasuredRate(cpu_seconds=whole, gpu_seconds=0.0, source=source)
    return MeasuredRate(
        cpu_seconds=whole,
        gpu_seconds=judged.cost.get("seconds_per_video", whole),
        source=f"one process from file to label{on}, the GPU for the model alone",
    )


def _measured(reports: list[Mapping[str, Any]]) -> Iterator[tuple[float, float, float]]:
    """Videos worked on, CPU- and GPU-seconds a video, of the runs that say so."""
    for report in reports:
        videos = number_in(report, "counts", "videos")
        cpu = number_in(report, "cost_per_thousand_videos", "cpu_seconds")
        gpu = number_in(report, "cost_per_thousand_videos", "gpu_seconds")
        before = number_in(report, "videos_done_before") or 0.0
        if videos is not None and cpu is not None and videos > before:
            yield videos - before, cpu / 1000, (gpu or 0.0) / 1000
