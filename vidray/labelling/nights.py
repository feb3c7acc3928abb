"""A night of labelling: finish unfinished runs, list, claim what is left, label it, commit.

Two nights at once share a claim and its work; whoever is first commits it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidray import flags, storage
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.errors import JobError
from vidray.labelling import commits, console, thresholds
from vidray.labelling.commits import LabelSet
from vidray.labelling.options import LabelOptions, TwoStages
from vidray.labelling.settings import LabelSettings, check_model, name_and_digest
from vidray.labelling.todo import Todo
from vidray.models.model_files import embeds, read_info
from vidray.sources import list_videos
from vidray.tables import run_folder
from vidray.tables.run_folder import RunFolder
from vidray.tables.runs import Run


def begin(
    model: str,
    videos: str,
    out: str,
    options: LabelOptions,
    resources: Resources,
    predicting: PredictorChoice,
    *,
    two: TwoStages | None = None,
    max_attempts: int,
    config: Mapping[str, Any],
) -> Night:
    """A checked night: the folder is free or holds labels, and the model can do what is asked.

    Args:
        two: a second model, and how much may be lost.

    Raises:
        UserError: it cannot.
    """
    folder = storage.canonical(out)
    run_folder.check(folder, "label", videos=videos)
    _, digest = name_and_digest(model)
    info = read_info(model)
    second = thresholds.second_of(two or TwoStages(), info, digest)
    dear = None if second is None else read_info(second.model)
    _check_options(options, predicting, info, dear)
    return Night(
        settings=LabelSettings(
            model=storage.canonical(model), model_digest=digest, options=options, then=second
        ),
        model_info=info,
        dear_info=dear,
        videos=videos,
        out=folder,
        max_attempts=max_attempts,
        resources=resources,
        predicting=predicting,
        config=config,
    )


def _check_options(
    options: LabelOptions,
    predicting: PredictorChoice,
    info: Mapping[str, Any],
    dear: Mapping[str, Any] | None,
) -> None:
    """Raise UserError for flags that have no effect on the model, or on either of two."""
    asked = info if dear is None else dear  # Predictors are the second one's.
    if dear is None:
        check_model(options, info)
    else:
        thresholds.check_options(options)
        # What has an effect on one of them has one: flags for networks, if either is one.
        check_model(options, dear if dear["family"] == "deep" else info)
    if not _has_network(asked):
        flags.refuse_unused(predicting, f"{asked['name']}, a classical model")


@dataclass(frozen=True, kw_only=True)
class Night:
    """One model, one source of videos, one folder of labels, and the resources.

    Args:
        settings: everything that decides a label.
        model_info: model.json.
        dear_info: that of the second model, if there is one.
        videos: the source.
        out: the folder, canonical.
        max_attempts: a video that failed so often is left alone until it changes.
        config: what run.json shows.
    """

    settings: LabelSettings
    model_info: Mapping[str, Any]
    dear_info: Mapping[str, Any] | None = None
    videos: str
    out: str
    max_attempts: int
    resources: Resources
    predicting: PredictorChoice
    config: Mapping[str, Any]

    @cached_property
    def labels(self) -> LabelSet:
        """The set of labels that this model, or both, and these settings make."""
        infos = [self.model_info] if self.dear_info is None else [self.model_info, self.dear_info]
        libraries = [name for info in infos for name in self.settings.libraries(info)]
        return LabelSet(
            out=self.out,
            name="-then-".join(info["name"] for info in infos) + f"-{self.settings.digest}",
            libraries=tuple(dict.fromkeys(libraries)),
        )

    @property
    def folder(self) -> RunFolder:
        """The folder of all sets."""
        return RunFolder(
            out=self.out,
            kind="label",
            shown={"set": self.labels.name, "config": self.config},
            libraries=self.labels.libraries,
        )

    def work(self, *, overwrite: bool = False) -> None:
        """Finish unfinished runs, then label and commit until nothing is left."""
        if overwrite:
            list_videos(self.videos)  # A wrong source removes nothing.
            self.folder.overwrite()
        source, digest = self._source, self.settings.digest
        begun = self.labels.unfinished(source, digest)
        if begun is not None:
            print("going on with a run that was not finished")
            self._label(begun, partial(list_videos, self.videos))
        while len((todo := self.todo()).plan):
            self.folder.claim()  # Before anything else is written into it.
            mine = self.labels.new_run(source, digest)
            run = self.labels.claim(mine, todo, dict(self.config))
            if run is None:
                continue  # A run beside this one has committed: look again.
            if run != mine:
                print("sharing the work with a run that has started, too")
            self._label(run, listing=lambda: None)  # Just done.
            if run == mine:
                break
        self.labels.remove_leftovers()
        self.labels.compact()

    def todo(self) -> Todo:
        """List the videos and print what is left to label; nothing is written."""
        began = time.monotonic()
        listed = list_videos(self.videos)
        todo = self.labels.todo(listed, max_attempts=self.max_attempts, caps=self._caps)
        console.print_todo(todo, time.monotonic() - began)
        return todo

    @property
    def _source(self) -> str:
        return storage.without_secrets(storage.canonical(self.videos))

    @property
    def _caps(self) -> dict[str, float]:
        """The caps that videos can be over, with their current values."""
        return {
            **dataclasses.asdict(self.settings.options.limits),
            "memory_bytes": self.resources.memory_bytes,
            "timeout_seconds": self.resources.timeout_seconds,
        }

    def _label(self, run: Run, listing: Callable[[], object]) -> None:
        """Label the videos of a claimed run and commit them; ``listing`` lists the source again."""
        # Ray takes a second to import: not where nothing is left to label.
        from vidray.distributed import pipeline

        number = None
        with contextlib.suppress(pipeline.RunGoneError, FileNotFoundError):
            plan = run.read_videos()
            report = pipeline.make_all_parts(
                run, plan, self.settings, self._placed(), "label", listing
            )
            number = self.labels.commit(
                run,
                model_digest=self.settings.labelled_by,
                class_names=self.model_info["class_names"],
            )
        if number is None:
            if not self.labels.is_committed(run):
                raise JobError(f"{run.out} has vanished and was not committed: start the job again")
            self.labels.remove(run)  # Parts written since.
            print("the run beside this one has committed")
            return
        rows = commits.read_labels(self.out, set_name=self.labels.name, columns=console.COLUMNS)
        mine = rows.filter(pc.equal(rows["commit"], number))
        report |= _measured(mine, report)
        # run.json is that of the last night only.
        self.folder.write(f"nights/commit-{number:06d}.json", {"commit": number, **report})
        self.folder.write_run_json("finished", commit=number, **report)
        console.print_commit(self.labels, number, mine, report)

    def _placed(self) -> Resources:
        """The resources with predictors, if a network is to have processes of its own."""
        if not _has_network(self.dear_info or self.model_info):
            return self.resources
        from vidray.distributed import capacity

        predictors = capacity.place_predictors(self.predicting, LabelSettings.PREDICTOR)
        return dataclasses.replace(self.resources, predictors=predictors)


def _has_network(info: Mapping[str, Any]) -> bool:
    """Whether a model is a network, or takes the embeddings of one."""
    return info["family"] == "deep" or embeds(info)


def _measured(rows: pa.Table, report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a commit's rows for run.json."""
    seconds = pc.sum(rows["duration_seconds"]).as_py() or 0.0
    found: dict[str, Any] = {
        "labels": dict(Counter(rows["label"].drop_null().to_pylist()).most_common()),
        "hours_of_video": round(seconds / 3600, 3),
    }
    if stages := _stages_of(rows):
        found["videos_by_stage"] = stages
    if report["videos_per_second"]:
        # Of all rows of the commit, some of which an earlier start may have made.
        each = seconds / report["counts"]["videos"]
        found["hours_of_video_per_hour"] = round(each * report["videos_per_second"], 1)
    return found


def _stages_of(rows: pa.Table) -> dict[str, int]:
    """How many videos each of two models labelled; nothing of one model."""
    counts = Counter(rows["stage"].drop_null().to_pylist())
    return {str(stage): counts[stage] for stage in sorted(counts)}
