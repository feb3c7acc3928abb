"""Models that were judged on the same videos: only these may stand side by side.

Models judged on different videos differ in their videos too, and nobody can say by how much.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray.evaluation.answers import checked, losses
from vidray.evaluation.intervals import Floats, Integers
from vidray.models import names
from vidray.models.names import ModelKind
from vidray.report.runs import JudgedModel, Runs
from vidray.sources import splits

# A clip that failed in one run only must not keep two models apart; fewer common videos than this
# share of either's would.
_LEAST_COMMON = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedModels:
    """Models judged on the same videos with the same true labels and classes.

    Attributes:
        number: from 1, in the order of the page.
        study: the name of the study that judged them; empty for runs of jobs/evaluate.py.
        members: each with its answers for the common videos only; the most accurate first.
        video_ids: of the common videos.
        left_out: videos that a model was judged on and not every other one, by the model's label.
    """

    number: int
    members: tuple[JudgedModel, ...]
    video_ids: tuple[str, ...]
    left_out: Mapping[str, int]
    study: str = ""

    @property
    def slug(self) -> str:
        """A part of the names of its tables and charts."""
        return f"study-{self.number}" if self.study else str(self.number)

    @property
    def best(self) -> JudgedModel:
        """The most accurate model; of several the one with the lowest log loss."""
        return self.members[0]

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """A name for each member, by its run's, that no other of the group has: the model's, with
        the run's where two are of one name.
        """
        titles = Counter(member.title for member in self.members)
        return {
            member.name: member.title
            if titles[member.title] == 1
            else f"{member.title} ({member.name})"
            for member in self.members
        }

    def label(self, member: JudgedModel) -> str:
        """The member's name in this group."""
        return self.labels[member.name]

    @cached_property
    def truth(self) -> tuple[str, ...]:
        """The true label of each of ``video_ids``."""
        return tuple(np.array(self.best.truth, object)[self.order_of(self.best)].tolist())

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the best model's."""
        return self.best.class_names

    @cached_property
    def group_of(self) -> Integers:
        """int64 (N,): the number of each video's recording; a video without is one of its own."""
        found = np.array(self.best.groups, object)[self.order_of(self.best)].tolist()
        units = [group or ("", video) for group, video in zip(found, self.video_ids, strict=True)]
        number_of = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
        return np.array([number_of[unit] for unit in units], np.int64)

    @property
    def num_recordings(self) -> int:
        """Recordings that the videos are of, as far as they are known."""
        return int(self.group_of.max()) + 1

    @property
    def knows_recordings(self) -> bool:
        """Whether the recording of any of the videos is known."""
        return any(group is not None for group in self.best.groups)

    def rights(self, member: JudgedModel) -> NDArray[np.bool_]:
        """Whether the most probable class is the true one, bool (N,), video by video."""
        return self._answers(member)[0]

    def losses(self, member: JudgedModel) -> Floats:
        """The log loss, float64 (N,), video by video."""
        return self._answers(member)[1]

    def _answers(self, member: JudgedModel) -> tuple[NDArray[np.bool_], Floats]:
        truth, scores = checked(member.truth, member.probabilities, member.class_names)
        order = self.order_of(member)
        return (scores.argmax(axis=1) == truth)[order], losses(truth, scores)[order]

    def order_of(self, member: JudgedModel) -> Integers:
        """int64 (N,): the row of the member's answer for each of ``video_ids``."""
        row_of = {video: row for row, video in enumerate(member.video_ids)}
        return np.array([row_of[video] for video in self.video_ids], np.int64)


# The page's chapters ask one after another; figures of 10,000 videos take seconds. Not a key of a
# dictionary: runs hold tables, which have no hash.
_last: list[tuple[weakref.ref[Runs], tuple[ComparedModels, ...]]] = []


def groups(runs: Runs) -> tuple[ComparedModels, ...]:
    """All judged models by the videos they were judged on; the largest group first.

    Every judged model is in one group; a group may have a single one. Models with other classes, or
    with less than 90 % of their videos in common, are in different groups.
    """
    if _last and _last[0][0]() is runs:
        return _last[0][1]
    recording_of = known_recordings(runs)
    together = [compared(members, recording_of) for members in _clusters(runs.judged)]
    together.sort(key=lambda group: (-len(group.members), -len(group.video_ids)))
    found = tuple(
        dataclasses.replace(group, number=number) for number, group in enumerate(together, start=1)
    )
    _last[:] = [(weakref.ref(runs), found)]
    return found


