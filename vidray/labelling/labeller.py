"""One video in, one LABELS row out, by a model of either kind. No Ray here.

short video       the very clips the model was judged on ──> probabilities, averaged
long video        windows, a few in memory at a time ──────> probabilities, averaged, and
                                                             ``segments``: neighbours joined
classical model   the features it learnt from ─────────────> probabilities
                  (with an embedding: of the network that it carries)

The network is in this process, or in one that is asked (``predictor``): then nothing here needs
PyTorch.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.distributed.sandbox import Ask
from vidray.errors import Cap, VideoError
from vidray.features.embedding import Views
from vidray.features.extraction import describe_video
from vidray.labelling.settings import (
    LabelOptions,
    LabelSettings,
    check_unchanged,
)
from vidray.labelling.windows import join_windows, window_frames
from vidray.labelling.wire import Answer, question, read_answer
from vidray.models.model_files import embeds, network_folder, read_info
from vidray.tables import rows
from vidray.video import clips
from vidray.video.aside import Aside
from vidray.video.clips import ClipSettings
from vidray.video.clock import Clock, Stretch
from vidray.video.decode import Damage, IndexContradictedError, Video
from vidray.video.steady_opencv import steady_opencv

if TYPE_CHECKING:
    from vidray.models.folder import ClassicalModel

_WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class ClipModel:
    """A network in this process or another one, and how videos are cut for it.

    Attributes:
        clip: how a video is cut into the clips it takes.
        predict: ``uint8 (N, T, H, W, 3)`` -> ``Answer``.
    """

    class_names: tuple[str, ...]
    clip: ClipSettings
    predict: Callable[[NDArray[np.uint8]], Answer]

    @property
    def views(self) -> Views:
        """The same for whoever wants embeddings alone, of a network that gives them."""
        return Views(clip=self.clip, embed=self._embed)

    def _embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = range(0, len(pixels), _WINDOWS_AT_ONCE)
        found = [self.predict(pixels[k : k + _WINDOWS_AT_ONCE]).embeddings for k in parts]
        return np.concatenate([part for part in found if part is not None])


def label_videos(config: Mapping[str, Any], ask: Ask | None = None) -> Any:
    """The work of a sandbox: ``LabelSettings`` as JSON -> (row of a plan -> LABELS batch of one).

    Args:
        ask: answers ``question`` with ``write_answer``, if the network is in another process.

    Raises:
        UserError: the model is not the one the job began with.
    """
    steady_opencv()
    settings = LabelSettings.from_json(config)
    assert settings.then is None, "two models are the work of stages"
    model, views = loaded(settings, ask)
    return lambda video: label_video(video, model, settings, views)


def loaded(
    settings: LabelSettings, ask: Ask | None
) -> tuple[ClipModel | ClassicalModel, Views | None]:
    """The model, and where a classical one takes embeddings, who is asked for these.

    Raises:
        UserError: as ``label_videos``.
    """
    info = read_info(settings.model)
    model: ClipModel | ClassicalModel
    views = None
    if info["family"] == "deep":
        model = network(settings, ask)
    else:
        model = _classical(settings)
        views = network(settings, ask).views if embeds(info) else None
    check_unchanged(settings)  # After it was read: it may be replaced at any moment.
    return model, views


def _classical(settings: LabelSettings) -> ClassicalModel:
    from vidray import models
    from vidray.labelling.torch_predictor import use_one_thread

    use_one_thread()
    model = models.load(settings.model, with_network=False)
    assert isinstance(model, models.ClassicalModel)
    described = dataclasses.replace(model.features, limits=settings.options.limits)
    return dataclasses.replace(model, features=described)


def network(settings: LabelSettings, ask: Ask | None) -> ClipModel:
    """The network of a model of either kind; where ``ask`` is given, in the process it asks."""
    return _network_here(settings) if ask is None else _network_elsewhere(settings, ask)


def _network_here(settings: LabelSettings) -> ClipModel:
    from vidray.labelling.predictor import open_predictor

    found = open_predictor(settings, may_use_gpu=False)
    return ClipModel(class_names=found.class_names, clip=found.clip, predict=found)


def _network_elsewhere(settings: LabelSettings, ask: Ask) -> ClipModel:
    info = read_info(network_folder(settings.model))

    def predict(pixels: NDArray[np.uint8]) -> Answer:
        return read_answer(ask(question(pixels)))

    return ClipModel(
        class_names=tuple(info["class_names"]),
        clip=ClipSettings.from_json(info["clip"]),
        predict=predict,
    )


def label_video(
    video: Mapping[str, Any],
    model: ClipModel | ClassicalModel,
    settings: LabelSettings,
    views: Views | None = None,
) -> pa.RecordBatch:
    """The LABELS row of one row of a plan; whatever is wrong with the video is in the row.

    Args:
        video: VIDEOS, but with ``true_label`` and ``attempts`` and without ``label``.
        views: asks the network whose embeddings a classical model takes, if it takes any.
    """

    def work(clock: rows.Stopwatch) -> list[rows.Values]:
        values = values_of(video, model, settings.options, clock, views=views)
        check_same_file(video)
        return [values]

    return rows.made_by(work, video, settings.schema, settings.digest)


def check_same_file(video: Mapping[str, Any]) -> None:
    """Raise VideoError unless a label made now belongs to the content that the row names."""
    if storage.file_info(video["uri"]).fingerprint != video["fingerprint"]:
        raise VideoError("changed", "replaced by another file since it was listed")


def values_of(
    video: Mapping[str, Any],
    model: ClipModel | ClassicalModel,
    options: LabelOptions,
    clock: rows.Stopwatch,
    *,
    views: Views | None = None,
    aside: Aside | None = None,
) -> dict[str, Any]:
    """The columns of LABELS that a model gives for a video.

    Args:
        views: as of ``label_video``.
        aside: takes clips for another model, read in the same pass.

    Raises:
        VideoError: there is no label, and why.
    """
    if isinstance(model, ClipModel):
        return _by_clips(video, model, options, clock, aside)
    return _by_features(video, model, views, clock, aside)


def _by_features(
    video: Mapping[str, Any],
    model: ClassicalModel,
    views: Views | None,
    clock: rows.Stopwatch,
    aside: Aside | None,
) -> dict[str, Any]:
    with clock("describe"):
        described = describe_video(video, model.features, views, aside)
    kept = [*(field.name for field in dataclasses.fields(Damage)), "decoder"]
    reason = ["status", "error_kind", "error_message", "cap", "cap_value"]
    (row,) = described.select([*reason, "duration_seconds", *kept]).to_pylist()
    if row["status"] != "ok":
        cap = None if row["cap"] is None else Cap(row["cap"], row["cap_value"])
        raise VideoError(row["error_kind"], row["error_message"], cap=cap)
    with clock("predict"):
        (probabilities,) = model.predict(pa.Table.from_batches([described]))
    seconds = _seconds(row["duration_seconds"], Stretch.of_row(video))
    columns = {"duration_seconds": seconds, **{name: row[name] for name in kept}}
    return {**answer_columns(probabilities, model.class_names), **columns}


def _seconds(file_seconds: float | None, stretch: Stretch) -> float | None:
    return None if file_seconds is None else stretch.duration_seconds(file_seconds)


def answer_columns(
    probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> dict[str, Any]:
    """The columns of LABELS that probabilities ``float64 (K,)`` fill."""
    best = int(probabilities.argmax())
    return {
        "label": class_names[best],
        "probability": float(probabilities[best]),
        "probabilities": probabilities.tolist(),
    }


def _by_clips(
    video: Mapping[str, Any],
    model: ClipModel,
    options: LabelOptions,
    clock: rows.Stopwatch,
    aside: Aside | None,
) -> dict[str, Any]:
    stretch = Stretch.of_row(video)
    with (
        storage.opened(video["uri"], video["size_bytes"]) as source,
        Video(source, limits=options.limits) as opened,
    ):
        with clock("decode"):
            seconds = _seconds(opened.probe().duration_seconds, stretch)
        if seconds is not None and seconds > options.long_seconds:
            labelled = _by_windows(opened, stretch, model, options, clock)
            damage = dataclasses.asdict(opened.damage)
            return {**labelled, **damage, "duration_seconds": seconds}
        with clock("decode"):
            cut = short_clips(model, options)
            draw = video["size_bytes"]
            if aside is not None:
                pixels, decoder = aside.read_beside(opened, source, cut, stretch=stretch, draw=draw)
            else:
                pixels, _, decoder = clips.read_clips(
                    opened, source, cut, stretch=stretch, crops=options.crops, draw=draw
                )
            damage = dataclasses.asdict(opened.damage)
    with clock("predict"):
        answer = model.predict(pixels)
    columns = {"duration_seconds": seconds, "decoder": decoder, **damage}
    return {**columns, **clip_columns(answer, model.class_names)}


def clip_columns(answer: Answer, class_names: Sequence[str]) -> dict[str, Any]:
    """The columns of LABELS that a network's answer for the clips of a short video fills."""
    return {
        **answer_columns(answer.probabilities.mean(axis=0), class_names),
        **_embedding([answer]),
        "exit_stage": _last_stage([answer]),
    }


