"""One VIDEOS row in, one FEATURES row out, whatever the file is."""

import csv
import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.shared_data import CORPUS
from tests.videos import KINDS, sequential_frames, write_video
from vidray import features
from vidray.errors import UserError
from vidray.features import audio, flow
from vidray.features.extraction import Settings, describe_video, describe_videos
from vidray.sources import list_videos
from vidray.tables import rows, schema
from vidray.video import quality, sound
from vidray.video.clock import Clock
from vidray.video.decode import read_frames

_COLOR = Settings(families=("color",))

# Every file of the shared corpus that has no features, and why. FFmpeg's verdict: expected.csv.
_CORPUS_FAILURES = {
    # Sound, text or data only.
    **dict.fromkeys(
        (
            "full_blocks.mkv", "sample.audio.mp4", "sample.text.mp4", "sample_ac3.ps",
            "sample_ac3_aac.mp4", "sample_ac4.mp4", "sample_ac4_protected.mp4", "sample_ait.ts",
            "sample_dthd.mp4", "sample_eac3.mp4", "sample_eac3_fragmented.mp4", "sample_eac3joc.ts",
            "sample_eac3joc_fragmented.mp4", "sample_mpegh_mhm1.mp4", "sample_opus.mp4",
            "sample_with_opus_audio.mkv", "afconvert-aac-0.5s.mp4", "amr_wb_1f.3gp",
            "bipbop-cenc-audioinit.mp4", "sine-3s-xhe-aac-44khz-mono.mp4",
        ),
        "no_video",
    ),
    "sample_MP.heic": "no_video",  # one still picture; FFmpeg 5.1 finds no video stream in it
    "sample_fragmented_sideloaded_track.mp4": "no_video",  # a fragment, no header
    # WebM and CENC encryption, no key.
    "subsample_encrypted_altref.webm": "encrypted",
    "subsample_encrypted_noaltref.webm": "encrypted",
    "bipbop_480wp_1001kbps-cenc-video-key1-init.mp4": "encrypted",
    "bipbop_cbcs_video_init.mp4": "encrypted",
    "invalid-bitstream.webm": "unreadable",  # none of its 51 packets decodes
    "invalid_userdata.mp4": "unreadable",  # a header for 5,544 frames and not one of them
}  # fmt: skip
# no_timescale.mp4 is damaged in its middle: FFmpeg shows 170 frames and 111 errors, and so do we.
_CORPUS_DAMAGED = {"no_timescale.mp4": (170, 12)}


def _video(path: Path) -> dict[str, Any]:
    size = path.stat().st_size if path.exists() else 0
    return {
        "video_id": "v1", "uri": str(path), "size_bytes": size, "fingerprint": "f1",
        "label": "up", "split": "train", "group": None,
    }  # fmt: skip


def _row(path: Path, settings: Settings = _COLOR) -> dict[str, Any]:
    batch = describe_video(_video(path), settings)
    assert batch.schema.equals(settings.schema)
    row: dict[str, Any] = batch.to_pylist()[0]
    return row


