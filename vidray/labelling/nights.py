"""A night of labelling: finish unfinished runs, list, claim what is left, label it, commit.

Two nights at once share a claim and its work; whoever is first commits it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from vidray.labelling.placing import predictors_for
from vidray.labelling.settings import (
    LabelSettings,
    check_model,
    check_runtimes,
    name_and_digest,
)
from vidray.labelling.todo import Todo
from vidray.models.exported.description import is_graph
from vidray.models.model_files import network_info, read_info
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
    networks = [network_info(model, info)]
    if second is not None and dear is not None:
        networks.append(network_info(second.model, dear))
    predicting = _checked(options, predicting, info, dear, networks)
    resources = resources.filled(
        holds_network=True, with_pytorch=any(n is None or not is_graph(n) for n in networks)
    )
    return Night(
        settings=LabelSettings(
            model=storage.canonical(model), model_digest=digest, options=options, then=second
        ),
        model_info=info,
        dear_info=dear,
        networks=tuple(networks),
        videos=videos,
        out=folder,
        max_attempts=max_attempts,
        resources=resources,
        predicting=predicting,
        config={**config, "memory_gib": resources.memory_gib},
    )


def _checked(
    options: LabelOptions,
    predicting: PredictorChoice,
    info: Mapping[str, Any],
    dear: Mapping[str, Any] | None,
    networks: Sequence[Mapping[str, Any] | None],
) -> PredictorChoice:
    """The predictors that the network of the model, or of the second one, can have.

    Raises:
        UserError: a flag has no effect on the model, or on either of two.
    """
    asked = info if dear is None else dear  # Predictors are the second one's.
    if dear is None:
        check_model(options, info)
    else:
        thresholds.check_options(options)
        # What has an effect on one of them has one: flags for networks, if either is one.
        check_model(options, dear if dear["family"] == "deep" else info)
    check_runtimes(options, [network for network in networks if network is not None])
    if networks[-1] is None:
        flags.refuse_unused(predicting, f"{asked['name']}, a classical model")
        return predicting
    return predictors_for(predicting, networks[-1])


@dataclass(frozen=True, kw_only=True)
class Night:
    """One model, one source of videos, one folder of labels, and the resources.

    Args:
        settings: everything that decides a label.
        model_info: model.json.
        dear_info: that of the second model, if there is one.
        networks: that of each model's network; None of a model without one.
        videos: the source.
        out: the folder, canonical.
        max_attempts: a video that failed so often is left alone until it changes.
        config: what run.json shows.
    """

    settings: LabelSettings
    model_info: Mapping[str, Any]
    dear_info: Mapping[str, Any] | None = None
    networks: tuple[Mapping[str, Any] | None, ...]
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
        libraries = [
            name
            for info, network in zip(infos, self.networks, strict=True)
            for name in self.settings.libraries(info, network)
        ]
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
            self._label(run, lambda: None, todo)  # Just listed.
            if run == mine:
                break
        self.labels.remove_leftovers()
        self.labels.compact()

    def todo(self) -> Todo:
        """List the videos and print what is left to label; nothing is written."""
        began = time.monotonic()
        listed = list_videos(self.videos)
        todo = self.labels.todo(listed, max_attempts=self.max_attempts, caps=self._caps)
        todo = dataclasses.replace(todo, seconds=time.monotonic() - began)
        console.print_todo(todo, todo.seconds)
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

    def _label(self, run: Run, listing: Callable[[], object], todo: Todo | None = None) -> None:
        """Label the videos of a claimed run and commit them.

        Args:
            listing: lists the source again.
            todo: what it was claimed for; None for a run that an earlier start has claimed.
        """
        began = time.monotonic()
        # Ray takes a second to import: not where nothing is left to label.
        from vidray.distributed import pipeline

        number = None
        with contextlib.suppress(pipeline.RunGoneError, FileNotFoundError):
            plan, resources = run.read_videos(), self._placed()
            placing_seconds = time.monotonic() - began
            report = pipeline.make_all_parts(run, plan, self.settings, resources, "label", listing)
            worked = time.monotonic()
            number = self.labels.commit(
                run,
                model_digest=self.settings.labelled_by,
                class_names=self.model_info["class_names"],
            )
            committing_seconds = time.monotonic() - worked
        if number is None:
            if not self.labels.is_committed(run):
                raise JobError(f"{run.out} has vanished and was not committed: start the job again")
            self.labels.remove(run)  # Parts written since.
            print("the run beside this one has committed")
            return
        rows = commits.read_labels(self.out, set_name=self.labels.name, columns=console.COLUMNS)
        mine = rows.filter(pc.equal(rows["commit"], number))
        report |= _measured(mine, report)
        report["seconds"]["startup"] = round(report["seconds"]["startup"] + placing_seconds, 3)
        report["seconds"]["committing"] = round(committing_seconds, 3)
        if todo is not None:
            report["seconds"]["listing"] = round(todo.seconds, 3)
            report["listed"] = todo.num_listed
        # run.json is that of the last night only.
        self.folder.write(f"nights/commit-{number:06d}.json", {"commit": number, **report})
        self.folder.write_run_json("finished", commit=number, **report)
        console.print_commit(self.labels, number, mine, report)

    def _placed(self) -> Resources:
        """The resources with predictors, if a network is to have processes of its own."""
        if self.networks[-1] is None:
            return self.resources
        from vidray.distributed import capacity

        predictors = capacity.place_predictors(self.predicting, LabelSettings.PREDICTOR)
        return dataclasses.replace(self.resources, predictors=predictors)


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
