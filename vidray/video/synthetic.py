"""Make a folder of small labelled clips, for the demo: ``python -m vidray.video.synthetic FOLDER``.

The classes differ in motion only. Clip g03 of every class shows the same background, the same two
discs, as many frames and the same noise level; where the discs begin is drawn anew for each clip,
over a picture that wraps round at its edges. So one frame, or the length, codec and container of
the file, says nothing about the class: what a model learns here, it learned from motion.

Two files on purpose hold no video, because folders of videos do: one broken, one with sound only.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidray.errors import UserError

WIDTH_PX, HEIGHT_PX = 320, 240
FRAMES_PER_SECOND = 25
MIN_FRAMES, MAX_FRAMES = 50, 100  # two to four seconds
NOISE_LEVELS = 3.0  # standard deviation of the camera's noise, of 255
AUDIO_RATE = 16_000

# What one clip does: seconds float (T,) and a generator -> float (T, 4), for each frame the discs'
# way in x and y (px), their turn (degrees) and the brightness of the picture.
Motion = Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Format:
    """One way to store a clip."""

    suffix: str
    codec: str
    options: dict[str, str]
    codec_tag: str = ""
    pix_fmt: str = "yuv420p"
    audio_codec: str = ""


# x264's macroblock tree reads memory it never wrote: 15 different files from 20 equal calls, one
# file from 20 without it.
_X264 = {"preset": "veryfast", "crf": "20", "mbtree": "0"}
FORMATS = (
    Format(".mp4", "libx264", {**_X264, "g": "25"}),
    Format(".avi", "mpeg4", {"qmin": "3", "qmax": "5", "g": "25", "bf": "2"}, codec_tag="XVID"),
    Format(".webm", "libvpx-vp9", {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
    Format(".mkv", "libx264", _X264, audio_codec="aac"),
    Format(".ts", "mpeg2video", {"qmin": "3", "qmax": "5", "g": "15", "bf": "2"}),
    Format(".mov", "mjpeg", {"qmin": "3", "qmax": "5"}, pix_fmt="yuvj420p"),
)


@dataclass(frozen=True)
class Scene:
    """The look that clips of one number share, in every class.

    background: float32 (H, W, 3), levels 0 to 255. discs: for each, its levels multiplied by its
    cover, and its cover (0 to 1), both float32 (D, D, 3): three equal channels of cover blend four
    times faster than one that numpy must broadcast.
    """

    background: NDArray[np.float32]
    discs: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    num_frames: int


def make_clips(folder: str | Path, *, clips_per_class: int = 6, seed: int = 0) -> None:
    """Write ``clips_per_class`` clips of each class in ``MOTIONS``, and two files without video.

    Files are named as UCF-101's, ``CLASS/v_CLASS_g01_c01.SUFFIX``, where g is the scene: clips of
    one scene are one recording group. The same seed writes the same bytes. 26 files take five to
    ten seconds on one core.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        clips_per_class: 1 or more.
        seed: 0 or more.

    Raises:
        UserError: a number is below its least value, or ``folder`` is a file.
    """
    folder = Path(folder)
    if clips_per_class < 1 or seed < 0:
        raise UserError(
            f"clips_per_class={clips_per_class}, seed={seed}: at least 1 clip and seed 0 or more"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder to write the clips into")
    for scene_index in range(clips_per_class):
        scene = _make_scene(np.random.default_rng([seed, scene_index]))
        for class_index, class_name in enumerate(MOTIONS):
            # A Latin square: each class meets each format equally often, and so does each scene.
            storage = FORMATS[(scene_index + class_index) % len(FORMATS)]
            name = f"v_{class_name}_g{scene_index + 1:02d}_c01{storage.suffix}"
            path = folder / class_name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, scene_index, class_index])
            _write_clip(path, scene, MOTIONS[class_name], storage, rng)
    _write_files_without_video(folder)


def make_single_clips(folder: str | Path, *, scenes: int, seed: int = 0) -> None:
    """Write one clip of each scene, of the classes in turn: no two are of one recording.

    Args:
        folder: made where it is missing; a file that is there is left as it is.
        scenes: how many.
        seed: 0 or more; another one gives other scenes.
    """
    names = list(MOTIONS)
    for number in range(scenes):
        name, storage = names[number % len(names)], FORMATS[number // len(names) % len(FORMATS)]
        path = Path(folder) / name / f"v_{name}_g{number + 1:04d}_c01{storage.suffix}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, number])
            draft = path.with_stem(f".{path.stem}")
            _write_clip(draft, _make_scene(rng), MOTIONS[name], storage, rng)
            draft.rename(path)


def drifting_clips(
    degrees: Sequence[float], *, clips_each: int, frames: int, size_px: int, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Clips that differ in the direction in which two discs drift: a class for each direction.

    Clip k of every class shows the scene of number k; 16 frames are a second. Not files: pixels, as
    ``ClipSettings`` of ``size_px`` stores them.

    Args:
        degrees: directions, clockwise from the right.
        clips_each: clips of each class.
        frames: T.
        size_px: H and W.
        seed: 0 or more.

    Returns:
        ``uint8 (N, T, H, W, 3)``, scene by scene, and classes ``int64 (N,)``.
    """
    clips, labels = [], []
    for scene_index in range(clips_each):
        scene = _make_scene(np.random.default_rng([seed, scene_index]))
        for label, angle in enumerate(np.deg2rad(degrees)):
            rng = np.random.default_rng([seed, scene_index, label])
            way_px = rng.uniform(80, 140) * np.arange(frames)[:, None] / 16
            poses = _poses(rng, way_px=way_px * np.array([np.cos(angle), np.sin(angle)]))
            drawn = _render(scene, poses, rng)
            side = (size_px, size_px)
            clips.append([cv2.resize(one, side, interpolation=cv2.INTER_AREA) for one in drawn])
            labels.append(label)
    return np.array(clips, np.uint8), np.array(labels, np.int64)


