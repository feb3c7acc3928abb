"""Sound read out of odd files."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.shared_data import CORPUS
from tests.sounds import tone, voice_like
from vidray.features.audio import FAMILY
from vidray.video.sound import SAMPLE_RATE, load_sound, read_sound


def write_wav(path: Path, channels: NDArray[np.float32], *, rate: int) -> None:
    """Samples ``float32 (channels, n)`` as 16-bit PCM, lossless up to its rounding."""
    layout = "mono" if len(channels) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        packed = np.round(channels.T * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_pcm_at_16_khz_comes_back_sample_by_sample(tmp_path: Path) -> None:
    samples = voice_like(0.7)
    write_wav(tmp_path / "a.wav", samples[None], rate=SAMPLE_RATE)
    heard = read_sound(tmp_path / "a.wav")
    assert heard is not None
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, samples, atol=1 / 32000)


def test_stereo_of_another_rate_is_mixed_and_resampled(tmp_path: Path) -> None:
    left, right = tone(440, 1.0, rate=44_100), tone(880, 1.0, rate=44_100)
    write_wav(tmp_path / "a.wav", np.stack([left, right]), rate=44_100)
    heard = read_sound(tmp_path / "a.wav")
    assert heard is not None
    assert abs(heard.size - SAMPLE_RATE) < 50
    spectrum = np.abs(np.fft.rfft(heard[:15_000] * np.hanning(15_000)))
    hz = np.fft.rfftfreq(15_000, 1 / SAMPLE_RATE)
    loudest = [hz[np.argmax(np.where(abs(hz - at) < 100, spectrum, 0))] for at in (440, 880)]
    np.testing.assert_allclose(loudest, [440, 880], atol=1.5)
    # Either channel at 0.25 becomes one at half of it: together an RMS of 0.125.
    assert np.sqrt((heard[1000:15_000] ** 2).mean()) == pytest.approx(0.125, rel=0.03)


def test_a_file_object_is_read_from_its_beginning(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice_like(0.3)[None], rate=SAMPLE_RATE)
    file = io.BytesIO((tmp_path / "a.wav").read_bytes())
    file.seek(0, io.SEEK_END)
    expected = read_sound(tmp_path / "a.wav")
    assert expected is not None
    for _ in range(2):
        heard = read_sound(file)
        assert heard is not None
        np.testing.assert_array_equal(heard, expected)


def test_eight_channels_are_mixed(tmp_path: Path) -> None:
    # One channel of eight sounds; as planes they crash PyAV 18.1.
    samples = voice_like(0.3)
    channels = np.zeros((samples.size, 8), np.int16)
    channels[:, 4] = np.round(samples * 32767)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="7.1")
        frame = av.AudioFrame.from_ndarray(channels.reshape(1, -1), format="s16", layout="7.1")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    heard = read_sound(tmp_path / "a.wav")
    assert heard is not None
    np.testing.assert_allclose(heard, samples / 8, atol=1 / 32000)


@pytest.mark.parametrize("max_seconds", [0.1, 0.25])
def test_no_more_is_read_than_asked_for(tmp_path: Path, max_seconds: float) -> None:
    write_wav(tmp_path / "a.wav", voice_like(1.0)[None], rate=SAMPLE_RATE)
    found = load_sound(tmp_path / "a.wav", max_seconds=max_seconds)
    assert found.samples is not None
    assert found.samples.size == round(max_seconds * SAMPLE_RATE)
    assert found.problem is None


def write_track(path: Path, samples: NDArray[np.float32], *, codec: str, delay: float) -> None:
    """A mono track at 16 kHz that begins ``delay`` seconds after the container's zero."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        shape = stream.codec_context.format.name if codec == "flac" else "fltp"
        for begin in range(0, len(samples), 1024):
            piece = samples[None, begin : begin + 1024]
            if shape == "s16":
                piece = np.round(piece * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format=shape, layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = begin + round(delay * SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("delay", [0.0, 1.5])
@pytest.mark.parametrize(("begin", "end"), [(1.0, 2.5), (40.0, 43.7), (70.0, 99.0), (0.0, 60.0)])
def test_a_stretch_of_the_track(tmp_path: Path, begin: float, end: float, delay: float) -> None:
    """Samples by their place in the track, told by arithmetic; the later ones by a seek."""
    samples = voice_like(75.0)
    path = tmp_path / "a.mka"
    write_track(path, samples, codec="flac", delay=delay)
    found = read_sound(path, begin_seconds=begin, end_seconds=end)
    places = [round((seconds - delay) * SAMPLE_RATE) for seconds in (begin, end)]
    expected = samples[max(0, places[0]) : places[1]]
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "aac"), (".ts", "aac"), (".mp3", "mp3"), (".mkv", "libopus")]
)
def test_a_stretch_of_a_lossy_track_is_in_its_place(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    samples = voice_like(60.0)
    path = tmp_path / f"a{suffix}"
    write_track(path, samples, codec=codec, delay=0.0)
    with av.open(str(path)) as container:
        decoded = next(container.decode(audio=0))
        first = float(decoded.time or 0)
    whole = read_sound(path)
    found = read_sound(path, begin_seconds=first + 45.0, end_seconds=first + 46.0)
    assert whole is not None
    assert found is not None
    assert len(found) == SAMPLE_RATE
    expected = whole[45 * SAMPLE_RATE : 46 * SAMPLE_RATE]
    # A resampler that begins elsewhere is off by a sample at most, and lossy frames overlap.
    closeness = [np.corrcoef(np.roll(found, k), expected)[0, 1] for k in range(-16, 17)]
    assert max(closeness) > 0.99


def write_film(path: Path, samples: NDArray[np.float32], *, codec: str) -> Path:
    """Video at 25 frames a second and sound that begin together; in a TS at 1.4 s, as FFmpeg."""
    options = {"output_ts_offset": "1400000"} if path.suffix == ".ts" else {}
    with av.open(str(path), "w", container_options=options) as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        for k in range(len(samples) * 25 // SAMPLE_RATE):
            picture = np.full((48, 64, 3), k % 250, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            part = samples[k * SAMPLE_RATE // 25 : (k + 1) * SAMPLE_RATE // 25]
            whole = np.round(part * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = k * SAMPLE_RATE // 25
            container.mux(track.encode(frame))
        container.mux(video.encode(None))
        container.mux(track.encode(None))
    return path


def check_it_sounds_like(found: NDArray[np.float32] | None, expected: NDArray[np.float32]) -> None:
    """The same to a tenth of a second, in which a lossy codec's delay and a frame fit."""
    assert found is not None
    assert abs(len(found) - len(expected)) <= SAMPLE_RATE // 10
    size = 1 << 18
    spectra = [np.fft.rfft(sound, size) for sound in (found, expected)]
    likeness = np.fft.irfft(spectra[0].conj() * spectra[1], size)
    likeness /= np.linalg.norm(found) * np.linalg.norm(expected)
    lag = int(np.argmax(likeness))
    assert min(lag, size - lag) <= SAMPLE_RATE // 10
    assert likeness[lag] > 0.9


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "aac"), (".mov", "aac"), (".mkv", "aac"), (".ts", "mp2"), (".avi", "pcm_s16le"),
        (".mpg", "mp2"),
    ],
)  # fmt: skip
def test_a_stretch_counts_from_the_first_frame(tmp_path: Path, suffix: str, codec: str) -> None:
    samples = noise_that_grows(8.0, seed=1)
    path = write_film(tmp_path / f"a{suffix}", samples, codec=codec)
    found = read_sound(path, begin_seconds=3.0, end_seconds=5.0)
    check_it_sounds_like(found, samples[3 * SAMPLE_RATE : 5 * SAMPLE_RATE])


def test_a_stretch_behind_a_joint(tmp_path: Path) -> None:
    """Of two transport streams end to end the second one's clock begins again."""
    parts = [noise_that_grows(6.0, seed=seed) for seed in (1, 2)]
    films = [write_film(tmp_path / f"{k}.ts", part, codec="mp2") for k, part in enumerate(parts)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(film.read_bytes() for film in films))
    found = read_sound(path, begin_seconds=8.0, end_seconds=10.0)
    check_it_sounds_like(found, parts[1][2 * SAMPLE_RATE : 4 * SAMPLE_RATE])


def noise_that_grows(seconds: float, *, seed: int) -> NDArray[np.float32]:
    """Low noise, unlike itself at any other moment."""
    rng = np.random.default_rng(seed)
    rough = rng.standard_normal(round(seconds * SAMPLE_RATE))
    smooth = np.convolve(rough, np.ones(8) / 8, mode="same")
    return (0.3 * smooth * np.linspace(0.2, 1, len(smooth))).astype(np.float32)


def test_a_stretch_where_nothing_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    write_track(path, voice_like(2.0), codec="flac", delay=0.0)
    assert read_sound(path, begin_seconds=5.0, end_seconds=6.0) is None
    assert read_sound(path, begin_seconds=500.0, end_seconds=600.0) is None


def test_a_track_that_cannot_be_sought_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mka"
    samples = voice_like(50.0)
    write_track(path, samples, codec="flac", delay=0.0)
    # Seeks that land too late, as on damaged indexes.
    monkeypatch.setattr("vidray.video.sound._LEAD_SECONDS", -5.0)
    found = read_sound(path, begin_seconds=40.0, end_seconds=41.0)
    np.testing.assert_allclose(found, samples[40 * SAMPLE_RATE : 41 * SAMPLE_RATE], atol=1e-4)


def test_a_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="above 0"):
        load_sound(tmp_path / "a.wav", max_seconds=0)


def test_no_track_no_file_and_no_sound_say_so(tmp_path: Path) -> None:
    video = tmp_path / "silent.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "text.mp4").write_text("not a video")
    for name, said in (
        ("silent.mp4", "no sound track"),
        ("text.mp4", "invalid data"),
        ("gone.mp4", "the file is gone"),
    ):
        found = load_sound(tmp_path / name)
        assert found.samples is None
        assert found.problem is not None
        assert said in found.problem
        assert str(tmp_path) not in found.problem
        assert read_sound(tmp_path / name) is None


def test_a_cut_off_file_gives_what_is_left(tmp_path: Path) -> None:
    samples = voice_like(2.0)
    with av.open(str(tmp_path / "whole.ogg"), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        for begin in range(0, samples.size, 1600):
            piece = np.round(samples[None, begin : begin + 1600] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, begin
            frame.time_base = Fraction(1, SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = (tmp_path / "whole.ogg").read_bytes()
    cut = read_sound(io.BytesIO(data[: len(data) * 2 // 3]))
    assert cut is not None
    assert 0 < cut.size < samples.size
    np.testing.assert_allclose(cut, samples[: cut.size], atol=1 / 32000)


def test_noise_in_place_of_packets_never_raises(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice_like(0.5)[None], rate=SAMPLE_RATE)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        samples = voice_like(1.0)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 200):
            broken[at] = rng.integers(0, 256)
        found = load_sound(io.BytesIO(bytes(broken)), max_seconds=5)
        assert found.samples is None or np.isfinite(found.samples).all()
        assert found.samples is not None or found.problem


@pytest.mark.shared
def test_odd_files_are_heard_or_explained() -> None:
    heard = set()
    for path in sorted(CORPUS.glob("*/*")):
        found = load_sound(path, max_seconds=5)
        if found.samples is None:
            assert found.problem
        else:
            heard.add(path.name)
            assert np.isfinite(FAMILY(found.samples)).all()
    assert {"sample_opus.mp4", "sample_ac3.ps", "sample_with_vorbis_audio.mkv"} <= heard
    assert heard.isdisjoint({"bear-vp9.webm", "tiny_av1.mp4", "sample_ac4.mp4", "LICENSE"})
