"""One labelled video in, its clips out: decoded once, trained on for many epochs. No Ray here."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError, unknown_name
from vidray.tables import digests, rows, schema, versions
from vidray.video import decoders, resizing
from vidray.video.choice import FrameChoice
from vidray.video.clock import WHOLE, Clock, Stretch
from vidray.video.decode import (
    Frames,
    IndexContradictedError,
    Limits,
    Request,
    Video,
)
from vidray.video.decoders import Decoder
from vidray.video.demux import Source
from vidray.video.resizing import RESIZERS, Resizer
from vidray.video.steady_opencv import steady_opencv

Fit = Literal["squash", "crop", "resize_crop"]
Unlabelled = Literal["skip", "keep"]

# Raised whenever the same file and settings give other pixels than before.
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """All settings that decide the pixels of a clip."""

    TARGET: ClassVar[str] = "vidray.video.clips:cut_videos"

    frames_per_clip: int = 16
    """Frames per clip; a shorter video repeats some of its frames."""
    size_px: int = 112
    """Width and height of a clip; some more than the model takes leaves room for random crops."""
    clips_per_video: int = 1
    """Clips per video, one from each of as many equal stretches of its time."""
    clip_seconds: float | None = None
    """Length of a clip, from the middle of its stretch; the whole stretch if not given."""
    fit: Fit = "squash"
    """How a frame becomes a square: squash changes its shape, crop keeps its middle.
    resize_crop resizes it to --resize-px and keeps the middle square of --size-px."""
    resize_px: tuple[int, ...] = ()
    """Shorter side that --fit resize_crop resizes a frame to, or its height and width."""
    resizer: Resizer = "swscale"
    """Library by whose rule --fit resize_crop resizes, to give a network the pixels it was trained
    on."""
    decoder: Decoder = "pyav"
    """Decoder; PyAV reads wherever the chosen one is not known to be exact. The row names the one
    used."""
    unlabelled: Unlabelled = "skip"
    """Videos without a label: skip them, or keep their clips for pre-training and distillation."""
    choice: FrameChoice = dataclasses.field(default_factory=FrameChoice)
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, most in (("frames_per_clip", 4096), ("size_px", 4096), ("clips_per_video", 4096)):
            if not 1 <= getattr(self, name) <= most:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 1 to {most}")
        if self.clip_seconds is not None and self.clip_seconds <= 0:
            raise UserError(f"clip_seconds is {self.clip_seconds}: it must be above 0")
        self._check_resizing()
        decoders.check_decoder(self.decoder)

    def _check_resizing(self) -> None:
        if self.fit != "resize_crop":
            if self.resize_px or self.resizer != "swscale":
                raise UserError(
                    "--resize-px and --resizer have no effect without --fit resize_crop"
                )
            return
        shown = " ".join(map(str, self.resize_px)) or "not given"
        if len(self.resize_px) not in (1, 2):
            raise UserError(
                f"resize_px is {shown}: --fit resize_crop takes the shorter side, or height and "
                "width"
            )
        if not self.size_px <= min(self.resize_px) <= max(self.resize_px) <= 4096:
            rule = f"from size_px, which is {self.size_px}, to 4096"
            raise UserError(f"resize_px is {shown}: it must be {rule}")
        if self.resizer not in RESIZERS:
            raise unknown_name("resizer", self.resizer, RESIZERS)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClipSettings:
        """The settings from the JSON of ``dataclasses.asdict``."""
        given = {**values, "limits": Limits(**values["limits"])}
        if "resize_px" in given:
            given["resize_px"] = tuple(given["resize_px"])
        return cls(choice=FrameChoice.taken_from(given), **given)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when the pixels of a clip may."""
        values = self.choice.without_default(dataclasses.asdict(self))
        if self.fit != "resize_crop":  # As before frames could be resized and cropped.
            del values["resize_px"], values["resizer"]
        if self.unlabelled == "skip":  # As before they could be kept.
            del values["unlabelled"]
        return digests.of([_VERSION, values])

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that decide the pixels of a clip."""
        own = versions.chosen(decoder=self.decoder, resizer=self.resizer)
        return (*versions.DECODING, *own)

    @property
    def schema(self) -> pa.Schema:
        """The schema of CLIPS with pixels, as they cross from process to process."""
        return schema.clips_schema((self.frames_per_clip, self.size_px, self.size_px, 3))


def cut_videos(config: Mapping[str, Any]) -> Any:
    """The work of a sandbox: ``ClipSettings`` as JSON -> (VIDEOS row -> CLIPS batch)."""
    steady_opencv()
    settings = ClipSettings.from_json(config)
    return lambda video: cut_video(video, settings)


def cut_video(video: Mapping[str, Any], settings: ClipSettings) -> pa.RecordBatch:
    """The CLIPS rows of one VIDEOS row, one a clip; one row with the reason if there are none.

    A video without a label is ``skipped`` unless ``unlabelled`` keeps it: no class can be learnt
    from it.
    """

    def work(clock: rows.Stopwatch) -> list[rows.Values]:
        if video.get("label") is None and settings.unlabelled == "skip":
            return [{"status": "skipped", "error_message": "it has no label to learn"}]
        with clock("decode"):
            return _cut(video, settings)

    return rows.made_by(work, video, settings.schema, settings.digest)


def _cut(video: Mapping[str, Any], settings: ClipSettings) -> list[rows.Values]:
    with (
        storage.opened(video["uri"], video["size_bytes"]) as source,
        Video(source, limits=settings.limits) as opened,
    ):
        clips, spans, decoder = read_clips(
            opened, source, settings, stretch=Stretch.of_row(video), draw=video["size_bytes"]
        )
        damage = dataclasses.asdict(opened.damage)
    return [
        {
            "clip_index": number,
            "begin_seconds": begin,
            "end_seconds": end,
            **damage,
            "pixels": np.ascontiguousarray(clip).tobytes(),
            "decoder": decoder,
        }
        for number, (clip, (begin, end)) in enumerate(zip(clips, spans.tolist(), strict=True))
    ]


def read_clips(
    video: Video,
    source: Source,
    settings: ClipSettings,
    *,
    stretch: Stretch = WHOLE,
    crops: int = 1,
    draw: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], str]:
    """A video's clips ``uint8 (crops * clips_per_video, T, H, W, 3)``, begin and end of each in
    seconds ``float64 (clips_per_video, 2)``, and the decoder that read them.

    Args:
        stretch: the part of the video that is looked at.
        crops: squares taken of each frame, see ``squares``; those of the first crop come first.
        draw: what random frames are drawn by: the file's size, the same wherever it lies.

    Raises:
        VideoError: as ``Video.read``, or the stretch holds no frame.
    """
    plan = partial(_requests, settings=settings, stretch=stretch, crops=crops, draw=draw)
    (frames,), decoder = decoders.read_planned(video, source, plan, decoder=settings.decoder)
    clips = clips_of(frames, settings, crops=crops)
    clock = Clock.of_video(video, stretch)
    spans = _spans(clock, settings, draw)
    return clips, clock.seconds(spans), decoder


def clips_of(frames: Frames, settings: ClipSettings, *, crops: int = 1) -> NDArray[np.uint8]:
    """The clips of the frames that ``request`` asked for, as ``read_clips`` gives them."""
    pixels = squares(frames.pixels, settings, crops)  # (crops, clips * T, H, W, 3)
    return pixels.reshape(-1, settings.frames_per_clip, *pixels.shape[2:])


def _spans(clock: Clock, settings: ClipSettings, draw: int) -> NDArray[np.int64]:
    """The span of each clip; for spread or single frames, all that they were taken from."""
    if settings.choice.sampling in (None, "uniform", "random"):
        return clip_spans(clock.num_ticks, clock.ticks_per_second, settings)
    ticks = clip_frames(clock.num_ticks, clock.ticks_per_second, settings, draw=draw)
    return np.stack([ticks.min(axis=1), ticks.max(axis=1) + 1], axis=1)


def stream_clips(
    video: Video, chosen: Sequence[NDArray[np.int64]], settings: ClipSettings, *, crops: int = 1
) -> Iterator[NDArray[np.uint8]]:
    """Yield clips of these frames, ``uint8 (crops, T, H, W, 3)`` each, of a video of any length.

    No more frames are held than lie between the first and the last one of a clip.

    Args:
        chosen: the frames of each clip; no clip begins or ends before the one before it.

    Raises:
        IndexContradictedError: see ``Video.stream``.
    """
    everything = np.concatenate(chosen)
    stream = video.stream(_request(video, everything, settings, crops))
    held: dict[int, NDArray[np.uint8]] = {}
    at = -1
    for frames in chosen:
        while at < frames.max():
            at, pixels = next(stream, (-1, None))
            if pixels is None:
                raise IndexContradictedError  # It ended before the last frame that was counted.
            held[at] = pixels
        held = {k: pixels for k, pixels in held.items() if k >= frames.min()}
        yield squares(np.stack([held[k] for k in frames.tolist()]), settings, crops)


def _requests(
    video: Video, settings: ClipSettings, stretch: Stretch, crops: int, draw: int
) -> list[Request]:
    return [request(video, Clock.of_video(video, stretch), settings, crops=crops, draw=draw)]


def request(
    video: Video, clock: Clock, settings: ClipSettings, *, crops: int = 1, draw: int = 0
) -> Request:
    """The frames of a video's clips as a request to the decoder; ``clips_of`` cuts them.

    Args:
        clock: of the stretch that is looked at.
        crops, draw: as of ``read_clips``.
    """
    ticks = clip_frames(clock.num_ticks, clock.ticks_per_second, settings, draw=draw)
    return _request(video, clock.frames(ticks).reshape(-1), settings, crops)


def _request(
    video: Video, frames: NDArray[np.int64], settings: ClipSettings, crops: int
) -> Request:
    size = _size_px(video, settings)
    if settings.fit != "resize_crop":
        return Request(frames, *size)
    # Of a very wide frame, no more than is wanted is held.
    middle_px = settings.size_px if crops == 1 else None
    return Request(frames, *size, resize=settings.resizer, middle_px=middle_px)


def clip_frames(
    num_frames: int, frames_per_second: float, settings: ClipSettings, *, draw: int = 0
) -> NDArray[np.int64]:
    """The frames of each clip, or ticks: ``int64 (clips_per_video, frames_per_clip)``."""
    spans = clip_spans(num_frames, frames_per_second, settings).tolist()
    return np.stack(
        [
            first
            + settings.choice.of_clip(
                num_ticks=end - first,
                ticks_per_second=frames_per_second,
                count=settings.frames_per_clip,
                draw=draw + number,
            )
            for number, (first, end) in enumerate(spans)
        ]
    )


def clip_spans(
    num_frames: int, frames_per_second: float, settings: ClipSettings
) -> NDArray[np.int64]:
    """The first frame of each clip, and the one after its last: ``int64 (clips_per_video, 2)``."""
    clips = settings.clips_per_video
    bounds = np.arange(clips + 1, dtype=np.int64) * num_frames // clips
    spans = []
    for start, end in itertools.pairwise(bounds.tolist()):
        begin = min(start, num_frames - 1)
        span = stretch = max(1, end - begin)
        if settings.clip_seconds is not None:
            span = min(stretch, max(1, round(settings.clip_seconds * frames_per_second)))
        first = begin + (stretch - span) // 2
        spans.append((first, first + span))
    return np.array(spans)


def _size_px(video: Video, settings: ClipSettings) -> tuple[int, int]:
    """Width and height that a frame is scaled to: the clip's square, for a crop one that covers it.

    Raises:
        VideoError: a frame so long would have more pixels than a frame may have.
    """
    if settings.fit == "squash":
        return settings.size_px, settings.size_px
    probe = video.probe()
    width, height = probe.display_width_px, probe.display_height_px
    if settings.fit == "crop":
        scale = settings.size_px / min(width, height)
        size = round(width * scale), round(height * scale)
        return max(settings.size_px, size[0]), max(settings.size_px, size[1])
    high, wide = resizing.size_of(settings.resizer, settings.resize_px, height=height, width=width)
    if high * wide > video.limits.max_pixels:
        raise video.limits.over("max_pixels", f"{width}x{height}, and {wide}x{high} resized")
    return wide, high


def squares(pixels: NDArray[np.uint8], settings: ClipSettings, crops: int) -> NDArray[np.uint8]:
    """Squares of each frame: the middle one, or ``crops`` spread evenly from edge to edge.

    Args:
        pixels: ``uint8 (T, H, W, 3)``, H and W not below the settings' ``size_px``.

    Returns:
        ``uint8 (crops, T, size_px, size_px, 3)``, from the top left to the bottom right.
    """
    shares = [0.5] if crops == 1 else np.linspace(0, 1, crops).tolist()
    size_px, (height, width) = settings.size_px, pixels.shape[1:3]
    corners = [
        tuple(_offset(side - size_px, share, settings.resizer) for side in (height, width))
        for share in shares
    ]
    cut = [pixels[:, top : top + size_px, left : left + size_px] for top, left in corners]
    return cut[0][None] if crops == 1 else np.stack(cut)


def _offset(rest: int, share: float, resizer: Resizer) -> int:
    """Pixels before a square that leaves ``rest`` pixels beside it, this share of them before."""
    return resizing.middle_offset(resizer, rest) if share == 0.5 else int(rest * share)