def short_clips(model: ClipModel, options: LabelOptions) -> ClipSettings:
    """The clip settings of a short video."""
    changed: dict[str, Any] = {"decoder": options.decoder, "limits": options.limits}
    if options.clips_per_video is not None:
        changed["clips_per_video"] = options.clips_per_video
    return dataclasses.replace(model.clip, **changed)


def _by_windows(
    opened: Video,
    stretch: Stretch,
    model: ClipModel,
    options: LabelOptions,
    clock: rows.Stopwatch,
) -> dict[str, Any]:
    try:
        return _stream_windows(opened, stretch, model, options, clock)
    except IndexContradictedError:
        # Frames were counted that do not decode. From here on they are counted by decoding.
        return _stream_windows(opened, stretch, model, options, clock)


def _stream_windows(
    opened: Video,
    stretch: Stretch,
    model: ClipModel,
    options: LabelOptions,
    clock: rows.Stopwatch,
) -> dict[str, Any]:
    with clock("decode"):
        times = Clock.of_video(opened, stretch)
    windows, bounds = window_frames(times, options, model.clip)
    # Where a frame stays on the screen for long, window after window is the same: asked once.
    chosen, which = np.unique(windows, axis=0, return_inverse=True)
    cut = clips.stream_clips(opened, list(chosen), model.clip, crops=options.crops)
    answers: list[Answer] = []
    while True:
        with clock("decode"):
            pixels = list(itertools.islice(cut, _WINDOWS_AT_ONCE))
        if not pixels:
            break
        with clock("predict"):
            answers.append(model.predict(np.concatenate(pixels)))  # (windows * crops, T, H, W, 3)
    asked = np.arange(len(chosen) * options.crops).reshape(-1, options.crops)
    every = asked[which.reshape(-1)].reshape(-1)  # (W * crops,)
    found = np.concatenate([answer.probabilities for answer in answers])[every]
    probabilities = found.reshape(len(windows), options.crops, -1).mean(axis=1)
    return {
        **answer_columns(probabilities.mean(axis=0), model.class_names),
        **_embedding(answers, every),
        "exit_stage": _last_stage(answers),
        "segments": join_windows(bounds, probabilities, model.class_names),
        "decoder": "pyav",
    }


def _embedding(
    answers: Sequence[Answer], clips: NDArray[np.int64] | slice = slice(None)
) -> dict[str, Any]:
    """The embedding column, where it is wanted: the mean over ``clips``."""
    found = [answer.embeddings for answer in answers if answer.embeddings is not None]
    return {"embedding": np.concatenate(found)[clips].mean(axis=0).tolist()} if found else {}


def _last_stage(answers: Sequence[Answer]) -> int | None:
    """How far the clips of a video went, the one that went furthest; None without early exits.

    Each leaves for itself, and the probabilities that are averaged are those it left with.
    """
    found = [answer.stages for answer in answers if answer.stages is not None]
    return int(np.concatenate(found).max()) if found else None
