"""The videos of benchmarks: 8 s, 25 frames a second, 320x240, XviD with B-frames."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

_DIFFERENT = 32


def make_clips(folder: Path, clips: int, *, num_frames: int = 200) -> Path:
    """A folder of so many: a texture under a moving camera, and after 32 of them copies."""
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_make, folder, num_frames), range(min(clips, _DIFFERENT))))
    for number in range(_DIFFERENT, clips):
        shutil.copyfile(_path(folder, number % _DIFFERENT), _path(folder, number))
    return folder


def _path(folder: Path, number: int) -> Path:
    return folder / f"clip{number:04d}.avi"


def _make(folder: Path, num_frames: int, number: int) -> None:
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    scene = cv2.resize(small, (960, 720), interpolation=cv2.INTER_CUBIC)
    scene = np.clip(scene + rng.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
    path = np.cumsum(rng.normal(0, 2.5, (num_frames, 2)), axis=0) + np.array([240, 320])
    with av.open(str(_path(folder, number)), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        stream.codec_context.options = {
            "bf": "2",
            "qscale": "4",
            "flags": "+qscale",
            "g": "250",
        }
        for row, column in np.clip(path, 0, (480, 640)).astype(int):
            view = np.ascontiguousarray(scene[row : row + 240, column : column + 320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())