def test_a_good_row(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=60, rotation_degrees=90, audio_codec="aac")
    row = _row(path, Settings())
    expected = {
        "video_id": "v1", "uri": str(path), "fingerprint": "f1", "label": "up", "split": "train",
        "group": None, "status": "ok", "error_kind": None, "error_message": None,
        "width_px": 160, "height_px": 120, "rotation_degrees": 90, "sample_aspect_ratio": 1.0,
        "duration_seconds": pytest.approx(2.4), "frames_per_second": 25.0, "num_frames": 60,
        "damaged_packets": 0, "codec": "h264", "container": "mov", "has_sound": True,
        "enhanced_share": 0.0, "decoder": "pyav", "config_digest": Settings().digest,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    for family in features.PRESETS["default"]:
        assert len(row[family]) == features.FAMILIES[family].length
    assert 40 < row["brightness"] < 230


def test_families_equal_what_the_library_function_gives(tmp_path: Path) -> None:
    """The row holds the families of exactly the frames a second apart that a plain decode shows."""
    path = write_video(
        tmp_path / "a.avi", num_frames=60, codec="mpeg4", width_px=400, height_px=300
    )
    pixels, _ = sequential_frames(path)
    sampled = _looked_at(pixels[::25])
    row = _row(path, Settings(families=("color", "texture")))
    for family in ("color", "texture"):
        assert np.allclose(
            row[family], features.FAMILIES[family](sampled), rtol=1e-6, equal_nan=True
        )


def _looked_at(pixels: Any) -> Any:
    """Frames as features are computed on them."""
    import cv2

    return np.stack([cv2.resize(f, (320, 240), interpolation=cv2.INTER_AREA) for f in pixels])


@pytest.mark.slow
def test_a_variable_rate_is_sampled_once_a_second(tmp_path: Path) -> None:
    """Three seconds at 25 frames a second, then nine at one: twelve frames, one in each second."""
    times = [*range(0, 3000, 40), *range(3000, 12_000, 1000)]
    path = write_video(
        tmp_path / "a.mkv", num_frames=84, codec="ffv1", pts=times, time_base=Fraction(1, 1000)
    )
    pixels, pts_seconds = sequential_frames(path)
    shown = [int(np.flatnonzero(pts_seconds <= t + 1e-3)[-1]) for t in range(12)]
    assert shown == [0, 25, 50, *range(75, 84)]
    row = _row(path, Settings(families=("color", "flow")))
    expected = features.FAMILIES["color"](_looked_at(pixels[shown]))
    np.testing.assert_allclose(row["color"], expected, rtol=1e-4, atol=1e-6)
    # Bursts at 0.75, 2.25, 3.75, ... 11.25 s, with the steps that are between their frames: the
    # last four moments share the last seven frames.
    middles = [int(np.flatnonzero(pts_seconds <= 0.75 + 1.5 * k)[-1]) for k in range(8)]
    begins = sorted({min(max(k - 3, 0), 84 - 7) for k in middles})
    chosen = np.array(begins)[:, None] + np.arange(7)
    bursts = read_frames(
        path, frame_indices=chosen.reshape(-1), width_px=320, height_px=240
    ).pixels.reshape(*chosen.shape, 240, 320, 3)
    expected = flow.describe(bursts, pts_seconds[chosen])
    np.testing.assert_allclose(row["flow"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_stretch_has_the_features_of_its_frames_and_sound(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=150, audio_codec="aac")
    settings = Settings(families=("color", "flow", "audio"))
    video = {**_video(path), "begin_seconds": 2.0, "end_seconds": 5.0}
    (row,) = describe_video(video, settings).to_pylist()
    assert row["status"] == "ok", row["error_message"]
    pixels, pts_seconds = sequential_frames(path)
    expected = features.FAMILIES["color"](_looked_at(pixels[[50, 75, 100]]))
    np.testing.assert_allclose(row["color"], expected, rtol=1e-4, atol=1e-6)
    moments = flow.BURSTS.frame_indices(Clock.of(np.arange(75) / 25)) + 50
    bursts = read_frames(
        path, frame_indices=moments.reshape(-1), width_px=320, height_px=240
    ).pixels.reshape(*moments.shape, 240, 320, 3)
    expected = flow.describe(bursts, pts_seconds[moments])
    np.testing.assert_allclose(row["flow"], expected, rtol=1e-4, atol=1e-5)
    heard = sound.read_sound(path, begin_seconds=2.0, end_seconds=5.0)
    assert heard is not None
    assert len(heard) == 3 * sound.SAMPLE_RATE
    assert np.array_equal(row["audio"], audio.describe(heard))
    # Of the file: what it is, and what part of it the row is of.
    whole = _row(path, settings)
    for name in ("num_frames", "duration_seconds", "frames_per_second", "codec", "has_sound"):
        assert row[name] == whole[name]
    assert (row["begin_seconds"], row["end_seconds"]) == (2.0, 5.0)
    assert (whole["begin_seconds"], whole["end_seconds"]) == (None, None)


def test_a_stretch_past_the_end_is_too_short(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=50)
    video = {**_video(path), "begin_seconds": 30.0, "end_seconds": None}
    (row,) = describe_video(video, _COLOR).to_pylist()
    assert (row["status"], row["error_kind"], row["color"]) == ("failed", "too_short", None)
    assert row["error_message"] == "no frame from 30.000 s on: the video's last one is at 1.960 s"
    assert (row["begin_seconds"], row["end_seconds"]) == (30.0, None)


def test_a_bad_row_keeps_what_is_known_and_invents_nothing(tmp_path: Path) -> None:
    row = _row(tmp_path / "gone.mp4")
    head = {field.name for field in schema.RESULT_HEAD}
    assert (row["status"], row["error_kind"], row["label"]) == ("failed", "missing", "up")
    assert {name for name, value in row.items() if value is not None} - head == {"config_digest"}


@pytest.mark.parametrize(
    "name", ["h264_mp4", "xvid_avi", "joined_ts", "trimmed_mp4", "h264_raw", "gif", "one_frame_mp4"]
)
def test_all_families_of_odd_files(name: str, tmp_path: Path) -> None:
    row = _row(KINDS[name](tmp_path), Settings(families=tuple(features.FAMILIES)))
    assert row["status"] == "ok", row["error_message"]
    assert row["audio"] is None
    assert np.isfinite(row["color"][:96]).all()


def test_more_seconds_than_allowed_are_sampled_more_sparsely(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=100, codec="mpeg4", fps=2)
    few = _row(path, Settings(families=("motion",), max_sampled_frames=4))
    many = _row(path, Settings(families=("motion",)))
    number_of_frames = 7  # motion's eighth number
    assert (few["motion"][number_of_frames], many["motion"][number_of_frames]) == (4, 10)


def test_blocks_are_looked_for_in_frames_as_stored(tmp_path: Path) -> None:
    """A coarse MPEG-4 video shows its 8x8 blocks, though features are computed at another size."""
    import cv2

    rng = np.random.default_rng(3)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3)).astype(np.float32), (0, 0), 4)
    scene = np.clip((scene - scene.mean()) * 8 + 128, 0, 255).astype(np.uint8)
    rows = {}
    for quantiser in (2, 31):
        path = tmp_path / f"q{quantiser}.avi"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
            flags = {"qmin": str(quantiser), "qmax": str(quantiser), "g": "1"}
            stream.codec_context.options = flags
            for _ in range(10):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(scene, format="rgb24")))
            container.mux(stream.encode())
        rows[quantiser] = _row(path)
    resized = quality.measure(
        read_frames(path, frame_indices=[0], width_px=320, height_px=240).pixels
    )
    assert rows[31]["blockiness"] > 2 * rows[2]["blockiness"]
    assert resized["blockiness"] is not None
    assert resized["blockiness"] < 0.7 * rows[31]["blockiness"]


