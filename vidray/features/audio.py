"""The sound of a video: log-mel bands and MFCC over time, 416 numbers.

Standard parameters, so that the numbers can be had elsewhere: mono 16 kHz, windows of 25 ms every
10 ms (periodic Hann, no padding at the ends), 512-point power spectrum, 64 triangular mel bands
from 50 to 8000 Hz on the Slaney scale with Slaney's area normalisation (the bands of PANNs, Kong
et al. 2020), decibels re 1 above a floor of 1e-10, 20 cepstral coefficients by orthonormal DCT-II
(Davis and Mermelstein 1980) and their slope over five windows.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidray.features.family import Family
from vidray.video.sound import SAMPLE_RATE

WINDOW = 400  # 25 ms
HOP = 160  # 10 ms
FFT_SIZE = 512
MEL_BANDS = 64
MEL_RANGE_HZ = (50.0, 8000.0)
POWER_FLOOR = 1e-10  # -100 dB: digital silence
CEPSTRA = 20
SLOPE_RADIUS = 2
STATISTICS = ("mean", "std", "min", "max")

# Windows transformed at once: 2048 spectra are 4 MB, however long the sound.
_WINDOWS_AT_ONCE = 2048

PARTS = (
    ("log_mel", len(STATISTICS) * MEL_BANDS),
    ("mfcc", len(STATISTICS) * CEPSTRA),
    ("mfcc_slope", len(STATISTICS) * CEPSTRA),
)


def describe(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Statistics of the sound over time.

    Args:
        sound: mono ``float32 (n,)`` at 16 kHz, full scale 1. Shorter than one window of 400
            samples, it is filled up with silence.

    Returns:
        ``float32 (416,)``: mean, standard deviation (population), minimum, maximum over the
        windows, of the 64 log-mel bands in dB, of 20 cepstral coefficients, and of their slopes
        per window.

    Raises:
        ValueError: the sound is empty or not of one dimension.
    """
    if sound.ndim != 1 or sound.size == 0:
        raise ValueError(f"sound has shape {sound.shape}, should be (n,) with n >= 1")
    decibels = log_mel(sound)  # (T, 64)
    cepstra = mfcc(decibels)  # (T, 20)
    return np.concatenate(
        [_over_time(decibels), _over_time(cepstra), _over_time(slope(cepstra))]
    ).astype(np.float32)


def log_mel(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decibels in each mel band: (n,) -> ``float32 (T, 64)``, T = 1 + (n - 400) // 160 windows."""
    padded = np.pad(sound, (0, max(0, WINDOW - sound.size)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # (T, 400)
    bands = [
        _mel_power(windows[begin : begin + _WINDOWS_AT_ONCE])
        for begin in range(0, len(windows), _WINDOWS_AT_ONCE)
    ]
    power = np.maximum(np.concatenate(bands), np.float32(POWER_FLOOR))
    decibels: NDArray[np.float32] = np.float32(10.0) * np.log10(power)
    return decibels


def mfcc(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cepstral coefficients 0 to 19 of log-mel bands: ``(T, 64)`` -> ``float32 (T, 20)``."""
    import scipy.fft  # Here: 0.25 of the 0.7 s that a sandbox imports for, of silent videos too.

    cepstra: NDArray[np.float32] = scipy.fft.dct(decibels, type=2, norm="ortho", axis=1)
    return cepstra[:, :CEPSTRA]


def slope(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least-squares slope over five windows, the ends repeated (Furui 1986): (T, n) -> (T, n)."""
    count = len(values)
    padded = np.pad(values, ((SLOPE_RADIUS, SLOPE_RADIUS), (0, 0)), mode="edge")
    slopes = np.zeros_like(values)
    for step in range(1, SLOPE_RADIUS + 1):
        after = padded[SLOPE_RADIUS + step : SLOPE_RADIUS + step + count]
        before = padded[SLOPE_RADIUS - step : SLOPE_RADIUS - step + count]
        slopes += step * (after - before)
    return slopes / np.float32(2 * sum(step**2 for step in range(1, SLOPE_RADIUS + 1)))


def _mel_power(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    import scipy.fft

    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    spectra = scipy.fft.rfft(windows * hann.astype(np.float32), FFT_SIZE, axis=1)  # (T, 257)
    power: NDArray[np.float32] = spectra.real**2 + spectra.imag**2
    return power @ _mel_weights()  # (T, 64)


@lru_cache(maxsize=1)
def _mel_weights() -> NDArray[np.float32]:
    """Triangles from each band's lower neighbour to its upper, of area 1 Hz: (257, 64)."""
    low, high = (_hz_to_mel(hz) for hz in MEL_RANGE_HZ)
    corners = np.array([_mel_to_hz(mel) for mel in np.linspace(low, high, MEL_BANDS + 2)])
    below, centre, above = corners[:-2], corners[1:-1], corners[2:]  # each (64,)
    hz = np.arange(FFT_SIZE // 2 + 1)[:, None] * (SAMPLE_RATE / FFT_SIZE)  # (257, 1)
    rising = (hz - below) / (centre - below)
    falling = (above - hz) / (above - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    weights: NDArray[np.float32] = (triangles * 2.0 / (above - below)).astype(np.float32)
    return weights


# Slaney's Auditory Toolbox (1998): 3 mel per 200 Hz up to 1000 Hz, then 27 mel per factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = 15.0
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: float) -> float:
    if mel < _BREAK_MEL:
        return mel * _LINEAR_HZ_PER_MEL
    return float(_BREAK_HZ * np.exp((mel - _BREAK_MEL) * _LOG_STEP))


def _over_time(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean, std, min, max over windows: (T, n) -> (4 n,)."""
    return np.concatenate(
        [
            values.mean(axis=0, dtype=np.float64),
            values.std(axis=0, dtype=np.float64),
            values.min(axis=0),
            values.max(axis=0),
        ]
    ).astype(np.float32)


FAMILY = Family(looks_at="sound", describe=describe, parts=PARTS)
