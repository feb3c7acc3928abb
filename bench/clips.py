"""Clips per second of an epoch's data: mapped shards, Parquet by Ray Data, JPEG, decoding again.

    python bench/clips.py                               # 8-second 320x240 XviD clips, made here
    python bench/clips.py --videos DIR --size-px 128    # any source of videos
    python bench/clips.py --threads 2 --skip parquet    # as many readers as a training loader has
    python bench/clips.py --cold --clips 2000           # files out of the page cache first

Every way gives all clips once, in batches ``uint8 (n, T, H, W, 3)``:

    shards    what vidray does: uncompressed .npy files, mapped into memory
    parquet   the same pixels in a binary column, streamed by Ray Data; order is random only among
              ``--shuffle-buffer`` clips and among files. Ray starts before the clock
    jpeg      a JPEG of every frame, in files that are mapped likewise
    decode    the notebooks' way: no clips are kept, OpenCV reads every frame of every video again,
              takes some and scales them; with FFmpeg's own threads, and without their denoising

All ways run in turn, ``--runs`` times; printed are medians. Takes two minutes on two cores.
"""

from __future__ import annotations

import itertools
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import tyro
from numpy.typing import NDArray

from bench.xvid_clips import make_clips
from vidray import sources
from vidray.distributed import capacity
from vidray.learning.loader import epoch_batches
from vidray.tables.runs import Run
from vidray.tables.shards import Clips
from vidray.video import sampling
from vidray.video.clips import ClipSettings, cut_video

Rows = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Epoch = Callable[[list[Rows]], Iterator[Pixels]]
"""Rows of each batch -> its clips, ``uint8 (n, T, H, W, 3)``."""
Read = Callable[[Rows], Pixels]
Way = Literal["shards", "parquet", "jpeg", "decode"]

# Clips of one file of the two other layouts: 38 MB of pixels, a size that suits Ray's blocks.
_CLIPS_PER_FILE = 64


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare what an epoch's data costs."""

    clips: int = 256
    """Number of videos to make."""
    videos: str = ""
    """Source of videos to use instead of making some."""
    runs: int = 3
    """Rounds; medians are printed."""
    batch_size: int = 16
    """Clips per batch."""
    frames_per_clip: int = 16
    """Frames per clip."""
    size_px: int = 112
    """Width and height of a clip."""
    threads: int = 1
    """Threads that read shards, jpeg and decode; Ray Data takes every CPU."""
    shuffle_buffer: int = 256
    """Clips that Ray Data shuffles among each other."""
    compression: Literal["none", "snappy", "zstd"] = "none"
    """Compression of the Parquet files."""
    jpeg_quality: int = 95
    """JPEG quality, 1 to 100."""
    cold: bool = False
    """Drop the files from the page cache before each epoch, like data larger than memory."""
    skip: tuple[Way, ...] = ()
    """Ways to leave out."""


