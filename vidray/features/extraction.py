"""One video in, one FEATURES row out: sample, decode, look, enhance, describe. No Ray here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
import tyro
from numpy.typing import NDArray

from vidray import features, storage
from vidray.errors import ModelError, UserError
from vidray.features import embedding
from vidray.features.embedding import Embedding, Views
from vidray.features.family import Family
from vidray.features.material import (
    HEIGHT_PX,
    WIDTH_PX,
    Bursts,
    LooksAt,
    Material,
    frames_a_second_apart,
)
from vidray.tables import digests, rows, schema, versions
from vidray.video import clips, decoders, quality, sampling
from vidray.video.aside import Aside
from vidray.video.choice import FrameChoice
from vidray.video.clock import Clock, Stretch
from vidray.video.decode import Frames, Limits, Request, Video
from vidray.video.decoders import Decoder
from vidray.video.enhance import enhance
from vidray.video.sound import read_sound
from vidray.video.steady_opencv import steady_opencv

Enhance = Literal["off", "auto", "always"]

# Frames looked at in the size they were coded in: as many as fit here, four at the most.
_STORED_BYTES, _MOST_STORED = 64 << 20, 4
# Raised whenever the same file and settings give other numbers than before.
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings that decide the numbers of a row."""

    TARGET: ClassVar[str] = "vidray.features.extraction:describe_videos"

    families: tuple[str, ...] = features.PRESETS["default"]
    """Feature families, such as color and flow. If none is named, those of --preset."""
    enhance: Enhance = "off"
    """Denoise and sharpen sampled frames: off (never), auto (blurred or noisy frames) or always."""
    decoder: Decoder = "pyav"
    """Decoder; PyAV reads wherever the chosen one is not known to be exact. The row names the one
    used."""
    max_sampled_frames: int = 300
    """Most frames sampled per video; a video with more is sampled more sparsely."""
    choice: FrameChoice = dataclasses.field(default_factory=FrameChoice)
    limits: Limits = dataclasses.field(default_factory=Limits)
    embedding: Annotated[Embedding | None, tyro.conf.Suppress] = None
    """The network of the family embedding, if that is among the families."""

    def __post_init__(self) -> None:
        for name in self.families:
            self.family(name)
        if self.embedding is not None and embedding.NAME not in self.families:
            raise UserError(
                f"embedding is given and families are {' '.join(self.families) or 'none'}: "
                f"{embedding.NAME} must be among them"
            )
        if len(set(self.families)) < len(self.families):
            raise UserError(f"families are {' '.join(self.families)}: name each wanted family once")
        decoders.check_decoder(self.decoder)
        if self.enhance not in get_args(Enhance):
            raise UserError(f"enhance is {self.enhance!r}: one of {', '.join(get_args(Enhance))}")
        if self.max_sampled_frames < 1:
            raise UserError(f"max_sampled_frames is {self.max_sampled_frames}: 1 or more")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """The settings from the JSON of ``dataclasses.asdict``."""
        given = {**values, "families": tuple(values["families"])}
        given["limits"] = Limits(**values["limits"])
        if given.get("embedding") is not None:
            given["embedding"] = Embedding(**given["embedding"])
        return cls(choice=FrameChoice.taken_from(given), **given)

    def to_json(self) -> dict[str, Any]:
        """The values for ``from_json``; without a network they are those of an older vidray."""
        values = asdict(self)
        if self.embedding is None:
            del values["embedding"]
        return values

    def only(self, families: Sequence[str]) -> Settings:
        """The settings by which just these families are extracted."""
        network = self.embedding if embedding.NAME in families else None
        return dataclasses.replace(self, families=tuple(families), embedding=network)

    def family(self, name: str) -> Family:
        """The family of that name; UserError where there is none."""
        return features.get_family(name, self.embedding)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when the numbers of a row may."""
        return digests.of([_VERSION, self.choice.without_default(self.to_json())])

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that decide the numbers of a row, but for those that run a network."""
        return (
            *versions.FEATURES, *versions.chosen(decoder=self.decoder, enhance=self.enhance),
        )  # fmt: skip

    @property
    def schema(self) -> pa.Schema:
        """The FEATURES schema with these families."""
        return schema.features_schema({f: self.family(f).length for f in self.families})


def describe_videos(config: Mapping[str, Any]) -> Any:
    """The work of a sandbox: ``Settings`` as JSON -> (VIDEOS row -> FEATURES batch of one row)."""
    steady_opencv()
    settings = Settings.from_json(config)
    return lambda video: describe_video(video, settings)


def describe_video(
    video: Mapping[str, Any],
    settings: Settings,
    views: Views | None = None,
    aside: Aside | None = None,
) -> pa.RecordBatch:
    """The FEATURES row of one VIDEOS row; whatever is wrong with the video is in the row.

    Args:
        views: asks the network of ``settings.embedding``, where they have one.
        aside: takes clips for another model, read in the same pass.

    Raises:
        ModelError: what the network gives is no embedding of the size that the settings say.
    """
    if (settings.embedding is None) != (views is None):
        raise ValueError("views are of the network that the settings name: give both, or neither")
    return rows.made_by(
        lambda clock: [_describe(video, settings, views, aside, clock)],
        video,
        settings.schema,
        settings.digest,
    )


