"""The demo's clips: labelled by their folders, told apart by motion and by nothing else."""

from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.videos import sequential_frames
from vidray.errors import UserError
from vidray.video import synthetic

CLASSES = ["bounce", "drift", "flicker", "spin"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.make_clips(folder, clips_per_class=6, seed=0)
    return folder


@pytest.fixture(scope="module")
def frames(clips: Path) -> dict[Path, NDArray[np.uint8]]:
    """Every frame of scenes 1 to 3, in each class."""
    paths = sorted(path for path in clips.glob("*/v_*") if path.stem.split("_")[2] <= "g03")
    return {path: sequential_frames(path)[0] for path in paths}


@pytest.mark.slow
def test_two_dozen_clips_in_class_folders(clips: Path) -> None:
    counts = Counter(path.parent.name for path in clips.glob("*/v_*"))
    assert counts == dict.fromkeys(CLASSES, 6)
    others = sorted(path.relative_to(clips).as_posix() for path in clips.glob("*/[!v]*"))
    assert others == ["bounce/broken.mp4", "spin/sound_only.mp4"]


def test_every_class_has_every_format(clips: Path) -> None:
    suffixes = {".mp4", ".avi", ".webm", ".mkv", ".ts", ".mov"}
    for name in CLASSES:
        assert {path.suffix for path in (clips / name).glob("v_*")} == suffixes
    codecs = set()
    for path in (clips / "drift").glob("v_*"):
        with av.open(str(path)) as container:
            codecs.add(container.streams.video[0].codec_context.name)
    assert codecs == {"h264", "mpeg4", "vp9", "mpeg2video", "mjpeg"}


@pytest.mark.slow
def test_clips_decode_whole_at_the_size_and_rate_promised(
    frames: dict[Path, NDArray[np.uint8]],
) -> None:
    assert len(frames) == 12
    for path, pixels in frames.items():
        assert pixels.shape[1:] == (240, 320, 3)
        assert 50 <= len(pixels) <= 100
        with av.open(str(path)) as container:
            times = np.array([frame.time for frame in container.decode(video=0)])
        np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-3)


def test_clips_of_a_scene_are_equally_long(frames: dict[Path, NDArray[np.uint8]]) -> None:
    for scene in ("g01", "g02", "g03"):
        lengths = {len(pixels) for path, pixels in frames.items() if scene in path.name}
        assert len(lengths) == 1


def test_two_files_hold_no_video(clips: Path) -> None:
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(clips / "bounce" / "broken.mp4"))
    with av.open(str(clips / "spin" / "sound_only.mp4")) as container:
        assert len(container.streams.video) == 0
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) >= 2 * synthetic.AUDIO_RATE
    assert 0.1 < np.abs(sound).max() < 0.5


@pytest.mark.slow
def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def written(name: str, seed: int, clips_per_class: int = 2) -> dict[str, bytes]:
        folder = tmp_path / name
        synthetic.make_clips(folder, clips_per_class=clips_per_class, seed=seed)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    first = written("first", 3)
    assert first == written("again", 3)
    other = written("other", 4, clips_per_class=1)
    assert set(other) < set(first)
    assert all(other[name] != first[name] for name in other if "/v_" in name)


def _flow_of(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
    """Mean flow of the moving pixels over the clip, (pairs, 2) px a frame, and their mean speed.

    Frames are brought to one brightness first; pixels slower than half a pixel do not move.
    """
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in pixels[:41]]
    grays = [cv2.GaussianBlur(gray * (128 / gray.mean()), (0, 0), 2) for gray in grays]
    means, speeds = [], []
    for before, after in zip(grays[:-1:4], grays[1::4], strict=False):
        flow = cv2.calcOpticalFlowFarneback(
            before.astype(np.uint8), after.astype(np.uint8), np.empty(0), 0.5, 3, 21, 3, 7, 1.5, 0
        )
        speed = np.hypot(flow[..., 0], flow[..., 1])
        moving = speed > 0.5
        few = moving.sum() < 0.02 * moving.size
        means.append([0.0, 0.0] if few else flow[moving].mean(axis=0).tolist())
        speeds.append(0.0 if few else float(speed[moving].mean()))
    return np.array(means), float(np.mean(speeds))


@pytest.mark.slow
def test_each_class_moves_as_it_is_called(frames: dict[Path, NDArray[np.uint8]]) -> None:
    for path, pixels in frames.items():
        means, speed = _flow_of(pixels)  # (10, 2)
        net = float(np.linalg.norm(means.mean(axis=0)))
        gross = float(np.linalg.norm(means, axis=1).mean())
        brightness = pixels.reshape(len(pixels), -1).mean(axis=1)
        changes = float(np.abs(np.diff(brightness)).mean())
        assert (changes > 4) == (path.parent.name == "flicker"), path
        match path.parent.name:
            case "flicker":
                assert speed < 0.5, path
            case "drift":  # always the same way
                assert gross > 1, path
                assert net > 0.8 * gross, path
            case "bounce":  # as far back as forth
                assert gross > 1, path
                assert net < 0.5 * gross, path
            case "spin":  # fast, and nowhere
                assert speed > 1, path
                assert gross < 0.5 * speed, path


@pytest.mark.slow
def test_single_frames_look_the_same_in_every_class(
    frames: dict[Path, NDArray[np.uint8]],
) -> None:
    for scene in ("g01", "g02", "g03"):
        group = [pixels for path, pixels in frames.items() if scene in path.name]
        # Contrast and colour of a frame, free of its brightness, which every class draws alike.
        statistics = []
        for pixels in group:
            levels = pixels[::5].astype(np.float32)
            levels /= levels.mean(axis=(1, 2, 3), keepdims=True)
            colours, contrast = levels.mean(axis=(0, 1, 2)), levels.std(axis=(1, 2, 3)).mean()
            statistics.append([*colours.tolist(), float(contrast)])
        spread = np.ptp(np.array(statistics), axis=0)  # (4,)
        assert (spread < 0.06).all(), (scene, spread)
        means = [float(pixels.mean()) for pixels in group]
        assert min(means) > 128 * 0.85 * 0.93
        assert max(means) < 128 * 1.15 * 1.07


@pytest.mark.parametrize(("clips_per_class", "seed"), [(0, 0), (1, -1)])
def test_impossible_numbers_are_refused(tmp_path: Path, clips_per_class: int, seed: int) -> None:
    with pytest.raises(UserError, match="at least 1 clip and seed 0 or more"):
        synthetic.make_clips(tmp_path, clips_per_class=clips_per_class, seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("mine")
    with pytest.raises(UserError, match="is a file; give a folder"):
        synthetic.make_clips(tmp_path / "clips")
    assert (tmp_path / "clips").read_text() == "mine"


@pytest.mark.slow
def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["synthetic", str(tmp_path), "--clips-per-class", "1"])
    synthetic.main()
    assert "6 files in 4 classes (bounce, drift, flicker, spin)" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["synthetic", str(tmp_path), "--clips-per-class", "0"])
    with pytest.raises(SystemExit, match="2"):
        synthetic.main()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_single_clips_are_of_scenes_of_their_own(tmp_path: Path) -> None:
    synthetic.make_single_clips(tmp_path, scenes=5)
    made = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*"))}
    counts = Counter(path.parent.name for path in made)
    assert sorted(counts.values()) == [1, 1, 1, 2]
    assert len({path.stem.split("_g")[1] for path in made}) == 5
    first = next(iter(made))
    first.unlink()
    synthetic.make_single_clips(tmp_path, scenes=6)  # What is missing is made, the same again.
    again = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*"))}
    assert len(again) == 6
    assert made.items() <= again.items()
