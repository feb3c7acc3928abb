"""Videos -> labels, night by night: those that are new, changed, or failed and may succeed now.

    python jobs/label.py --model s3://b/model --videos s3://b/clips --out s3://b/labels

Needs a model folder of either family (jobs/train.py). A run commits all its labels at once; killed
at any moment and started again, it goes on where it stopped. Started twice at once, both share the
work. With nothing new it does nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyarrow.compute as pc
from rich.console import Console

from vidray import cli, storage
from vidray.distributed import capacity, pipeline
from vidray.distributed.capacity import Predictors, Resources
from vidray.errors import JobError, UserError
from vidray.labelling import commits
from vidray.labelling.commits import LabelSet, Todo
from vidray.labelling.settings import LabelSettings, check_model, name_and_digest
from vidray.models.model_files import read_info
from vidray.progress import duration
from vidray.sources import list_videos
from vidray.tables import run_folder, summary
from vidray.tables.run_folder import RunFolder
from vidray.tables.runs import Run
from vidray.tables.summary import Table
from vidray.video.decode import Limits


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Label videos with a trained model."""

    model: str
    """Model folder, local or in a bucket."""
    videos: str
    """Folder, CSV or Parquet manifest, one video, a glob; local or in a bucket."""
    out: str
    """Folder of the labels, local or in a bucket; every run adds to it."""
    clips_per_video: int | None = None
    """Clips of a short video whose probabilities are averaged; as in training if not given."""
    crops: int = 1
    """Squares of each frame, from edge to edge, whose probabilities are averaged; of models that
    learnt from clips of jobs/clips.py --fit crop."""
    long_seconds: float = 60.0
    """A longer video is labelled window by window, and gets segments."""
    window_seconds: float = 4.0
    """What a window spans."""
    step_seconds: float = 2.0
    """From the beginning of a window to that of the next."""
    embedding: bool = False
    """Keep what a deep model's head sees."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of a deep model; bfloat16 is faster where the processor has it."""
    compile: bool = False
    """Compile a deep model first, which takes each process a minute or so and a C++ compiler:
    networks of convolutions are 1.2 to 2.5 times as fast then."""
    decoder: Literal["pyav", "opencv", "decord"] = "pyav"
    """Decoder of short videos; where the chosen one is not known to be exact, PyAV reads."""
    max_attempts: int = 3
    """A video that failed so often, for a reason that may pass, is left alone until it changes."""
    max_pixels: int = 36_000_000
    """A video of larger frames fails as too_large, until it is raised."""
    max_seconds: float = 43_200.0
    """A longer video fails as too_large, until it is raised."""
    max_corrupt_share: float = 1.0
    """A video of which the decoder marks a larger share of frames corrupt fails as damaged, until
    it is raised."""
    timeout_seconds: float = 600.0
    """A video that takes longer fails as timeout."""
    memory_gib: float = 3.0
    """Memory of one worker; a video that needs more fails as out_of_memory, until it is raised."""
    workers: int | None = None
    """Videos at once; every CPU of the cluster if not given."""
    predictors: int | None = None
    """Processes that hold a deep model while workers decode; one on each GPU if not given, and
    without GPUs none: every worker has the model itself."""
    gpus_per_predictor: float | None = None
    """1 if not given, or 0 where the cluster has no GPU."""
    dry_run: bool = False
    """Say what would be labelled, and label nothing."""
    overwrite: bool = False
    """Start afresh: remove all labels in the folder first, those of other models too."""

    def __post_init__(self) -> None:
        if self.dry_run and self.overwrite:
            raise UserError("--dry-run changes nothing and --overwrite removes: give one of them")
        if self.max_attempts < 1:
            raise UserError(f"max_attempts is {self.max_attempts}: it must be 1 or more")
        for name in ("predictors", "gpus_per_predictor"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        each = self.gpus_per_predictor or 0
        if each > 1 and each % 1:
            raise UserError(f"gpus_per_predictor is {each}: a part of one, or whole ones")

    def settings(self, model_digest: str) -> LabelSettings:
        """What decides a label."""
        return LabelSettings(
            model=storage.canonical(self.model),
            model_digest=model_digest,
            clips_per_video=self.clips_per_video,
            crops=self.crops,
            long_seconds=self.long_seconds,
            window_seconds=self.window_seconds,
            step_seconds=self.step_seconds,
            embedding=self.embedding,
            precision=self.precision,
            compile=self.compile,
            decoder=self.decoder,
            limits=Limits(
                max_pixels=self.max_pixels,
                max_seconds=self.max_seconds,
                max_corrupt_share=self.max_corrupt_share,
            ),
        )

    @property
    def memory_bytes(self) -> int:
        """Of one worker."""
        return int(self.memory_gib * 2**30)

    def caps(self, settings: LabelSettings) -> dict[str, float]:
        """What rows of videos that were over one name, and what it is now."""
        of_worker = {"memory_bytes": self.memory_bytes, "timeout_seconds": self.timeout_seconds}
        return {**dataclasses.asdict(settings.limits), **of_worker}

    def resources(self, family: str) -> Resources:
        """What the job may use of the cluster, which is joined or started to know its GPUs."""
        return Resources(
            workers=self.workers,
            memory_bytes=self.memory_bytes,
            timeout_seconds=self.timeout_seconds,
            predictors=self._predictors(family),
        )

    def _predictors(self, family: str) -> Predictors | None:
        if family == "classical":
            return None
        capacity.connect()
        each, number = self.gpus_per_predictor, self.predictors
        if each is None:
            each = 1.0 if capacity.num_gpus() else 0.0
        if number is None:
            number = capacity.predictors_that_fit(each) if each else 0
            if self.gpus_per_predictor and not number:
                raise UserError(
                    f"gpus_per_predictor is {each:g} and the cluster has {capacity.num_gpus():g} "
                    "GPUs: wait for its nodes, or leave it out to label on CPUs"
                )
        if not number:
            return None
        return Predictors(target=LabelSettings.PREDICTOR, number=number, gpus_each=each)


def main(config: LabelConfig) -> None:
    """Finish what was begun, list, label what is left, commit."""
    out = storage.canonical(config.out)
    run_folder.check(out, "label", videos=config.videos)
    name, digest = name_and_digest(config.model)
    settings = config.settings(digest)
    info = read_info(config.model)
    check_model(settings, info)
    if info["family"] == "classical" and (config.predictors or config.gpus_per_predictor):
        raise UserError(f"predictors hold deep models, and {name} is a classical one")
    labels = LabelSet(
        out=out,
        name=f"{name}-{settings.digest}",
        libraries=settings.libraries(info["family"]),
    )
    folder = _folder(config, labels)
    source = storage.without_secrets(storage.canonical(config.videos))
    if config.overwrite:
        list_videos(config.videos)  # Nothing goes for a wrong source.
        folder.overwrite()
    run = None if config.dry_run else labels.unfinished(source, settings.digest)
    if run is not None:
        print("going on with a run that was not finished")
        _label(config, labels, run, settings, info, partial(list_videos, config.videos))
    while True:
        began = time.monotonic()
        todo = labels.todo(
            list_videos(config.videos), max_attempts=config.max_attempts, caps=config.caps(settings)
        )
        _say_todo(todo, time.monotonic() - began)
        if config.dry_run or not len(todo.plan):
            break
        folder.claim()  # Before anything else is written into it.
        mine = labels.new_run(source, settings.digest)
        run = labels.claim(mine, todo, _public(config))
        if run is None:
            continue  # A run beside this one has committed: look again.
        if run != mine:
            print("sharing the work with a run that has started, too")
        _label(config, labels, run, settings, info, listing=lambda: None)  # Just done.
        if run == mine:
            break
    if not config.dry_run:
        labels.remove_leftovers()
        labels.compact()


def _label(
    config: LabelConfig,
    labels: LabelSet,
    run: Run,
    settings: LabelSettings,
    info: Mapping[str, Any],
    listing: Callable[[], object],
) -> None:
    """Work a claimed run off and commit it; ``listing`` lists the source again, if it must."""
    resources = config.resources(info["family"])
    number = None
    with contextlib.suppress(pipeline.RunGoneError, FileNotFoundError):
        plan = run.read_videos()
        report = pipeline.make_all_parts(run, plan, settings, resources, "label", listing)
        number = labels.commit(run, model_digest=settings.model_digest)
    if number is None:
        if not labels.is_committed(run):
            raise JobError(f"{run.out} has vanished and was not committed: start the job again")
        labels.remove(run)  # What was written since.
        print("the run beside this one has committed")
        return
    columns = ["label", "duration_seconds", "commit"]
    rows = commits.read_labels(labels.out, set_name=labels.name, columns=columns)
    mine = rows.filter(pc.equal(rows["commit"], number))
    report["labels"] = dict(Counter(mine["label"].drop_null().to_pylist()).most_common())
    seconds = pc.sum(mine["duration_seconds"]).as_py() or 0.0
    report["hours_of_video"] = round(seconds / 3600, 3)
    if report["videos_per_second"]:
        # Of all rows of the commit, some of which an earlier start may have made.
        each = seconds / report["counts"]["videos"]
        report["hours_of_video_per_hour"] = round(each * report["videos_per_second"], 1)
    _folder(config, labels).write_run_json("finished", commit=number, **report)
    _say(labels, number, report)


def _folder(config: LabelConfig, labels: LabelSet) -> RunFolder:
    return RunFolder(
        out=labels.out,
        kind="label",
        shown={"set": labels.name, "config": _public(config)},
        libraries=labels.libraries,
    )


def _public(config: LabelConfig) -> dict[str, Any]:
    return cli.shown(config, without=("dry_run", "overwrite"))


def _say_todo(todo: Todo, seconds: float) -> None:
    told = ", ".join(f"{number} {kind}" for kind, number in todo.counts.items() if number)
    print(f"{told or 'no videos'} ({duration(seconds)} to list and compare)")
    if not len(todo.plan):
        print("nothing to label")


def _say(labels: LabelSet, number: int, report: dict[str, Any]) -> None:
    table = Table("label", "videos", box=None)
    for label, videos in list(report["labels"].items())[:20]:
        table.add_row(label, str(videos))
    Console(width=summary.WIDTH).print(table)
    summary.print_counts(report)
    if cost := report["cost_per_thousand_videos"]:
        gpu = f" and {cost['gpu_seconds']:.0f} GPU-seconds" if cost["gpu_seconds"] else ""
        print(
            f"{report['hours_of_video_per_hour']:.1f} hours of video an hour; a thousand videos "
            f"cost {cost['cpu_seconds']:.0f} CPU-seconds{gpu}"
        )
    where = storage.join(labels.out, "labels", f"set={labels.name}")
    print(f"commit {number}: {storage.without_secrets(where)}")


if __name__ == "__main__":
    cli.run(LabelConfig, main)
