"""Write videos whose frame k shows the number k, and read them back one frame at a time.

A frame is a 3 x 4 grid of blocks, light for 1 and dark for 0: twelve bits, so numbers up to 4095.
The blocks are a sixth of the frame or larger and the two tones are 180 grey levels apart, which
every lossy codec here survives at 65 x 33 pixels. Both tones are reddish, so swapped red and blue
channels show.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

ROWS, COLUMNS = 3, 4
BITS = ROWS * COLUMNS
LIGHT = (255, 225, 190)  # luma 229
DARK = (80, 30, 15)  # luma 43
DEFAULT_FRAMES = 60
AUDIO_RATE = 16_000
# SVT-AV1 prints its banner on stderr unless told, before it is first used, to print errors only.
os.environ.setdefault("SVT_LOG", "1")


def draw_number(number: int, *, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """The frame that shows ``number``: uint8 (H, W, 3), RGB."""
    if not 0 <= number < 2**BITS:
        raise ValueError(f"number {number} does not fit in {BITS} bits; use 0 to {2**BITS - 1}")
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)]).reshape(ROWS, COLUMNS)
    rows = np.arange(height_px) * ROWS // height_px  # (H,)
    columns = np.arange(width_px) * COLUMNS // width_px  # (W,)
    tones = np.array([DARK, LIGHT], dtype=np.uint8)
    rgb: NDArray[np.uint8] = tones[bits[rows[:, None], columns[None, :]]]  # (H, W, 3)
    return rgb


def read_number(rgb: NDArray[np.uint8]) -> int:
    """The number a decoded frame shows, from the middle half of each block; at any size.

    Raises:
        ValueError: a block is neither light nor dark, so the frame is a blend or is damaged.
    """
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # (H, W)
    height_px, width_px = luma.shape
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        top, left = (row + 0.25) * height_px / ROWS, (column + 0.25) * width_px / COLUMNS
        bottom, right = top + height_px / ROWS / 2, left + width_px / COLUMNS / 2
        block = luma[round(top) : max(round(bottom), round(top) + 1)]
        level = float(block[:, round(left) : max(round(right), round(left) + 1)].mean())
        if 110 < level < 162:
            raise ValueError(f"block {bit} has luma {level:.0f}, neither light nor dark")
        number |= int(level >= 136) << bit
    return number


def read_numbers(pixels: NDArray[np.uint8]) -> list[int]:
    """The numbers of a clip, uint8 (T, H, W, 3)."""
    return [read_number(rgb) for rgb in pixels]


def sequential_frames(
    path: str | Path, *, skip_errors: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The oracle: every frame PyAV decodes from start to end, with no seek and no sampling.

    Rotation is metadata and is not applied. With ``skip_errors``, packets the decoder refuses are
    passed over, as FFmpeg's command line does.

    Returns:
        rgb frames uint8 (T, H, W, 3), and their pts in seconds float64 (T,), NaN where missing.
    """
    frames: list[NDArray[np.uint8]] = []
    pts_seconds: list[float] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                if not skip_errors:
                    raise
                continue
            for frame in decoded:
                frames.append(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False))
                pts_seconds.append(float("nan") if frame.time is None else frame.time)
    return np.stack(frames), np.array(pts_seconds)


