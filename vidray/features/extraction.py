"""One video in, one FEATURES row out: sample, decode, look, enhance, describe. No Ray here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import features, storage
from vidray.errors import UserError
from vidray.features.material import (
    HEIGHT_PX,
    WIDTH_PX,
    Bursts,
    LooksAt,
    Material,
    frames_a_second_apart,
)
from vidray.tables import digests, rows, schema, versions
from vidray.video import decoders, quality, sampling
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

    def __post_init__(self) -> None:
        for family in self.families:
            features.get_family(family)
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
        return cls(choice=FrameChoice.taken_from(given), **given)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when the numbers of a row may."""
        return digests.of([_VERSION, self.choice.without_default(asdict(self))])

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that decide the numbers of a row."""
        own = versions.chosen(decoder=self.decoder, enhance=self.enhance)
        return (*versions.FEATURES, *own)

    @property
    def schema(self) -> pa.Schema:
        """The FEATURES schema with these families."""
        return schema.features_schema({f: features.FAMILIES[f].length for f in self.families})


def describe_videos(config: Mapping[str, Any]) -> Any:
    """The work of a sandbox: ``Settings`` as JSON -> (VIDEOS row -> FEATURES batch of one row)."""
    steady_opencv()
    settings = Settings.from_json(config)
    return lambda video: describe_video(video, settings)


def describe_video(video: Mapping[str, Any], settings: Settings) -> pa.RecordBatch:
    """The FEATURES row of one VIDEOS row; whatever is wrong with the video is in the row."""
    return rows.made_by(
        lambda clock: [_describe(video, settings, clock)], video, settings.schema, settings.digest
    )


def _describe(
    video: Mapping[str, Any], settings: Settings, clock: rows.Stopwatch
) -> dict[str, Any]:
    """Probe, quality, features and the decoder used."""
    (sampled, stored), seen, of_file = _read(video, settings, clock)
    with clock("quality"):
        looks = quality.measure(sampled.pixels, stored=stored.pixels)
    with clock("enhance"):
        frames, enhanced_share = _enhanced(sampled.pixels, settings.enhance)
    with clock("describe"):
        vectors = features.describe({"frames": (frames,), **seen}, settings.families)
    return {**of_file, **looks, "enhanced_share": enhanced_share, **vectors}


def _read(
    video: Mapping[str, Any], settings: Settings, clock: rows.Stopwatch
) -> tuple[list[Frames], dict[LooksAt, Material], dict[str, Any]]:
    """Sampled and stored frames; bursts and sound, where families want them; the file's columns."""
    stretch, bursts = Stretch.of_row(video), _bursts(settings)
    with storage.opened(video["uri"], video["size_bytes"]) as source:
        with clock("decode"), Video(source, limits=settings.limits) as opened:
            draw = video["size_bytes"]
            plan = partial(_requests, settings=settings, stretch=stretch, draw=draw)
            read, decoder = decoders.read_planned(opened, source, plan, decoder=settings.decoder)
            probe, damage = opened.probe(), opened.damage
        heard = None
        if probe.has_sound and "sound" in _looks_at(settings):
            with clock("sound"):
                heard = read_sound(
                    source, begin_seconds=stretch.begin_seconds, end_seconds=stretch.end_seconds
                )
    seen: dict[LooksAt, Material] = {
        wanted: wanted.gather(found) for wanted, found in zip(bursts, read[2:], strict=True)
    }
    seen |= {} if heard is None else {"sound": (heard,)}
    return read[:2], seen, {**asdict(probe), **asdict(damage), "decoder": decoder}


def _looks_at(settings: Settings) -> list[LooksAt]:
    """The materials that the families look at, each once and in their order."""
    return list(dict.fromkeys(features.FAMILIES[name].looks_at for name in settings.families))


def _bursts(settings: Settings) -> list[Bursts]:
    return [wanted for wanted in _looks_at(settings) if isinstance(wanted, Bursts)]


def _requests(video: Video, settings: Settings, stretch: Stretch, draw: int) -> list[Request]:
    """Frames for the families and for quality, a few as stored for quality, then the bursts."""
    clock = Clock.of_video(video, stretch)
    sampled = _sampled(clock, settings, draw)
    frame_bytes = 3 * video.header.width_px * video.header.height_px
    most_stored = max(1, min(_MOST_STORED, _STORED_BYTES // frame_bytes))
    few = sampled[sampling.dense(num_frames=len(sampled), max_frames=most_stored)]
    return [
        Request(sampled, WIDTH_PX, HEIGHT_PX, "opencv_area"),
        Request(few, resize="as_stored"),
        *(bursts.request(clock) for bursts in _bursts(settings)),
    ]


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
