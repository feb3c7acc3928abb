"""Extraction with a frozen network: FEATURES with the family ``embedding``. No Ray here.

    video ─ sandbox: decode ─> views ──question──> predictor, or the sandbox's own network
                               the same numbers <──answer──

The network is a deep model's folder (``jobs/extract.py --embed``). What a row says of it, and how
views become numbers, is in ``features.embedding``; a model that has learnt from such rows carries
the network with it (``models.carried_network``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from vidray import features, storage
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.distributed.sandbox import Ask, Sandbox
from vidray.errors import UserError
from vidray.features import embedding, extraction
from vidray.features.embedding import LEAST_VIEWS, Embedding
from vidray.features.extraction import Settings
from vidray.labelling import labeller
from vidray.labelling.embed_options import EmbedOptions
from vidray.labelling.options import LabelOptions
from vidray.labelling.placing import predictors_for
from vidray.labelling.settings import LabelSettings, check_unchanged
from vidray.models.exported.description import is_graph, runtime_of
from vidray.models.model_files import name_and_digest, read_info
from vidray.models.names import Runtime
from vidray.tables import versions
from vidray.video.clips import ClipSettings
from vidray.video.steady_opencv import steady_opencv


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """All settings that decide the numbers of a row, and where the network is.

    Attributes:
        extraction: with a network.
        network: its model folder, local or in a bucket.
        runtime: what runs it.
    """

    TARGET: ClassVar[str] = "vidray.labelling.embedding:describe_videos"
    PREDICTOR: ClassVar[str] = "vidray.labelling.embedding:answer_questions"

    extraction: Settings
    network: str
    runtime: Runtime = "torch"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EmbedSettings:
        """The settings from the JSON of ``dataclasses.asdict``."""
        return cls(
            extraction=Settings.from_json(values["extraction"]),
            network=str(values["network"]),
            runtime=values["runtime"],
        )

    @property
    def digest(self) -> str:
        """That of the extraction: the network may move."""
        return self.extraction.digest

    @property
    def schema(self) -> pa.Schema:
        """The FEATURES schema with these families."""
        return self.extraction.schema

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that decide the numbers of a row."""
        return (*self.extraction.libraries, *versions.running(self.runtime))

    def predicting(self, choice: PredictorChoice) -> tuple[PredictorChoice, str]:
        """The predictors that the network can have, and their work.

        Raises:
            UserError: the choice is none for what runs the network.
        """
        return predictors_for(choice, read_info(self.network)), self.PREDICTOR

    @property
    def asked(self) -> LabelSettings:
        """The same for who asks a network, as in labelling."""
        used = self.extraction.embedding
        assert used is not None
        options = LabelOptions(embedding=True, precision=used.precision)
        return LabelSettings(model=self.network, model_digest=used.digest, options=options)


def settings_of(
    options: EmbedOptions, extraction: Settings, preset: str, resources: Resources
) -> EmbedSettings:
    """The settings of an extraction with ``--embed``: the network is looked at, in a sandbox.

    Args:
        extraction: as the command line gives it: the named families, or none.
        preset: whose families are extracted where none are named, except for the default one's.
        resources: what a worker may use.

    Raises:
        UserError: no model folder, a classical model, a network that cannot give embeddings, or
            views that do not fit into a worker's memory.
    """
    assert options.embed is not None
    where = storage.canonical(options.embed)
    name, digest = name_and_digest(where)
    info = read_info(where)
    if info["family"] != "deep":
        raise UserError(f"--embed {options.embed} is {name}, a classical model: give a deep one")
    if is_graph(info) and options.embed_precision != EmbedOptions().embed_precision:
        raise UserError(
            f"--embed-precision has no effect on {name}, which was exported in "
            f"{info['exported']['precision']}: leave it out"
        )
    clip = ClipSettings.from_json(info["clip"])
    used = Embedding(
        model=name,
        digest=digest,
        size=1,  # Not known yet.
        clips=options.embed_clips or max(LEAST_VIEWS, clip.clips_per_video),
        crops=options.embed_crops,
        precision=options.embed_precision,
    )
    _check_views(used, clip, resources.memory_bytes)
    named = extraction.families or (() if preset == "default" else features.PRESETS[preset])
    unsized = EmbedSettings(
        extraction=dataclasses.replace(
            extraction, families=(*named, embedding.NAME), embedding=used
        ),
        network=where,
        runtime=runtime_of(info),
    )
    sized = dataclasses.replace(used, size=_size(unsized, resources))
    return dataclasses.replace(
        unsized, extraction=dataclasses.replace(unsized.extraction, embedding=sized)
    )