def moving_clips(
    *, clips_each: int, frames: int, size_px: int, frames_per_second: float, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Clips of the classes in ``MOTIONS``, each of a scene of its own: pixels, not files.

    Args:
        clips_each: clips of each class.
        frames: T.
        size_px: H and W.
        frames_per_second: of these frames.
        seed: 0 or more.

    Returns:
        ``uint8 (N, T, H, W, 3)``, as ``ClipSettings`` of ``size_px`` stores them, and classes
        ``int64 (N,)``, numbers in ``MOTIONS``.
    """
    clips, labels = [], np.arange(clips_each * len(MOTIONS)) % len(MOTIONS)
    motions = list(MOTIONS.values())
    for index, label in enumerate(labels.tolist()):
        rng = np.random.default_rng([seed, index])
        scene = _make_scene(rng)
        poses = motions[label](np.arange(frames) / frames_per_second, rng)
        side = (size_px, size_px)
        drawn = _render(scene, poses, rng)
        clips.append([cv2.resize(one, side, interpolation=cv2.INTER_AREA) for one in drawn])
    return np.array(clips, np.uint8), labels.astype(np.int64)


def _bounce(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A path to and fro about one place: 25 to 35 px each way, about once a second."""
    swing = rng.uniform(25, 35) * np.sin(2 * np.pi * rng.uniform(0.8, 1.2) * seconds)
    return _poses(rng, way_px=swing[:, None] * _direction(rng))


def _drift(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Straight on, at 80 to 140 px a second."""
    return _poses(rng, way_px=rng.uniform(80, 140) * seconds[:, None] * _direction(rng))


def _spin(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation about its own middle, at 120 to 200 degrees a second, either way."""
    turn_degrees = rng.choice([-1.0, 1.0]) * rng.uniform(120, 200) * seconds
    return _poses(rng, way_px=np.zeros((len(seconds), 2)), turn_degrees=turn_degrees)


def _flicker(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Nothing moves; each frame's brightness is drawn anew."""
    brightness = rng.uniform(*BRIGHTNESS, size=len(seconds))
    return _poses(rng, way_px=np.zeros((len(seconds), 2)), brightness=brightness)


MOTIONS: dict[str, Motion] = {
    "bounce": _bounce,
    "drift": _drift,
    "flicker": _flicker,
    "spin": _spin,
}
# One draw for a whole clip, one for each frame where it flickers: single frames look the same.
BRIGHTNESS = (0.85, 1.15)


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _poses(
    rng: np.random.Generator,
    *,
    way_px: NDArray[np.float64],
    turn_degrees: NDArray[np.float64] | None = None,
    brightness: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    still = np.ones(len(way_px))
    turn = np.zeros(len(way_px)) if turn_degrees is None else turn_degrees
    gain = rng.uniform(*BRIGHTNESS) * still if brightness is None else brightness
    return np.column_stack([way_px, turn, gain])  # (T, 4)


def _make_scene(rng: np.random.Generator) -> Scene:
    discs = []
    for _ in range(2):
        diameter_px = 2 * int(rng.integers(45, 61))
        axis = np.arange(diameter_px) - (diameter_px - 1) / 2
        distance_px = np.hypot(axis[:, None], axis[None, :])
        cover = np.clip(diameter_px / 2 - 2 - distance_px, 0, 1).astype(np.float32)
        covers = np.repeat(cover[..., None], 3, axis=2)
        # One half light and one dark: small pictures show how it moves and turns, too.
        halves = np.where(axis < 0, 72, -72).astype(np.float32)[:, None, None]
        texture = _texture(rng, (diameter_px, diameter_px), grain_px=4)
        discs.append(((texture + halves) * covers, covers))
    background = _texture(rng, (HEIGHT_PX, WIDTH_PX), grain_px=10)
    return Scene(background, tuple(discs), int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1)))


def _texture(
    rng: np.random.Generator, shape: tuple[int, int], *, grain_px: int
) -> NDArray[np.float32]:
    """Coloured blobs about ``grain_px`` wide: float32 (H, W, 3), mean 128, deviation 20."""
    noise = rng.standard_normal((*shape, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), grain_px)
    blobs = (blobs - blobs.mean(axis=(0, 1))) / blobs.std(axis=(0, 1))
    levels: NDArray[np.float32] = np.clip(128 + 20 * blobs, 0, 255).astype(np.float32)
    return levels


def _render(
    scene: Scene, poses: NDArray[np.float64], rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """The frames of one clip: T times uint8 (H, W, 3), RGB."""
    begins = rng.uniform(0, [WIDTH_PX, HEIGHT_PX, 360], size=(len(scene.discs), 3))
    noise = (NOISE_LEVELS * rng.standard_normal((HEIGHT_PX, WIDTH_PX, 3))).astype(np.float32)
    frames = []
    for way_x_px, way_y_px, turn_degrees, gain in poses:
        picture = scene.background.copy()
        for disc, (x_px, y_px, angle_degrees) in zip(scene.discs, begins, strict=True):
            _place(picture, disc, x_px + way_x_px, y_px + way_y_px, angle_degrees + turn_degrees)
        # The one field of noise, shifted at random, is as good as a new one and ten times cheaper.
        shift = tuple(rng.integers(0, [HEIGHT_PX, WIDTH_PX]).tolist())
        picture = picture * np.float32(gain) + np.roll(noise, shift, axis=(0, 1))
        frames.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return frames


def _place(
    picture: NDArray[np.float32],
    disc: tuple[NDArray[np.float32], NDArray[np.float32]],
    x_px: float,
    y_px: float,
    angle_degrees: float,
) -> None:
    """Lay the disc, turned, on the picture, its corner at (x, y); past an edge it goes round."""
    diameter_px = disc[0].shape[0]
    left_px, top_px = int(np.floor(x_px)), int(np.floor(y_px))
    middle = (diameter_px - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle_degrees, 1.0)
    matrix[0, 2] += x_px - left_px  # the fraction of a pixel; the whole ones are where it is laid
    matrix[1, 2] += y_px - top_px
    side_px = diameter_px + 1
    levels, covers = (cv2.warpAffine(layer, matrix, (side_px, side_px)) for layer in disc)
    for rows, layer_rows in _around(top_px, side_px, HEIGHT_PX):
        for columns, layer_columns in _around(left_px, side_px, WIDTH_PX):
            picture[rows, columns] *= 1 - covers[layer_rows, layer_columns]
            picture[rows, columns] += levels[layer_rows, layer_columns]


def _around(begin: int, length: int, size: int) -> list[tuple[slice, slice]]:
    """Slices where ``length`` pixels from ``begin`` lie on a circle of ``size``: (there, here).

    One pair of slices, or two where the pixels pass the end.
    """
    begin %= size
    inside = min(length, size - begin)
    pairs = [(slice(begin, begin + inside), slice(0, inside))]
    if inside < length:
        pairs.append((slice(0, length - inside), slice(inside, length)))
    return pairs


def _write_clip(
    path: Path, scene: Scene, motion: Motion, storage: Format, rng: np.random.Generator
) -> None:
    poses = motion(np.arange(scene.num_frames) / FRAMES_PER_SECOND, rng)
    with _create(path) as container:
        stream = container.add_stream(
            storage.codec, rate=FRAMES_PER_SECOND, options=storage.options
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, storage.pix_fmt
        stream.thread_count = 1  # more threads may write other bytes
        if storage.codec_tag:
            stream.codec_context.codec_tag = storage.codec_tag
        tone = _add_sound(container, storage.audio_codec) if storage.audio_codec else None
        for index, pixels in enumerate(_render(scene, poses, rng)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone:
            _write_tone(container, tone, scene.num_frames / FRAMES_PER_SECOND)


def _write_files_without_video(folder: Path) -> None:
    """A clip that broke off before its index was written, and a sound track in an mp4."""
    whole = (folder / "bounce" / "v_bounce_g01_c01.mp4").read_bytes()
    (folder / "bounce" / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    with _create(folder / "spin" / "sound_only.mp4") as container:
        _write_tone(container, _add_sound(container, "aac"), 2.0)


def _create(path: Path) -> OutputContainer:
    # bitexact: no random identifiers and no library versions in the file.
    return av.open(str(path), "w", container_options={"fflags": "+bitexact"})


def _add_sound(container: OutputContainer, codec: str) -> AudioStream:
    stream = container.add_stream(codec, rate=AUDIO_RATE, layout="mono")
    assert isinstance(stream, AudioStream)
    return stream


def _write_tone(container: OutputContainer, stream: AudioStream, duration_seconds: float) -> None:
    """A quiet 440 Hz tone, the same in every class."""
    times = np.arange(round(duration_seconds * AUDIO_RATE)) / AUDIO_RATE
    tone = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)  # (samples,)
    frame = av.AudioFrame.from_ndarray(tone[None, :], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, 0, Fraction(1, AUDIO_RATE)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def main() -> None:
    """``python -m vidray.video.synthetic FOLDER [--clips-per-class N] [--seed N]``."""
    import tyro

    def synthetic(
        folder: tyro.conf.Positional[Path], *, clips_per_class: int = 6, seed: int = 0
    ) -> None:
        try:
            make_clips(folder, clips_per_class=clips_per_class, seed=seed)
        except UserError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        print(f"{len(found)} files in {len(MOTIONS)} classes ({', '.join(MOTIONS)}) in {folder}")

    tyro.cli(synthetic, description=__doc__)


if __name__ == "__main__":
    main()
