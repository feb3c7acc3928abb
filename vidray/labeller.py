"""One video in, one LABELS row out, by a model of either family. No Ray here.

short video       the very clips the model was judged on ──> probabilities, averaged
long video        windows, a few in memory at a time ──────> probabilities, averaged, and
                                                             ``segments``: neighbours joined
classical model   the features it learnt from ─────────────> probabilities
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray import clips, loop, models, rows, sampling, storage
from vidray.decode import IndexContradictedError, Video
from vidray.errors import UserError, VideoError
from vidray.extraction import describe_video
from vidray.labelling import LabelSettings, name_and_digest
from vidray.models.folder import ClassicalModel, DeepModel, Model

_WINDOWS_AT_ONCE = 8


def label_videos(config: Mapping[str, Any]) -> Any:
    """The work of a sandbox: ``LabelSettings`` as JSON -> (row of a plan -> LABELS batch of one).

    Raises:
        UserError: the model is not the one the job began with.
    """
    # One thread in each of as many processes as there are cores: decoding has no use for more.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cv2.ipp.setUseIPP(False)  # It rounds by where an array lies in memory.
    settings = LabelSettings.from_json(config)
    model = models.load(settings.model)
    if name_and_digest(settings.model)[1] != settings.model_digest:
        where = storage.without_secrets(settings.model)
        raise UserError(f"{where} has changed since the job began: start the job again")
    if isinstance(model, DeepModel):
        loop.to_channels_last(model.network)
    return lambda video: label_video(video, model, settings)


def label_video(video: Mapping[str, Any], model: Model, settings: LabelSettings) -> pa.RecordBatch:
    """The LABELS row of one row of a plan; whatever is wrong with the video is in the row.

    Args:
        video: VIDEOS, but with ``true_label`` and ``attempts`` and without ``label``.
    """

    def work(clock: rows.Stopwatch) -> list[rows.Values]:
        if isinstance(model, ClassicalModel):
            values = _by_features(video, model, clock)
        else:
            values = _by_clips(video, model, settings, clock)
        # The label must be of the content that the fingerprint of the row tells.
        if storage.file_info(video["uri"]).fingerprint != video["fingerprint"]:
            raise VideoError("changed", "replaced by another file since it was listed")
        return [values]

    return rows.made_by(work, video, settings.schema, settings.digest)


def _by_features(
    video: Mapping[str, Any], model: ClassicalModel, clock: rows.Stopwatch
) -> dict[str, Any]:
    with clock("describe"):
        described = describe_video(video, model.features)
    (row,) = described.select(
        ["status", "error_kind", "error_message", "duration_seconds", "decoder"]
    ).to_pylist()
    if row["status"] != "ok":
        raise VideoError(row["error_kind"], row["error_message"])
    with clock("predict"):
        (probabilities,) = model.predict(pa.Table.from_batches([described]))
    told = {name: row[name] for name in ("duration_seconds", "decoder")}
    return {**_answer(probabilities, model.class_names), **told}


def _answer(probabilities: NDArray[np.float64], class_names: Sequence[str]) -> dict[str, Any]:
    best = int(probabilities.argmax())
    return {
        "label": class_names[best],
        "probability": float(probabilities[best]),
        "probabilities": probabilities.tolist(),
    }


def _by_clips(
    video: Mapping[str, Any], model: DeepModel, settings: LabelSettings, clock: rows.Stopwatch
) -> dict[str, Any]:
    with (
        storage.opened(video["uri"], video["size_bytes"]) as source,
        Video(source, limits=settings.limits) as opened,
    ):
        with clock("decode"):
            seconds = opened.probe().duration_seconds
        if seconds is not None and seconds > settings.long_seconds:
            return {**_by_windows(opened, model, settings, clock), "duration_seconds": seconds}
        with clock("decode"):
            pixels, _, decoder = clips.read_clips(opened, source, _short(model, settings))
    predict = _Predict(model, settings, clock)
    predict(pixels)
    told = {"duration_seconds": seconds, "decoder": decoder}
    return {
        **_answer(predict.probabilities.mean(axis=0), model.class_names),
        **told,
        **predict.embedding,
    }


def _short(model: DeepModel, settings: LabelSettings) -> clips.ClipSettings:
    """How a short video is cut."""
    changed: dict[str, Any] = {"decoder": settings.decoder, "limits": settings.limits}
    if settings.clips_per_video is not None:
        changed["clips_per_video"] = settings.clips_per_video
    return dataclasses.replace(model.clip, **changed)


def _by_windows(
    opened: Video, model: DeepModel, settings: LabelSettings, clock: rows.Stopwatch
) -> dict[str, Any]:
    try:
        return _stream_windows(opened, model, settings, clock)
    except IndexContradictedError:
        # Frames were counted that do not decode. From here on they are counted by decoding.
        return _stream_windows(opened, model, settings, clock)


def _stream_windows(
    opened: Video, model: DeepModel, settings: LabelSettings, clock: rows.Stopwatch
) -> dict[str, Any]:
    with clock("decode"):
        rate, times = clips.rate_of(opened), opened.pts_seconds
    span, step = (max(1, round(s * rate)) for s in (settings.window_seconds, settings.step_seconds))
    begins = window_begins(len(times), span, step)
    within = sampling.uniform(num_frames=min(span, len(times)), count=model.clip.frames_per_clip)
    cut = clips.stream_clips(opened, [begin + within for begin in begins], model.clip)
    predict = _Predict(model, settings, clock)
    while True:
        with clock("decode"):
            pixels = list(itertools.islice(cut, _WINDOWS_AT_ONCE))
        if not pixels:
            break
        predict(np.stack(pixels))
    gone = np.append(times, times[-1] + 1 / rate)  # when each frame begins, and the last one ends
    bounds = np.stack([gone[begins], gone[np.minimum(begins + span, len(times))]], axis=1)
    return {
        **_answer(predict.probabilities.mean(axis=0), model.class_names),
        **predict.embedding,
        "segments": join_windows(bounds, predict.probabilities, model.class_names),
        "decoder": "pyav",
    }


class _Predict:
    """Probabilities and, if wanted, embeddings of one video's clips, batch after batch."""

    def __init__(self, model: DeepModel, settings: LabelSettings, clock: rows.Stopwatch) -> None:
        self._model, self._settings, self._clock = model, settings, clock
        self._found: list[NDArray[np.float64]] = []
        self._seen: list[Tensor] = []

    def __call__(self, pixels: NDArray[np.uint8]) -> None:
        """``uint8 (N, T, H, W, 3)``."""
        with self._clock("predict"), self._watched_head():
            self._found.append(self._model.predict(pixels, precision=self._settings.precision))

    @contextlib.contextmanager
    def _watched_head(self) -> Iterator[None]:
        if not self._settings.embedding:
            yield
            return

        def keep(_head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen.append(inputs[0].float())

        assert self._model.head is not None
        handle = self._model.head.register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(clips, K)."""
        return np.concatenate(self._found)

    @property
    def embedding(self) -> dict[str, Any]:
        """The column, where it is wanted."""
        if not self._seen:
            return {}
        return {"embedding": torch.cat(self._seen).mean(dim=0).numpy().tolist()}


def window_begins(num_frames: int, span: int, step: int) -> NDArray[np.int64]:
    """The first frame of each window, ``int64 (W,)``; the last one ends with the video."""
    if num_frames <= span:
        return np.zeros(1, np.int64)
    return sampling.sliding_windows(num_frames=num_frames - span + 1, window=1, step=step)[:, 0]


def join_windows(
    bounds: NDArray[np.float64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Neighbouring windows of one label as one segment; the segments follow each other gapless.

    Where the label changes, the boundary lies midway between the middles of the two windows.

    Args:
        bounds: (W, 2), begin and end of each window in seconds, in order.
        probabilities: (W, K).
    """
    labels = probabilities.argmax(axis=1)
    changes = np.flatnonzero(np.diff(labels)) + 1
    firsts, lasts = [0, *changes.tolist()], [*changes.tolist(), len(labels)]
    middles = bounds.mean(axis=1)
    between = [float(middles[k - 1 : k + 1].mean()) for k in changes]
    begins, ends = [float(bounds[0, 0]), *between], [*between, float(bounds[-1, 1])]
    return [
        {
            "begin_seconds": begin,
            "end_seconds": end,
            "label": class_names[labels[first]],
            "probability": float(probabilities[first:last, labels[first]].mean()),
        }
        for begin, end, first, last in zip(begins, ends, firsts, lasts, strict=True)
    ]
