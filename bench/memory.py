"""Peak memory of one decoding process: a 4K clip, two minutes of 1080p, with and without an index.

    python bench/memory.py

Makes the clips first (two minutes). Each is described in a fresh sandbox under the default cap
of 2 GiB, and once more under the smallest cap (0.5 GiB), where it is refused if it does not fit.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np
import psutil

from vidray import features
from vidray.distributed.sandbox import Sandbox
from vidray.errors import VideoError
from vidray.features.extraction import Settings

_CLIPS = {
    "4K, 10 s, H.264 in MP4": ("4k.mp4", "libx264", 3840, 2160, 250),
    "1080p, 120 s, H.264 in MP4": ("hd.mp4", "libx264", 1920, 1080, 3000),
    "1080p, 120 s, MPEG-4 in AVI": ("hd.avi", "mpeg4", 1920, 1080, 3000),
}


def main() -> None:
    """Print a line per clip and cap."""
    settings = Settings(families=(*features.PRESETS["notebook"], *features.PRESETS["default"]))
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, codec, width_px, height_px, frames) in _CLIPS.items():
            path = Path(folder) / file
            _write(path, codec, width_px, height_px, frames)
            for gib in (2.0, 0.5):
                outcome, peak_bytes, seconds = _describe(path, settings, gib)
                peak = f"peak {peak_bytes / 2**20:5.0f} MiB"
                print(f"{name:30s} cap {gib} GiB: {peak}, {seconds:5.1f} s, {outcome}", flush=True)


def _describe(path: Path, settings: Settings, gib: float) -> tuple[str, int, float]:
    box = Sandbox(
        "vidray.features.extraction:describe_videos",
        dataclasses.asdict(settings),
        memory_bytes=int(gib * 2**30),
        timeout_seconds=600,
    )
    box.start()
    child = psutil.Process().children()[0]
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            try:
                peak[0] = max(peak[0], child.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    video = {"video_id": "v", "uri": str(path), "size_bytes": 0, "fingerprint": ""}
    try:
        row = box.run(video).to_pylist()[0]
        outcome = f"{row['status']}, {row['num_frames']} frames {row['error_message'] or ''}"
    except VideoError as error:
        outcome = f"{error.kind}: {error.message}"
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    box.close()
    return outcome, peak[0], seconds


def _write(path: Path, codec: str, width_px: int, height_px: int, frames: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height_px, width_px + 512, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        if codec == "libx264":
            stream.codec_context.options = {"preset": "ultrafast", "crf": "30"}
        smooth = (noise // 8 + np.linspace(0, 200, width_px + 512)[None, :, None]).astype(np.uint8)
        for k in range(frames):
            view = np.ascontiguousarray(smooth[:, 4 * k % 512 :][:, :width_px])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