def main(bench: Bench) -> None:
    """Cut once, write each layout, run every way in turn and print medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = bench.videos or str(make_clips(folder / "videos", bench.clips))
        settings = ClipSettings(frames_per_clip=bench.frames_per_clip, size_px=bench.size_px)
        seconds_cutting = cut_all(source, folder / "shards", settings)
        clips = Clips(str(folder / "shards"))
        _write_parquet(clips, folder / "parquet", bench.compression)
        _write_jpeg(clips, folder / "jpeg", bench.jpeg_quality)
        _check(clips, folder)
        layouts: dict[Way, Callable[[], AbstractContextManager[Epoch]]] = {
            "shards": lambda: _reading(Clips(str(folder / "shards")).read, bench.threads),
            "parquet": lambda: _ray_data(folder / "parquet", bench),
            "jpeg": lambda: _reading(_Jpegs(folder / "jpeg").read, bench.threads),
            "decode": lambda: _reading(_Decoding(clips.table, bench).read, bench.threads),
        }
        paths = clips.table["uri"].to_pylist()
        files: dict[Way, list[Path]] = {
            way: list(map(Path, paths)) if way == "decode" else _files(folder / way)
            for way in layouts
            if way not in bench.skip
        }
        took: dict[Way, list[_Took]] = {way: [] for way in files}
        for number, way in itertools.product(range(bench.runs), files):
            with layouts[way]() as epoch:
                if bench.cold:
                    _put_out_of_cache(files[way])
                took[way].append(_timed(epoch, _batches(len(clips), bench, number)))
            print(f"  {way}: {len(clips) / took[way][-1].seconds:.1f} clips/s", flush=True)
        _report(took, files, len(clips), seconds_cutting)


class _Took(NamedTuple):
    """Seconds of an epoch, and until its first batch."""

    seconds: float
    seconds_to_first: float


def _report(
    took: dict[Way, list[_Took]], files: dict[Way, list[Path]], clips: int, cutting: float
) -> None:
    seconds = {way: [epoch.seconds for epoch in epochs] for way, epochs in took.items()}
    heads = ("clips/s", "ms a clip", "times shards", "first batch, s", "MB on disk")
    print(f"{clips:6d} clips" + "".join(f"{head:>16}" for head in heads))
    for way, values in seconds.items():
        median = statistics.median(values)
        first = statistics.median(epoch.seconds_to_first for epoch in took[way])
        ratio = f"{_ratio(values, seconds['shards']):.2f}" if "shards" in seconds else "-"
        size = sum(path.stat().st_size for path in files[way]) / 1e6
        numbers = (f"{clips / median:.1f}", f"{1000 * median / clips:.2f}", ratio)
        cells = (*numbers, f"{first:.3f}", f"{size:.1f}")
        print(f"{way:12s}" + "".join(f"{cell:>16}" for cell in cells))
    if "shards" in seconds and "decode" in seconds:
        again, read = (statistics.median(seconds[way]) for way in ("decode", "shards"))
        times = _ratio(seconds["decode"], seconds["shards"])
        print(f"second epoch against decoding again: {times:.0f} times less time spent on data")
        print(
            f"cutting once, in one process: {cutting:.1f} s, paid back after "
            f"{cutting / (again - read):.1f} epochs"
        )


def _ratio(values: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def _batches(clips: int, bench: Bench, epoch: int) -> list[Rows]:
    return epoch_batches(clips, batch_size=bench.batch_size, seed=0, epoch=epoch)


def _timed(epoch: Epoch, batches: list[Rows]) -> _Took:
    began = time.perf_counter()
    given = epoch(batches)
    clips = len(next(given))
    first = time.perf_counter() - began
    clips += sum(map(len, given))
    took = _Took(time.perf_counter() - began, first)
    wanted = sum(map(len, batches))
    if clips != wanted:
        raise RuntimeError(f"an epoch gave {clips} clips of {wanted}")
    return took


def cut_all(
    source: str,
    out: Path,
    settings: ClipSettings,
    *,
    splits: tuple[float, float, float] | None = None,
) -> float:
    """Cut clips as ``jobs/clips.py`` does, in this process, without Ray; returns the seconds.

    Videos without a label get one, since reading them costs the same, unless they are kept as such.
    """
    nameless = "none" if settings.unlabelled == "skip" else None
    listed = sources.list_videos(source, splits=splits)
    began = time.perf_counter()
    run = Run(out=str(out), table="clips", videos=source, digest=settings.digest)
    config = {"clip": asdict(settings)}
    run.videos_to_do(config, lambda: listed)
    numbered = zip(run.part_numbers(listed).to_pylist(), listed.to_pylist(), strict=True)
    for part, videos in itertools.groupby(numbered, key=itemgetter(0)):
        batches = [
            cut_video({**video, "label": video["label"] or nameless}, settings)
            for _, video in videos
        ]
        run.write_part(part, pa.Table.from_batches(batches))
    run.publish(config, {"counts": run.check(listed)})
    return time.perf_counter() - began


def _write_parquet(clips: Clips, folder: Path, compression: str) -> None:
    folder.mkdir()
    for part, rows in enumerate(_parts(clips)):
        pixels = pa.array([clip.tobytes() for clip in clips.read(rows)], pa.large_binary())
        table = clips.table.take(rows).append_column("pixels", pixels)
        # A dictionary of pixels would only be tried and given up.
        words = [name for name in table.column_names if name != "pixels"]
        path = folder / f"part-{part:05d}.parquet"
        pq.write_table(table, path, compression=compression, use_dictionary=words)


def _write_jpeg(clips: Clips, folder: Path, quality: int) -> None:
    """``part-k.npy``: bytes of all frames end to end; ``ends-k.npy``: ``int64 (n, T)``."""
    folder.mkdir()
    for part, rows in enumerate(_parts(clips)):
        frames = clips.read(rows).reshape(-1, clips.size_px, clips.size_px, 3)
        coded = [
            cv2.imencode(
                ".jpg", cv2.cvtColor(f, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
            )[1]
            for f in frames
        ]
        ends = np.cumsum([len(image) for image in coded]).reshape(len(rows), -1)
        np.save(folder / f"part-{part:05d}.npy", np.concatenate(coded))
        np.save(folder / f"ends-{part:05d}.npy", ends)


def _parts(clips: Clips) -> Iterator[Rows]:
    for begin in range(0, len(clips), _CLIPS_PER_FILE):
        yield np.arange(begin, min(begin + _CLIPS_PER_FILE, len(clips)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _check(clips: Clips, folder: Path) -> None:
    """Check that every layout holds the same clips."""
    first = np.arange(min(len(clips), 4))
    wanted = clips.read(first)
    stored = pq.read_table(folder / "parquet" / "part-00000.parquet", columns=["pixels"])
    for clip, row in zip(wanted, stored["pixels"][: len(first)].to_pylist(), strict=True):
        if clip.tobytes() != row:
            raise RuntimeError("the Parquet files hold other pixels")
    error = np.abs(_Jpegs(folder / "jpeg").read(first).astype(int) - wanted).mean()
    print(f"{clips!r}; mean error of JPEG {error:.2f} of 255", flush=True)


class _Jpegs:
    """A reader of the files of ``_write_jpeg``, like ``shards.Clips``."""

    def __init__(self, folder: Path) -> None:
        self._shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("part-*"))]
        self._ends = [np.load(path) for path in sorted(folder.glob("ends-*"))]

    def read(self, rows: Rows) -> Pixels:
        return np.stack([self._clip(*divmod(row, _CLIPS_PER_FILE)) for row in rows.tolist()])

    def _clip(self, part: int, row: int) -> Pixels:
        shard, ends = self._shards[part], self._ends[part]
        begin = int(ends[row - 1, -1]) if row else 0
        frames = []
        for end in ends[row].tolist():
            frame = cv2.imdecode(shard[begin:end], cv2.IMREAD_COLOR)
            assert frame is not None
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame))
            begin = end
        return np.stack(frames)


class _Decoding:
    """A reader that decodes each video from its first frame to its last."""

    def __init__(self, table: pa.Table, bench: Bench) -> None:
        self._paths = table["uri"].to_pylist()
        self._frames, self._size = bench.frames_per_clip, (bench.size_px, bench.size_px)

    def read(self, rows: Rows) -> Pixels:
        return np.stack([self._clip(self._paths[row]) for row in rows.tolist()])

    def _clip(self, path: str) -> Pixels:
        capture = cv2.VideoCapture(path)
        frames = []
        while (read := capture.read())[0]:
            frames.append(read[1])
        if not frames:
            raise RuntimeError(f"OpenCV reads no frame of {path}: use videos that it can read")
        chosen = sampling.uniform(num_frames=len(frames), count=self._frames).tolist()
        scaled = [cv2.resize(frames[k], self._size, interpolation=cv2.INTER_AREA) for k in chosen]
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in scaled])


@contextmanager
def _reading(read: Read, threads: int) -> Iterator[Epoch]:
    """Yield batch after batch; several threads share each one."""
    if threads == 1:
        yield lambda batches: map(read, batches)
        return
    with ThreadPoolExecutor(threads) as pool:

        def epoch(batches: list[Rows]) -> Iterator[Pixels]:
            for rows in batches:
                shares = np.array_split(rows, min(threads, len(rows)))
                yield np.concatenate(list(pool.map(read, shares)))

        yield epoch


@contextmanager
def _ray_data(folder: Path, bench: Bench) -> Iterator[Epoch]:
    """Start Ray for its own rounds only: idle, it still takes some of the CPU."""
    capacity.connect()
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    shape = (-1, bench.frames_per_clip, bench.size_px, bench.size_px, 3)

    def epoch(_: list[Rows]) -> Iterator[Pixels]:
        data = ray.data.read_parquet(str(folder), shuffle="files").select_columns(["pixels"])
        for batch in data.iter_batches(
            batch_size=bench.batch_size,
            batch_format="pyarrow",
            local_shuffle_buffer_size=bench.shuffle_buffer,
            prefetch_batches=2,
        ):
            pixels = [np.frombuffer(clip.as_buffer(), np.uint8) for clip in batch["pixels"]]
            yield np.concatenate(pixels).reshape(shape)

    try:
        for _ in epoch([]):  # Workers start and import, Ray Data's actors too.
            pass
        yield epoch
    finally:
        ray.shutdown()


def _put_out_of_cache(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # What is not on disk yet would stay.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main(tyro.cli(Bench))