def moving_scene(num_frames: int) -> list[NDArray[np.uint8]]:
    """A textured ground that drifts and turns, so that flow has something to see: (120, 160, 3)."""
    rng = np.random.default_rng(5)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (400, 400, 3)).astype(np.float32), (0, 0), 3)
    ground = np.clip((ground - ground.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    frames = []
    for k in range(num_frames):
        turn = cv2.getRotationMatrix2D((200, 200), 0.6 * k, 1.0 + 0.002 * k)
        turn[:, 2] += (-120 + 16.0 * np.sin(k / 6), -140 + 1.5 * k)
        moved = cv2.warpAffine(ground, turn, (160, 120), borderMode=cv2.BORDER_REFLECT)
        frames.append(moved.astype(np.uint8))
    return frames


def write_video(
    path: str | Path,
    *,
    num_frames: int = DEFAULT_FRAMES,
    codec: str = "libx264",
    width_px: int = 160,
    height_px: int = 120,
    fps: int | Fraction = 25,
    options: Mapping[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation_degrees: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    codec_tag: str | None = None,
    container_format: str | None = None,
    container_options: Mapping[str, str] | None = None,
    audio_codec: str | None = None,
    first_number: int = 0,
) -> Path:
    """Write a video whose frame k shows ``(first_number + k) % 4096``, by one encoder thread.

    Args:
        path: the file; its suffix chooses the container unless ``container_format`` does.
        num_frames: frames written; 0 leaves a container without a frame.
        options: encoder options, added to the codec's own (B-frames, short groups, high quality).
        pts: one strictly increasing time per frame, in ``time_base`` units, for a variable rate.
        time_base: 1 / fps unless given.
        rotation_degrees: display rotation written in the container, as phones do.
        audio_codec: also write a 440 Hz tone as long as the video.
    """
    path = Path(path)
    time_base = time_base or 1 / Fraction(fps)
    pts = range(num_frames) if pts is None else pts
    if len(pts) != num_frames:
        raise ValueError(f"{len(pts)} pts for {num_frames} frames; give one for each frame")
    with av.open(
        str(path), "w", format=container_format, container_options=dict(container_options or {})
    ) as container:
        stream = container.add_stream(
            codec, rate=fps, options={**ENCODER_OPTIONS.get(codec, {}), **(options or {})}
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        stream.thread_count = 1
        if sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if codec_tag:
            stream.codec_context.codec_tag = codec_tag
        if rotation_degrees:
            stream.set_display_rotation(rotation_degrees)
        write_tone = _add_tone(container, audio_codec) if audio_codec else None
        container.start_encoding()  # so that a file without a frame still gets its header
        for k in range(num_frames):
            number = (first_number + k) % 2**BITS
            rgb = draw_number(number, width_px=width_px, height_px=height_px)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = pts[k], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if write_tone:
            write_tone(float(num_frames / Fraction(fps)))
    return path


_ONE_PASS = {"g": "12", "bf": "2"}
# Short groups (12 frames) put several key frames, and B-frames, between any two places of a clip;
# the quality settings keep every block's tone within the reader's margin.
ENCODER_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {
        **_ONE_PASS,
        "preset": "veryfast",
        "crf": "12",
        "x264-params": "b-adapt=0:scenecut=0:mbtree=0",  # mbtree writes other bytes every time
    },
    "libx265": {
        **_ONE_PASS,
        "preset": "ultrafast",
        "x265-params": "crf=14:bframes=2:b-adapt=0:keyint=12:scenecut=0:log-level=none:pools=none",
    },
    "libvpx-vp9": {"g": "12", "crf": "15", "b": "0", "cpu-used": "8", "deadline": "realtime"},
    "libvpx": {"g": "12", "crf": "8", "b": "2M", "cpu-used": "8", "deadline": "realtime"},
    "libsvtav1": {"g": "12", "crf": "10", "preset": "10", "svtav1-params": "lp=1"},
    "mpeg4": {**_ONE_PASS, "qmin": "2", "qmax": "3"},
    "mpeg1video": {**_ONE_PASS, "qmin": "2", "qmax": "3"},
    "mpeg2video": {**_ONE_PASS, "qmin": "2", "qmax": "3"},
    **{name: {"g": "12", "qmin": "2", "qmax": "3"} for name in ("wmv2", "msmpeg4", "flv", "mjpeg")},
}


def _add_tone(container: OutputContainer, codec: str) -> Callable[[float], None]:
    """Add a mono 440 Hz track; the returned function writes that many seconds of it."""
    stream = container.add_stream(codec, rate=AUDIO_RATE, layout="mono")
    assert isinstance(stream, AudioStream)

    def write(duration_seconds: float) -> None:
        times = np.arange(round(duration_seconds * AUDIO_RATE)) / AUDIO_RATE
        tone = (0.5 * 32767 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
        for begin in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(
                tone[None, begin : begin + 1024], format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = AUDIO_RATE, begin
            frame.time_base = Fraction(1, AUDIO_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write


def write_audio(path: str | Path, *, duration_seconds: float = 2.0, codec: str = "aac") -> Path:
    """Write a file with a 440 Hz tone and no video stream."""
    with av.open(str(path), "w") as container:
        _add_tone(container, codec)(duration_seconds)
    return Path(path)


def truncate(path: Path, *, share: float) -> Path:
    """Keep the first ``share`` of the file's bytes, in place, as a copy that broke off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def uneven_pts(num_frames: int) -> list[int]:
    """Milliseconds that grow by 10 to 160, in an order without a short period; from 0."""
    steps = [10 + 30 * ((k * k) % 6) for k in range(max(num_frames - 1, 0))]
    return [0, *np.cumsum(steps, dtype=int).tolist()][:num_frames]


def packet_places(path: Path) -> list[tuple[int, int]]:
    """Place and size of each packet of the video, in the order of the file."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def write_concealed(path: Path) -> Path:
    """H.264 of which some slices of one group of ten pictures are garbage: the decoder conceals.

    Of a transport stream every 30th packet is lost.
    """
    write_video(
        path, num_frames=60, options={"x264-params": "keyint=10:bframes=2:scenecut=0:b-adapt=0"}
    )
    if path.suffix == ".ts":
        data = path.read_bytes()
        kept = [data[k : k + 188] for k in range(0, len(data), 188) if k // 188 % 30 != 29]
        path.write_bytes(b"".join(kept))
        return path
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for place, size in packet_places(path)[21:26]:
        for at in rng.integers(place + size // 3, place + size, 6):
            data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(data)
    return path


def count_corrupt(path: Path) -> tuple[int, int]:
    """(frames that a sequential decoder marks corrupt, all frames)."""
    marks = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for packet in container.demux(video=0):
            try:
                marks += [frame.is_corrupt for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    return sum(marks), len(marks)
