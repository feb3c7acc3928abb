"""Made sounds, mono ``float32 (n,)``."""

import numpy as np
from numpy.typing import NDArray

from vidray.video.sound import SAMPLE_RATE


def tone(hz: float, seconds: float, *, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    times = np.arange(round(seconds * rate)) / rate
    return (0.25 * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def voice_like(seconds: float, *, seed: int = 0) -> NDArray[np.float32]:
    """A sweep with a pause, over faint noise: loud, quiet, low and high parts."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sweep = np.sin(2 * np.pi * (100 + 800 * times) * times) * (np.sin(5 * times) > -0.5)
    return (0.4 * sweep + 0.01 * rng.standard_normal(times.size)).astype(np.float32)
