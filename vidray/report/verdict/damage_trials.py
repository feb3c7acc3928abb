"""What models answer for videos that were damaged on purpose.

    a file -> a copy, damaged or not (a child process) -> FEATURES or CLIPS, as for jobs/label.py
    (a child process for each way in which the models look at videos) -> each model's answer

The undamaged copy is the control: what a model loses is counted from its answers for that one, so
that storing a video again cannot be taken for damage.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vidray import storage
from vidray.distributed.sandbox import Ask, Sandbox
from vidray.errors import JobError, UserError, VideoError
from vidray.evaluation.intervals import Integers
from vidray.evaluation.pairs import PairedDifference, differences
from vidray.features.embedding import Views
from vidray.features.extraction import Settings, describe_video
from vidray.labelling.wire import question, read_question
from vidray.report.frames.decoding import check_address
from vidray.report.judged.comparable import ComparedModels
from vidray.report.judged.paired import Bools
from vidray.report.runs import JudgedModel, Runs
from vidray.report.settings import ReportSettings
from vidray.report.verdict.made_damage import DAMAGES, UNDAMAGED, MadeDamage
from vidray.sources.listing import video_id
from vidray.storage import parquet
from vidray.video.clips import ClipSettings
from vidray.video.steady_opencv import steady_opencv

if TYPE_CHECKING:
    from vidray.models.folder import Model

_MEMORY_BYTES = 3 << 30
_MOST_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class DamageResult:
    """A model's answers for copies with one damage, against those for undamaged copies.

    Attributes:
        accuracy: on the damaged copies.
        change: accuracy on these minus that on the control, corrected over the damages.
    """

    damage: MadeDamage
    accuracy: float
    change: PairedDifference


@dataclass(frozen=True, kw_only=True)
class ModelTrial:
    """What one model bears.

    Attributes:
        name: of its evaluation's run.
        num_videos: whose every copy it has answered for; of ``num_recordings``.
        control: accuracy on the undamaged copies.
        as_judged: undamaged copies with the very answer of the evaluation.
        results: a value a damage.
    """

    name: str
    num_videos: int
    num_recordings: int
    control: float
    as_judged: int
    results: Sequence[DamageResult]


@dataclass(frozen=True, kw_only=True)
class GroupTrial:
    """The models of one group on the same damaged videos.

    Attributes:
        models: most accurate first.
        failed: video -> why it, or a copy of it, could not be labelled.
        without: models whose folder is not among the given ones, or cannot be loaded -> why.
        seconds: it took.
    """

    models: Sequence[ModelTrial]
    failed: Mapping[str, str]
    without: Mapping[str, str]
    seconds: float


@dataclass
class DamageTrials:
    """The trials of a page, each made once: two chapters speak of them."""

    _known: dict[int, GroupTrial] = field(default_factory=dict)

    def of(self, group: ComparedModels, runs: Runs, settings: ReportSettings) -> GroupTrial | None:
        """The group's models on damaged copies of some of its videos; None if none are asked for.

        Args:
            settings: ``robustness_videos`` says how many.
        """
        if not settings.robustness_videos:
            return None
        if group.number not in self._known:
            self._known[group.number] = _tried(group, runs, settings)
        return self._known[group.number]


def _tried(group: ComparedModels, runs: Runs, settings: ReportSettings) -> GroupTrial:
    began = time.monotonic()
    chosen = sample(group.video_ids, settings.robustness_videos, settings.seed)
    listed = _listed(runs)
    without: dict[str, str] = {}
    failed: dict[str, str] = {}
    answers: dict[str, dict[str, Sequence[int]]] = {}
    with contextlib.ExitStack() as stack:
        looks = _looks(group, stack, without)
        copier = _Copier(stack, settings)
        for number, video in enumerate(chosen if looks else [], start=1):
            print(f"  damaged videos: {number}/{len(chosen)}", file=sys.stderr, flush=True)
            try:
                row = _row(
                    group, video, listed, frozenset(host.lower() for host in settings.frames_from)
                )
                answers[video] = _answers(row, copier, looks)
            except (VideoError, JobError, UserError) as error:
                failed[video] = str(error)
    made = [
        _judged(group, member, answers)
        for member in group.members
        if answers and member.name not in without
    ]
    return GroupTrial(models=made, failed=failed, without=without, seconds=time.monotonic() - began)


def sample(video_ids: Sequence[str], count: int, seed: int) -> list[str]:
    """``count`` of the videos, by chance, in their order."""
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(video_ids))[:count]
    return [video_ids[k] for k in sorted(drawn.tolist())]


# Videos


def _listed(runs: Runs) -> Mapping[str, Mapping[str, Any]]:
    """Size and stretch of each video, as the runs that read it have listed it."""
    found: dict[str, Mapping[str, Any]] = {}
    for run in (*runs.features, *runs.clips):
        names = ["video_id", "size_bytes"]
        stretch = ("begin_seconds", "end_seconds")
        with contextlib.suppress(UserError, OSError, KeyError, pa.ArrowException):
            table = parquet.read_parquet(
                storage.join(run.out, "videos.parquet"), names, if_there=stretch
            )
            found |= {row["video_id"]: row for row in table.to_pylist()}
    return found


def _row(
    group: ComparedModels,
    video: str,
    listed: Mapping[str, Mapping[str, Any]],
    hosts: frozenset[str],
) -> dict[str, Any]:
    """The VIDEOS row of a judged video.

    Raises:
        VideoError: its file is not to be opened, or which part of it was judged is not known.
    """
    best = group.best
    at = best.video_ids.index(video)
    uri = best.uris[at]
    own = listed.get(video)
    check_address(uri, hosts)
    if own is None and video_id(uri) != video:
        raise VideoError("missing", "a stretch of a file: give the run that it was read by, too")
    size = storage.file_info(uri).size_bytes if own is None else own["size_bytes"]
    return {
        "video_id": video,
        "uri": uri,
        "size_bytes": int(size),
        "fingerprint": "",
        "label": best.truth[at],
        "begin_seconds": own.get("begin_seconds") if own else None,
        "end_seconds": own.get("end_seconds") if own else None,
    }


class _Copier:
    """Makes copies, one at a time, in a folder that goes with the trials."""

    def __init__(self, stack: contextlib.ExitStack, settings: ReportSettings) -> None:
        self._folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vidray-damaged-"))
        self._sandbox = Sandbox(
            "vidray.report.verdict.made_damage:worker",
            {"hosts": [host.lower() for host in settings.frames_from]},
            memory_bytes=_MEMORY_BYTES,
            timeout_seconds=_MOST_SECONDS,
        )
        stack.callback(self._sandbox.close)
        self._seed = settings.seed

    @contextlib.contextmanager
    def copy(self, row: Mapping[str, Any], damage: MadeDamage) -> Iterator[dict[str, Any]]:
        """The row of a damaged copy, which is there until the block ends."""
        out = Path(self._folder) / "copy.nut"
        request = {
            "uri": row["uri"],
            "size_bytes": row["size_bytes"],
            "out": str(out),
            "kind": damage.kind,
            "amount": damage.amount,
            "seed": self._seed,
        }
        try:
            (made,) = self._sandbox.run(request).to_pylist()
            if made["kind"]:
                raise VideoError(made["kind"], made["why"])
            # The size of the file itself: random frames are drawn by it.
            yield {**row, "uri": str(out)}
        finally:
            out.unlink(missing_ok=True)


# Models


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One way to look at videos, shared by the models that look so.

    Attributes:
        sandbox: VIDEOS row -> FEATURES or CLIPS.
        views: of a network whose embeddings are among the features.
        models: run of an evaluation -> its model.
    """

    sandbox: Sandbox
    views: Views | None
    models: dict[str, Model]

    def answers(self, row: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
        """Each model, and the number of the class that it gives the video.

        Raises:
            VideoError: the copy cannot be read.
        """
        batch = self.sandbox.run(dict(row), None if self.views is None else self._embed)
        first = batch.slice(0, 1).select(["status", "error_kind", "error_message"]).to_pylist()[0]
        if first["status"] != "ok":
            raise VideoError(first["error_kind"] or "unreadable", first["error_message"] or "")
        from vidray.models.folder import ClassicalModel

        for name, model in self.models.items():
            if isinstance(model, ClassicalModel):
                found = model.predict(pa.Table.from_batches([batch]))
            else:
                clip = model.clip
                shape = (-1, clip.frames_per_clip, clip.size_px, clip.size_px, 3)
                pixels = b"".join(batch["pixels"].to_pylist())
                found = model.predict(np.frombuffer(pixels, np.uint8).reshape(shape))
            yield name, int(found.mean(axis=0).argmax())

    def _embed(self, asked: pa.RecordBatch) -> pa.RecordBatch:
        assert self.views is not None
        found = self.views.embed(read_question(asked, self.views.clip))
        return pa.record_batch({"embeddings": pa.array(list(found), pa.list_(pa.float32()))})


def _looks(
    group: ComparedModels, stack: contextlib.ExitStack, without: dict[str, str]
) -> Sequence[_Look]:
    found: dict[str, _Look] = {}
    for member in group.members:
        if member.model is None:
            without[member.name] = "its folder is not among the given ones"
            continue
        try:
            # PyTorch takes seconds to import, and most reports damage no video.
            from vidray import models

            model = models.load(member.model.out)
        except (UserError, OSError) as error:
            without[member.name] = str(error)
            continue
        key, look = _look_of(model)
        if key not in found:
            found[key] = look
            stack.callback(look.sandbox.close)
        found[key].models[member.name] = model
    return list(found.values())


def _look_of(model: Model) -> tuple[str, _Look]:
    """How a model looks at videos; the key is the same for models that look the same way."""
    from vidray.models.folder import ClassicalModel

    views = model.views if isinstance(model, ClassicalModel) else None
    target, asks = ClipSettings.TARGET, False
    if isinstance(model, ClassicalModel):
        settings: Settings | ClipSettings = model.features
        target, config = Settings.TARGET, model.features.to_json()
        if views is not None:
            target, asks = "vidray.report.verdict.damage_trials:describing", True
            config = {"features": config, "clip": asdict(views.clip)}
    else:
        settings, config = model.clip, asdict(model.clip)
    sandbox = Sandbox(
        target, config, memory_bytes=_MEMORY_BYTES, timeout_seconds=_MOST_SECONDS, asks=asks
    )
    return f"{target} {settings.digest}", _Look(sandbox=sandbox, views=views, models={})


def describing(config: Mapping[str, Any], ask: Ask) -> Any:
    """The work of a sandbox: VIDEOS row -> FEATURES, with embeddings that the caller is asked."""
    steady_opencv()
    settings = Settings.from_json(config["features"])

    def embed(pixels: Any) -> Any:
        column = ask(question(pixels))["embeddings"]
        return np.stack(column.to_numpy(zero_copy_only=False)).astype(np.float32)

    views = Views(clip=ClipSettings.from_json(config["clip"]), embed=embed)
    return lambda video: describe_video(video, settings, views)


def _answers(
    row: Mapping[str, Any], copier: _Copier, looks: Sequence[_Look]
) -> dict[str, Sequence[int]]:
    """Model -> its answer for the undamaged copy, then for each damage."""
    found: dict[str, list[int]] = {}
    for damage in (UNDAMAGED, *DAMAGES):
        with copier.copy(row, damage) as copy:
            for look in looks:
                for name, answer in look.answers(copy):
                    found.setdefault(name, []).append(answer)
    return dict(found)


# Figures


def _judged(
    group: ComparedModels, member: JudgedModel, answers: Mapping[str, Mapping[str, Sequence[int]]]
) -> ModelTrial:
    place = {video: k for k, video in enumerate(group.video_ids)}
    at = np.array([place[video] for video in answers], np.int64)
    given = np.array([one[member.name] for one in answers.values()])  # (N, 1 + damages)
    number_of = {name: number for number, name in enumerate(member.class_names)}
    truth = np.array([number_of[group.truth[k]] for k in at.tolist()])
    before = member.probabilities[group.order_of(member)].argmax(axis=1)[at]
    _, recordings = np.unique(group.group_of[at], return_inverse=True)
    right = given == truth[:, None]
    return ModelTrial(
        name=member.name,
        num_videos=len(at),
        num_recordings=int(recordings.max()) + 1,
        control=float(right[:, 0].mean()),
        as_judged=int((given[:, 0] == before).sum()),
        results=results(right, recordings),
    )


def results(right: Bools, group_of: Integers, *, seed: int = 0) -> list[DamageResult]:
    """The change by each damage.

    Args:
        right: bool (N, 1 + damages): whether the answer is right, for the control first.
        group_of: (N,) number of each video's recording.
    """
    pairs = [(k, 0) for k in range(1, right.shape[1])]
    changes = differences(right.T, pairs, group_of, seed=seed)
    return [
        DamageResult(damage=damage, accuracy=float(right[:, k].mean()), change=change)
        for damage, (k, _), change in zip(DAMAGES, pairs, changes, strict=True)
    ]