def _describe(
    video: Mapping[str, Any],
    settings: Settings,
    views: Views | None,
    aside: Aside | None,
    clock: rows.Stopwatch,
) -> dict[str, Any]:
    """Probe, quality, features and the decoder used."""
    (sampled, stored), seen, of_file = _read(video, settings, views, aside, clock)
    with clock("quality"):
        looks = quality.measure(sampled.pixels, stored=stored.pixels)
    with clock("enhance"):
        frames, enhanced_share = _enhanced(sampled.pixels, settings.enhance)
    with clock("describe"):
        vectors = features.describe(
            {"frames": (frames,), **seen}, settings.families, settings.embedding
        )
    return {**of_file, **looks, "enhanced_share": enhanced_share, **vectors}


def _read(
    video: Mapping[str, Any],
    settings: Settings,
    views: Views | None,
    aside: Aside | None,
    clock: rows.Stopwatch,
) -> tuple[list[Frames], dict[LooksAt, Material], dict[str, Any]]:
    """Sampled and stored frames; bursts, sound and views, where families want them; the file's
    columns.
    """
    stretch, bursts = Stretch.of_row(video), _bursts(settings)
    with storage.opened(video["uri"], video["size_bytes"]) as source:
        with clock("decode"), Video(source, limits=settings.limits) as opened:
            draw = video["size_bytes"]
            plan = partial(
                _requests, settings=settings, views=views, aside=aside, stretch=stretch, draw=draw
            )
            read, decoder = decoders.read_planned(opened, source, plan, decoder=settings.decoder)
            probe, damage = opened.probe(), opened.damage
        heard = None
        if probe.has_sound and "sound" in _looks_at(settings):
            with clock("sound"):
                heard = read_sound(
                    source, begin_seconds=stretch.begin_seconds, end_seconds=stretch.end_seconds
                )
    last = 2 + len(bursts)
    seen: dict[LooksAt, Material] = {
        wanted: wanted.gather(found) for wanted, found in zip(bursts, read[2:last], strict=True)
    }
    seen |= {} if heard is None else {"sound": (heard,)}
    if views is not None:
        with clock("embed"):
            seen["views"] = (_embedded(read[last], settings, views),)
    if aside is not None:
        aside.take(read[last + (views is not None) :])
    return read[:2], seen, {**asdict(probe), **asdict(damage), "decoder": decoder}


def _looks_at(settings: Settings) -> list[LooksAt]:
    """The materials that the families look at, each once and in their order."""
    return list(dict.fromkeys(settings.family(name).looks_at for name in settings.families))


def _bursts(settings: Settings) -> list[Bursts]:
    return [wanted for wanted in _looks_at(settings) if isinstance(wanted, Bursts)]


def _requests(
    video: Video,
    settings: Settings,
    views: Views | None,
    aside: Aside | None,
    stretch: Stretch,
    draw: int,
) -> list[Request]:
    """Frames for the families and for quality, a few as stored for quality, then the bursts, the
    views, and last of all another model's: the video is decoded once.
    """
    clock = Clock.of_video(video, stretch)
    sampled = _sampled(clock, settings, draw)
    frame_bytes = 3 * video.header.width_px * video.header.height_px
    most_stored = max(1, min(_MOST_STORED, _STORED_BYTES // frame_bytes))
    few = sampled[sampling.dense(num_frames=len(sampled), max_frames=most_stored)]
    return [
        Request(sampled, WIDTH_PX, HEIGHT_PX, "opencv_area"),
        Request(few, resize="as_stored"),
        *(bursts.request(clock) for bursts in _bursts(settings)),
        *([] if views is None else [_view_request(video, clock, settings, views, draw)]),
        *([] if aside is None else aside.requests(video, stretch, draw)),
    ]


def _view_request(
    video: Video, clock: Clock, settings: Settings, views: Views, draw: int
) -> Request:
    assert settings.embedding is not None
    cut = settings.embedding.cut(views.clip, clock)
    return clips.request(video, clock, cut, crops=settings.embedding.crops, draw=draw)


def _embedded(frames: Frames, settings: Settings, views: Views) -> NDArray[np.float32]:
    """The embedding of each view, ``float32 (V, D)``."""
    network = settings.embedding
    assert network is not None
    pixels = clips.clips_of(frames, views.clip, crops=network.crops)  # (V, T, H, W, 3)
    found = views.embed(pixels)
    if found.shape != (len(pixels), network.size):
        raise ModelError(
            f"the network {network.model} gives {'x'.join(map(str, found.shape))} numbers for "
            f"{len(pixels)} clips, and {network.size} each are expected: get a new copy of it"
        )
    return found


def _sampled(clock: Clock, settings: Settings, draw: int) -> sampling.Indices:
    """The sampled frames, ``int64 (T,)``, strictly increasing."""
    most = settings.max_sampled_frames
    if settings.choice.sampling is None:
        return frames_a_second_apart(clock, most=most)
    ticks = settings.choice.of_video(
        num_ticks=clock.num_ticks, ticks_per_second=clock.ticks_per_second, most=most, draw=draw
    )
    return np.unique(clock.frames(ticks))


def _enhanced(pixels: NDArray[np.uint8], mode: Enhance) -> tuple[NDArray[np.uint8], float]:
    """Frames after enhancement, and the share of them that was enhanced."""
    chosen = [
        mode == "always"
        or (mode == "auto" and quality.calls_for_enhancement(quality.measure_frame(frame)))
        for frame in pixels
    ]
    if not any(chosen):
        return pixels, 0.0
    frames = [enhance(f) if wanted else f for f, wanted in zip(pixels, chosen, strict=True)]
    return np.stack(frames), float(np.mean(chosen))
