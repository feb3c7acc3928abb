"""One video in, one FEATURES row out: sample, decode, look, enhance, describe. No Ray here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import features, storage
from vidray.errors import UserError
from vidray.features import flow, sound
from vidray.tables import digests, rows, schema
from vidray.video import decoders, quality, sampling
from vidray.video.clock import Clock, Stretch
from vidray.video.decode import (
    Frames,
    Limits,
    Request,
    Video,
)
from vidray.video.decoders import Decoder
from vidray.video.enhance import enhance
from vidray.video.opencv import steady_opencv

Enhance = Literal["off", "auto", "always"]

# features.md: every sampled frame is looked at in this size.
_WIDTH_PX, _HEIGHT_PX = 320, 240
# Frames looked at in the size they were coded in: as many as fit here, four at the most.
_STORED_BYTES, _MOST_STORED = 64 << 20, 4
# Raised whenever the same file and settings give other numbers than before.
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the numbers of a row."""

    TARGET: ClassVar[str] = "vidray.features.extraction:describe_videos"

    families: tuple[str, ...] = features.PRESETS["default"]
    """Feature families, such as color and flow; those of --preset if none is named."""
    enhance: Enhance = "off"
    """Denoise and sharpen sampled frames: never, where quality calls for it, always."""
    decoder: Decoder = "pyav"
    """Decoder; where the chosen one is not known to be exact, PyAV reads and the row says so."""
    max_sampled_frames: int = 300
    """Frames looked at per video, one a second; a longer video is sampled more sparsely."""
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
        """The settings that ``dataclasses.asdict`` was taken of."""
        limits = Limits(**values["limits"])
        return cls(**{**values, "families": tuple(values["families"]), "limits": limits})

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when the numbers of a row may."""
        return digests.of([_VERSION, dataclasses.asdict(self)])

    @property
    def schema(self) -> pa.Schema:
        """FEATURES with these families."""
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
    heard, stretch = None, Stretch.of_row(video)
    with storage.opened(video["uri"], video["size_bytes"]) as source:
        with clock("decode"), Video(source, limits=settings.limits) as opened:
            read, decoder = decoders.read_planned(
                opened,
                source,
                partial(_requests, settings=settings, stretch=stretch),
                decoder=settings.decoder,
            )
            sampled, stored = read[:2]  # And bursts, where a family wants them.
            probe = opened.probe()
            damage = opened.damage
        if probe.has_sound and _looks_at("sound", settings):
            with clock("sound"):
                heard = sound.read_sound(
                    source,
                    begin_seconds=stretch.begin_seconds,
                    end_seconds=stretch.end_seconds,
                )
    with clock("quality"):
        looks = quality.measure(sampled.pixels, stored=stored.pixels)
    with clock("enhance"):
        frames, enhanced_share = _enhanced(sampled.pixels, settings.enhance)
    with clock("describe"):
        vectors = features.describe(
            frames=frames, sound=heard, families=settings.families, **_burst_material(read[2:])
        )
    return {
        **dataclasses.asdict(probe),
        **dataclasses.asdict(damage),
        **looks,
        "enhanced_share": enhanced_share,
        **vectors,
        "decoder": decoder,
    }


def _looks_at(material: str, settings: Settings) -> bool:
    return any(features.FAMILIES[family].looks_at == material for family in settings.families)


def _burst_material(read: Sequence[Frames]) -> dict[str, Any]:
    """Bursts as ``features.describe`` takes them: ``uint8 (M, L, H, W, 3)``, times ``(M, L)``."""
    if not read:
        return {}
    (bursts,) = read
    shape = (-1, flow.FRAMES_PER_BURST, flow.HEIGHT_PX, flow.WIDTH_PX, 3)
    pts_seconds = bursts.pts_seconds.reshape(shape[:2])
    return {"bursts": bursts.pixels.reshape(shape), "burst_pts_seconds": pts_seconds}


def _requests(video: Video, settings: Settings, stretch: Stretch) -> list[Request]:
    clock = Clock.of_video(video, stretch)
    every_second = frames_a_second_apart(clock, most=settings.max_sampled_frames)
    frame_bytes = 3 * video.width_px * video.height_px
    most_stored = max(1, min(_MOST_STORED, _STORED_BYTES // frame_bytes))
    few = every_second[sampling.dense(num_frames=len(every_second), max_frames=most_stored)]
    requests = [
        Request(every_second, _WIDTH_PX, _HEIGHT_PX, "opencv_area"),
        Request(few, resize="as_stored"),
    ]
    if _looks_at("bursts", settings):
        bursts = burst_frames(clock).reshape(-1)
        requests.append(Request(bursts, flow.WIDTH_PX, flow.HEIGHT_PX))
    return requests


def frames_a_second_apart(clock: Clock, *, most: int) -> sampling.Indices:
    """One frame a second, ``int64 (T,)`` with T from 1 to ``most``, strictly increasing.

    At a constant rate the notebooks' frames, whose stride of whole frames is not quite a second at
    29.97: their numbers are defined by it. At a variable rate the frame on the screen at each
    second, once where it stays for several.
    """
    ticks = sampling.every_second(
        num_frames=clock.num_ticks, frames_per_second=clock.ticks_per_second
    )
    if len(ticks) > most:
        ticks = ticks[sampling.uniform(num_frames=len(ticks), count=most)]
    return np.unique(clock.frames(ticks))


def burst_frames(clock: Clock) -> sampling.Indices:
    """Bursts for ``flow``, ``int64 (M, L)``: adjacent frames around moments of equal distance."""
    moments = sampling.uniform(num_frames=clock.num_ticks, count=flow.BURSTS)
    return clock.first_frame + sampling.bursts_around(
        num_frames=clock.num_frames,
        middles=clock.frames(moments) - clock.first_frame,
        frames_per_burst=flow.FRAMES_PER_BURST,
    )


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
