"""One video in, one LABELS row out, by two models: the dearer one is asked where the first is not
sure enough. No Ray here.

    video ── the first model: what it looks at, and in the same pass the second one's frames
               ├─ its probability is the threshold or more ──> its label,           stage 1
               └─ else: the second model, of those frames ───> the second's label,  stage 2

A long video is decided as a whole: its windows are those of one model or of the other. A second
pass is made over a long video, and for a second model that is classical: what it looks at is most
of the video, and most videos do without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray.distributed.sandbox import Ask
from vidray.errors import UserError
from vidray.features.embedding import Views
from vidray.labelling import labeller
from vidray.labelling.labeller import ClipModel
from vidray.labelling.settings import LabelOptions, LabelSettings
from vidray.tables import rows
from vidray.video.aside import Aside

if TYPE_CHECKING:  # It loads PyTorch: not where the network is in another process.
    from vidray.models.folder import ClassicalModel


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One model of two, and whom a classical one asks for embeddings."""

    model: ClipModel | ClassicalModel
    views: Views | None

    @classmethod
    def of(cls, settings: LabelSettings, ask: Ask | None) -> Stage:
        """The model that ``settings`` name, without a second one."""
        model, views = labeller.loaded(settings, ask)
        return cls(model=model, views=views)

    def values(
        self,
        video: Mapping[str, Any],
        options: LabelOptions,
        clock: rows.Stopwatch,
        aside: Aside | None = None,
    ) -> dict[str, Any]:
        """The columns of LABELS that the model gives for a video."""
        return labeller.values_of(video, self.model, options, clock, views=self.views, aside=aside)


def label_videos(
    config: Mapping[str, Any], ask: Ask | None = None
) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of a sandbox: ``LabelSettings`` as JSON -> (row of a plan -> LABELS batch of one).

    Of one model alone it is ``labeller.label_videos``.

    Args:
        ask: asks the process that holds the network, of two models the second one's.

    Raises:
        UserError: a model is not the one the job began with, or the classes differ.
    """
    settings = LabelSettings.from_json(config)
    if settings.then is None:
        work: Callable[[Mapping[str, Any]], pa.RecordBatch] = labeller.label_videos(config, ask)
        return work
    first, second = Stage.of(settings.first, None), Stage.of(settings.asked, ask)
    if first.model.class_names != second.model.class_names:
        raise UserError("the two models have different classes: start the job again")
    return lambda video: label_video(video, first, second, settings)


def label_video(
    video: Mapping[str, Any], first: Stage, second: Stage, settings: LabelSettings
) -> pa.RecordBatch:
    """The LABELS row of one row of a plan; whatever is wrong with the video is in the row."""

    def work(clock: rows.Stopwatch) -> list[rows.Values]:
        values = _decided(video, first, second, settings, clock)
        labeller.check_same_file(video)
        return [values]

    return rows.made_by(work, video, settings.schema, settings.digest)


def _decided(
    video: Mapping[str, Any],
    first: Stage,
    second: Stage,
    settings: LabelSettings,
    clock: rows.Stopwatch,
) -> dict[str, Any]:
    assert settings.then is not None
    options = settings.options
    aside = _aside(second, options)
    values = first.values(video, options, clock, aside)
    if values["probability"] >= settings.then.threshold:
        return {**values, "stage": 1}
    pixels = None if aside is None else aside.clips()
    if pixels is None:
        return {**second.values(video, options, clock), "stage": 2}
    # What was read, and of a file how long, is the same: it was one pass.
    return {**values, **_answer(second, pixels, clock), "stage": 2}


def _aside(second: Stage, options: LabelOptions) -> Aside | None:
    """Who takes the second model's frames, where it is a network."""
    if not isinstance(second.model, ClipModel):
        return None
    cut = labeller.short_clips(second.model, options)
    return Aside(cut, long_seconds=options.long_seconds)


def _answer(second: Stage, pixels: NDArray[np.uint8], clock: rows.Stopwatch) -> dict[str, Any]:
    assert isinstance(second.model, ClipModel)
    with clock("predict_then"):
        answer = second.model.predict(pixels)
    return labeller.clip_columns(answer, second.model.class_names)