def kind_of(judged: JudgedModel) -> ModelKind | None:
    """Whether a model is classical or deep; None where its folder is not given and its name does
    not say.
    """
    if judged.model is not None:
        return "deep" if judged.model.is_deep else "classical"
    if judged.title in names.CLASSICAL:
        return "classical"
    is_network = judged.title in names.DEEP or "parameters" in judged.cost
    return "deep" if is_network else None


_Pairs = frozenset[tuple[str, str]]


def _clusters(judged: Sequence[JudgedModel]) -> list[list[JudgedModel]]:
    """Models that share their classes and at least 90 % of their labelled videos, all of them."""
    exact: dict[tuple[frozenset[str], _Pairs], list[JudgedModel]] = {}
    for one in judged:
        pairs = frozenset(zip(one.video_ids, one.truth, strict=True))
        exact.setdefault((frozenset(one.class_names), pairs), []).append(one)
    # The most used set of videos first, so that the odd one joins the others.
    ordered = sorted(exact.items(), key=lambda item: (-len(item[1]), -len(item[0][1])))
    found: list[tuple[frozenset[str], _Pairs, int, list[JudgedModel]]] = []
    for (classes, pairs), members in ordered:
        for place, (other, common, most, inside) in enumerate(found):
            shared, largest = common & pairs, max(most, len(pairs))
            if classes == other and len(shared) >= _LEAST_COMMON * largest and shared:
                found[place] = (classes, shared, largest, [*inside, *members])
                break
        else:
            found.append((classes, pairs, len(pairs), list(members)))
    return [members for _, _, _, members in found]


def compared(
    members: Sequence[JudgedModel], recording_of: Mapping[str, str | None]
) -> ComparedModels:
    """These models on the videos that all of them have, with what is known of recordings."""
    labelled = [frozenset(zip(one.video_ids, one.truth, strict=True)) for one in members]
    common = sorted(frozenset.intersection(*labelled))
    known = {video: recording_of.get(video) for video, _ in common}
    for one in members:  # What the evaluations themselves say is nearer.
        known |= {
            video: group
            for video, group in zip(one.video_ids, one.groups, strict=True)
            if group is not None and video in known
        }
    kept = [_on(one, known) for one in members]
    kept.sort(key=lambda one: (-one.metrics["accuracy"], one.metrics["log_loss"]))
    group = ComparedModels(
        number=0, members=tuple(kept), video_ids=tuple(video for video, _ in common), left_out={}
    )
    missing = {one.name: len(one.video_ids) - len(common) for one in members}
    left_out = {group.labels[name]: number for name, number in missing.items() if number}
    return dataclasses.replace(group, left_out=left_out)


def _on(judged: JudgedModel, known: Mapping[str, str | None]) -> JudgedModel:
    """The model's answers for these videos, with their recordings."""
    rows = [row for row, video in enumerate(judged.video_ids) if video in known]
    recordings = tuple(known[judged.video_ids[row]] for row in rows)
    if len(rows) == len(judged.video_ids) and recordings == judged.groups:
        return judged
    per_video = ("video_ids", "uris", "truth", "predicted")
    some: dict[str, Any] = {
        name: tuple(getattr(judged, name)[row] for row in rows) for name in per_video
    }
    return dataclasses.replace(
        judged, **some, groups=recordings, probabilities=judged.probabilities[rows]
    )


def known_recordings(runs: Runs) -> dict[str, str | None]:
    """The recording of each video in the data that were given: older predictions name none."""
    found: dict[str, str | None] = {}
    tables = [*(run.rows for run in runs.features), *(run.rows for run in runs.clips)]
    for rows in tables:
        table = rows.select(["video_id", "uri", "group"])
        table = table.filter(pa.compute.is_valid(table["video_id"]))
        groups_of = splits.known_recordings(table)
        for video, group in zip(table["video_id"].to_pylist(), groups_of, strict=True):
            if found.get(video) is None:
                found[video] = group
    return found