@pytest.mark.slow
def test_enhancement_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=60)
    rows = {
        mode: _row(path, Settings(families=("color",), enhance=mode))
        for mode in ("off", "auto", "always")
    }  # type: ignore[arg-type]
    assert rows["off"]["enhanced_share"] == 0.0
    assert rows["always"]["enhanced_share"] == 1.0
    assert 0.0 <= rows["auto"]["enhanced_share"] <= 1.0
    assert rows["always"]["color"] != rows["off"]["color"]
    assert rows["always"]["sharpness"] == rows["off"]["sharpness"]  # of the frames as they came


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder", "used"),
    [
        ("h264_mp4", "opencv", "opencv"),
        ("xvid_avi", "opencv", "opencv"),
        ("rotated_90_mp4", "opencv", "pyav"),
        ("h264_mp4", "decord", "decord"),
        ("xvid_avi", "decord", "pyav"),
        ("mpeg2_ts", "decord", "pyav"),
        ("wmv2_wmv", "decord", "pyav"),
        ("odd_vp9_webm", "decord", "pyav"),
        ("trimmed_mp4", "decord", "pyav"),
    ],
)
def test_other_decoders_read_only_what_they_read_right(
    name: str, decoder: str, used: str, tmp_path: Path
) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    path = KINDS[name](tmp_path)
    row = _row(path, Settings(families=("color",), decoder=decoder))
    exact = _row(path, _COLOR)
    assert row["decoder"] == used
    assert row["num_frames"] == exact["num_frames"]
    assert np.allclose(row["color"], exact["color"], atol=3.0, equal_nan=True)


def test_an_unexpected_error_is_a_row_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*frames: Any, **others: Any) -> None:
        raise RuntimeError("something\nnobody thought of")

    monkeypatch.setattr("vidray.video.quality.measure", fail)
    row = _row(write_video(tmp_path / "a.mp4", num_frames=5))
    assert (row["status"], row["error_kind"]) == ("failed", "crashed")
    assert row["error_message"] == "unexpected RuntimeError: something nobody thought of"


def test_settings_survive_json_and_have_a_digest() -> None:
    settings = Settings(families=("flow", "color"), enhance="auto", max_sampled_frames=7)
    again = Settings.from_json(dataclasses.asdict(settings))
    assert (again, again.digest) == (settings, settings.digest)
    others = [
        dataclasses.replace(settings, enhance="off"),
        dataclasses.replace(settings, families=("color", "flow")),
        dataclasses.replace(settings, max_sampled_frames=8),
        dataclasses.replace(settings, decoder="opencv"),
    ]
    assert len({settings.digest, *(other.digest for other in others)}) == 5


def test_impossible_settings() -> None:
    for wrong in (
        {"families": ("color", "color")},
        {"families": ("colour",)},
        {"enhance": "maybe"},
        {"decoder": "ffmpeg"},
        {"max_sampled_frames": 0},
    ):
        with pytest.raises(UserError):
            Settings(**wrong)  # type: ignore[arg-type]


def test_failed_row_has_the_schema() -> None:
    from vidray.errors import VideoError

    error = VideoError("timeout", "too slow")
    batch = rows.failed(_video(Path("/x")), _COLOR.schema, _COLOR.digest, error)
    assert batch.schema.equals(_COLOR.schema)


@pytest.mark.shared
def test_corpus_has_a_row_for_every_file() -> None:
    text = (CORPUS / "expected.csv").read_text()
    expected = {Path(row["path"]).name: row for row in csv.DictReader(text.splitlines())}
    describe = describe_videos(dataclasses.asdict(_COLOR))
    rows = [describe(video).to_pylist()[0] for video in list_videos(str(CORPUS)).to_pylist()]
    assert len(rows) == len(expected) == 85
    failures = {Path(row["uri"]).name: row["error_kind"] for row in rows if row["status"] != "ok"}
    assert failures == _CORPUS_FAILURES
    for row in rows:
        name = Path(row["uri"]).name
        if row["status"] == "ok":
            assert row["num_frames"] == int(expected[name]["frames_ffmpeg_decodes"]), name
            counts = (row["num_frames"], row["damaged_packets"])
            assert row["damaged_packets"] == 0 or counts == _CORPUS_DAMAGED[name]
