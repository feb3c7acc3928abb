"""The numbers of a sound against a written-out oracle in float64."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.features.test_flow import part_slices
from tests.sounds import tone, voice_like
from vidray.features import audio
from vidray.features.audio import FAMILY
from vidray.video.sound import SAMPLE_RATE


def log_mel_oracle(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-mel bands by a written-out Fourier sum in float64, one window at a time."""

    # Slaney's scale from its definition: 200/3 Hz a mel to 1 kHz, then 27 steps per factor 6.4.
    def hz(mel: float) -> float:
        return mel * 200 / 3 if mel <= 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * np.log(8) / np.log(6.4)
    corners = [hz(mel) for mel in np.linspace(0.75, top, 66)]
    bins = np.arange(257) * 31.25
    angles = -2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512
    window = np.sin(np.pi * np.arange(400) / 400) ** 2
    rows = []
    for begin in range(0, len(samples) - 399, 160):
        power = np.abs(np.exp(angles) @ (samples[begin : begin + 400] * window)) ** 2
        row = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            triangle = np.interp(bins, [low, middle, high], [0, 1, 0], left=0, right=0)
            row.append(10 * np.log10(max((power * triangle).sum() * 2 / (high - low), 1e-10)))
        rows.append(row)
    return np.array(rows)


def mfcc_oracle(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal DCT-II as its sum of cosines."""
    k, n = np.arange(20)[:, None], np.arange(64)[None, :]
    basis = np.sqrt(2 / 64) * np.cos(np.pi * k * (2 * n + 1) / 128)
    basis[0] /= np.sqrt(2)
    return bands @ basis.T


def slope_oracle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A straight line fitted through five windows around each, the ends repeated."""
    index = np.arange(len(values))
    around = np.clip(index[:, None] + np.arange(-2, 3), 0, len(values) - 1)
    return np.array([np.polyfit(np.arange(-2, 3), values[rows], 1)[0] for rows in around])


def over_time(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([values.mean(0), values.std(0), values.min(0), values.max(0)])


@pytest.mark.parametrize("seconds", [0.025, 0.031, 0.6])
def test_describe_matches_the_written_out_oracle(seconds: float) -> None:
    samples = voice_like(seconds)
    bands = log_mel_oracle(samples)
    cepstra = mfcc_oracle(bands)
    expected = [over_time(bands), over_time(cepstra), over_time(slope_oracle(cepstra))]
    found = FAMILY(samples)
    assert found.shape == (416,)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=2e-3)


def test_a_tone_is_loudest_in_its_band() -> None:
    low, high = (audio.log_mel(tone(hz, 0.5)).mean(axis=0) for hz in (200, 5000))
    assert np.argmax(low) < 6
    assert 45 < np.argmax(high) < 60


def test_gain_shifts_every_band_and_only_the_first_coefficient() -> None:
    samples = voice_like(0.5)
    loud, quiet = (audio.log_mel(samples * np.float32(gain)) for gain in (1.0, 0.1))
    np.testing.assert_allclose(loud - quiet, 20.0, atol=1e-3)
    shift = audio.mfcc(loud) - audio.mfcc(quiet)
    np.testing.assert_allclose(shift[:, 0], 20.0 * 8.0, rtol=1e-4)  # sqrt(64) of the DCT
    np.testing.assert_allclose(shift[:, 1:], 0.0, atol=1e-2)


def test_silence_is_the_floor() -> None:
    found = FAMILY(np.zeros(SAMPLE_RATE, np.float32))
    slices = part_slices(FAMILY)
    np.testing.assert_allclose(found[slices["log_mel"]][:64], -100.0, atol=1e-3)
    np.testing.assert_allclose(found[slices["mfcc_slope"]], 0.0, atol=1e-3)
    assert np.isfinite(found).all()


def test_long_sound_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = voice_like(2.0)
    whole = audio.log_mel(samples)
    monkeypatch.setattr(audio, "_WINDOWS_AT_ONCE", 7)
    np.testing.assert_allclose(audio.log_mel(samples), whole, atol=1e-4)


def test_too_short_sound_is_filled_up_and_no_sound_is_refused() -> None:
    short = voice_like(0.025)[:90]
    filled = np.concatenate([short, np.zeros(310, np.float32)])
    np.testing.assert_array_equal(FAMILY(short), FAMILY(filled))
    with pytest.raises(ValueError, match=r"\(0,\)"):
        FAMILY(np.empty(0, np.float32))
    with pytest.raises(ValueError, match=r"\(2, 800\)"):
        FAMILY(np.zeros((2, 800), np.float32))