def _check_views(used: Embedding, clip: ClipSettings, memory_bytes: int) -> None:
    if used.crops > 1 and clip.fit == "squash":
        raise UserError(
            f"embed_crops is {used.crops}, and {used.model} has learnt from whole pictures: "
            "leave it at 1, or embed with a model of clips of --fit crop or resize_crop"
        )
    # The frames as they are read, the views cut from them, and a copy on its way to the network.
    clip_bytes = 3 * clip.frames_per_clip * clip.size_px**2
    views_bytes = used.clips * (2 * used.crops + 1) * clip_bytes
    if views_bytes > memory_bytes / 2:
        raise UserError(
            f"the {used.clips * used.crops} views of a video take {views_bytes / 2**30:.1f} GiB, "
            f"and a worker has {memory_bytes / 2**30:.1f} GiB: lower --embed-clips or "
            "--embed-crops, or raise --memory-gib"
        )


def _size(settings: EmbedSettings, resources: Resources) -> int:
    """The size of the network's embedding. A child process finds it out: the model is input, and
    whoever starts a job need not wait for PyTorch in it.
    """
    sandbox = Sandbox(
        "vidray.labelling.embedding:measure",
        dataclasses.asdict(settings),
        memory_bytes=resources.memory_bytes,
        timeout_seconds=resources.timeout_seconds,
    )
    try:
        return int(sandbox.run({})["size"][0].as_py())
    finally:
        sandbox.close()


def measure(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of a sandbox: ``EmbedSettings`` as JSON -> the size of its network's embedding.

    Raises:
        UserError: the network cannot be loaded, or gives no embedding.
    """
    settings = EmbedSettings.from_json(config)
    network = labeller.network(settings.asked, None)
    shape = (1, network.clip.frames_per_clip, network.clip.size_px, network.clip.size_px, 3)
    found = network.views.embed(np.zeros(shape, np.uint8))
    if found.ndim != 2:
        raise UserError(
            f"{storage.without_secrets(settings.network)} gives numbers of shape {found.shape[1:]} "
            "for a clip, where an embedding is a row: --embed takes another model"
        )
    return lambda _: pa.record_batch({"size": [found.shape[1]]})


def describe_videos(config: Mapping[str, Any], ask: Ask | None = None) -> Any:
    """The work of a sandbox: ``EmbedSettings`` as JSON -> (VIDEOS row -> FEATURES batch of one).

    Args:
        ask: answers what the network says of views, if it is in another process.

    Raises:
        UserError: the network is not the one the job began with.
    """
    steady_opencv()
    settings = EmbedSettings.from_json(config)
    views = labeller.network(settings.asked, ask).views
    check_unchanged(settings.asked)  # After it was read: it may be replaced at any moment.
    return lambda video: extraction.describe_video(video, settings.extraction, views)


def answer_questions(config: Mapping[str, Any]) -> Ask:
    """The work of a process that holds the network: see ``predictor.answer_questions``.

    Args:
        config: ``EmbedSettings`` as JSON.
    """
    from vidray.labelling import predictor

    return predictor.answer_questions(dataclasses.asdict(EmbedSettings.from_json(config).asked))
