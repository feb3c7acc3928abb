"""Thousands of damaged videos through the job's own sandbox: is the damage reported?

    python bench/damage.py                     # 500 damages, about two minutes
    python bench/damage.py --damages 10000
    python bench/damage.py --only 4711 --keep  # one of them again, and its file is left

Small videos of 27 kinds are damaged: bytes flipped, zeroed, cut off, cut out, doubled, packets
dropped. Each is described as ``jobs/extract.py`` does, and then read again, all of it and single
frames, beside a plain sequential decode. What must never happen is a finding: no row, a hang, an
error nobody expected, times that do not rise, or status ok with other frames than the sequential
decode's and no damage reported. Exit code 1 where there is one.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pyarrow as pa
import tyro
from numpy.typing import NDArray

from tests.videos import KINDS, write_video
from vidray.distributed.sandbox import Sandbox
from vidray.errors import VideoError
from vidray.features.extraction import Settings, describe_video
from vidray.video import decoders, demux, readers
from vidray.video.decode import Request, Video
from vidray.video.pixels import to_rgb

_KINDS = (
    "h264_mp4", "h264_mkv", "h264_ts", "h264_flv", "h264_avi", "h264_raw", "fragmented_mp4",
    "hevc_mp4", "vp9_webm", "vp8_webm", "av1_mp4", "xvid_avi", "packed_avi", "msmpeg4_avi",
    "flv1_flv", "mjpeg_avi", "mpeg1_mpg", "mpeg2_ts", "wmv2_asf", "ffv1_mkv", "prores_mov", "gif",
)  # fmt: skip
_OTHERS: dict[str, tuple[str, str, str]] = {
    "hevc_ts": (".ts", "libx265", "yuv420p"),
    "huffyuv_avi": (".avi", "huffyuv", "yuv422p"),
    "qtrle_mov": (".mov", "qtrle", "rgb24"),
    "png_mov": (".mov", "png", "rgb24"),
    "apng": (".apng", "apng", "rgb24"),
}
_SETTINGS = Settings(families=("color",))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Damage videos, decode them, compare."""

    damages: int = 500
    """Number of damaged videos."""
    workers: int = 2
    """Sandboxes that run at the same time."""
    seed: int = 0
    """Seed that decides every damage, together with its number."""
    num_frames: int = 30
    """Frames of each video."""
    timeout_seconds: float = 60.0
    """A video that takes longer is a finding."""
    as_long: bool = False
    """Read by the packet index, as long videos are: it cannot show damage in a group of pictures
    that holds no wanted frame."""
    only: int | None = None
    """Number of a damage to repeat."""
    keep: bool = False
    """Keep the damaged files of findings."""


def main(bench: Bench) -> None:
    """Print the outcomes of each kind, and the findings."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="damage-"))
    sources = _write_sources(folder, bench.num_frames)
    numbers = range(bench.damages) if bench.only is None else [bench.only]
    boxes = [_sandbox(bench) for _ in range(bench.workers)]

    def work(worker: int) -> list[dict[str, Any]]:
        mine = numbers[worker :: bench.workers]
        rows = [_judge(bench, number, sources, boxes[worker], folder) for number in mine]
        boxes[worker].close()
        return rows

    with ThreadPoolExecutor(bench.workers) as pool:
        rows = [row for part in pool.map(work, range(bench.workers)) for row in part]
    for path in sources.values():
        path.unlink()
    findings = [row for row in rows if row["finding"]]
    _show(rows, findings)
    if len(rows) < len(numbers):
        print(f"{len(numbers) - len(rows)} rows are lost")
    print(f"{len(rows)} damages in {time.monotonic() - began:.0f} s, {len(findings)} findings")
    if not any(folder.iterdir()):
        folder.rmdir()
    sys.exit(1 if findings or len(rows) < len(numbers) else 0)


def _write_sources(folder: Path, num_frames: int) -> dict[str, Path]:
    sources = {name: KINDS[name](folder, num_frames) for name in _KINDS}
    for name, (suffix, codec, pix_fmt) in _OTHERS.items():
        path = folder / f"{name}{suffix}"
        sources[name] = write_video(path, num_frames=num_frames, codec=codec, pix_fmt=pix_fmt)
    return sources


def _sandbox(bench: Bench) -> Sandbox:
    return Sandbox(
        "bench.damage:judge_videos",
        {"as_long": bench.as_long},
        memory_bytes=2 << 30,
        timeout_seconds=bench.timeout_seconds,
    )


def _judge(
    bench: Bench, number: int, sources: Mapping[str, Path], box: Sandbox, folder: Path
) -> dict[str, Any]:
    rng = random.Random(f"{bench.seed} {number}")  # noqa: S311
    name = rng.choice(list(sources))
    how = rng.choice(list(_DAMAGES))
    path = folder / f"{number}-{how}{sources[name].suffix}"
    path.write_bytes(_DAMAGES[how](sources[name], rng))
    row: dict[str, Any] = {"number": number, "kind": name, "how": how}
    try:
        row |= box.run({"path": str(path), "seed": number}).to_pylist()[0]
    except VideoError as error:
        is_cap = error.kind == "out_of_memory" or error.kind == "too_large"
        said = f"{error.kind}: {error.message}"
        row |= {"outcome": error.kind, "finding": "" if is_cap else said}
    if row["finding"]:
        print(f"{number} {name} {how}: {row['finding']}", flush=True)
    if not (row["finding"] and bench.keep):
        path.unlink()
    return row


def _show(rows: list[dict[str, Any]], findings: list[dict[str, Any]]) -> None:
    for title, key in (("kind", "kind"), ("damage", "how")):
        print(f"\n{title:15s} {'outcomes'}")
        for value in sorted({row[key] for row in rows}):
            counts = Counter(row["outcome"] for row in rows if row[key] == value)
            print(f"{value:15s} " + ", ".join(f"{n} {what}" for what, n in counts.most_common()))
    print("\nall             " + str(dict(Counter(row["outcome"] for row in rows).most_common())))
    for row in findings:
        print(f"finding: {row['number']} {row['kind']} {row['how']}: {row['finding']}")


# How a file is damaged: (the whole file, random numbers) -> its bytes.


def _flip(path: Path, rng: random.Random) -> bytes:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 3, 10, 40))):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return bytes(data)


def _flip_header(path: Path, rng: random.Random) -> bytes:
    """Flip bytes in the first or last 600, where most containers describe themselves."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 2, 5))):
        place = rng.randrange(min(600, len(data)))
        data[place if rng.random() < 0.5 else len(data) - 1 - place] ^= rng.randrange(1, 256)
    return bytes(data)


def _zero(path: Path, rng: random.Random) -> bytes:
    data = bytearray(path.read_bytes())
    begin, end = _stretch(len(data), rng)
    data[begin:end] = bytes(end - begin)
    return bytes(data)


def _cut_off(path: Path, rng: random.Random) -> bytes:
    data = path.read_bytes()
    return data[: rng.randrange(1, len(data))]


def _cut_out(path: Path, rng: random.Random) -> bytes:
    data = path.read_bytes()
    begin, end = _stretch(len(data), rng)
    return data[:begin] + data[end:]


def _double(path: Path, rng: random.Random) -> bytes:
    data = path.read_bytes()
    begin, end = _stretch(len(data), rng)
    return data[:end] + data[begin:]


def _drop_packets(path: Path, rng: random.Random) -> bytes:
    """Drop packets: of 188 bytes from a transport stream, of the video stream from others."""
    data = path.read_bytes()
    share = rng.choice((0.02, 0.1, 0.4))
    if path.suffix == ".ts":
        packets = [data[k : k + 188] for k in range(0, len(data), 188)]
        return b"".join(p for k, p in enumerate(packets) if k < 6 or rng.random() > share)
    copy = path.with_name(f"{rng.random()}{path.suffix}")
    try:
        with av.open(str(path)) as reader, av.open(str(copy), "w") as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            for packet in reader.demux(video=0):
                if packet.dts is not None and rng.random() > share:
                    packet.stream = stream
                    writer.mux(packet)
        return copy.read_bytes()
    except (av.error.FFmpegError, FileNotFoundError, ValueError):
        return _cut_out(path, rng)  # No muxer for it, or no times, as in a bare stream.
    finally:
        copy.unlink(missing_ok=True)


def _stretch(size: int, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(size)
    return begin, min(size, begin + rng.randrange(1, max(2, size // rng.choice((10, 50, 200)))))


_DAMAGES: dict[str, Callable[[Path, random.Random], bytes]] = {
    "flip": _flip,
    "flip_header": _flip_header,
    "zero": _zero,
    "cut_off": _cut_off,
    "cut_out": _cut_out,
    "double": _double,
    "drop_packets": _drop_packets,
}


# In the sandbox.


def judge_videos(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of a sandbox: path -> its outcome, a batch of one row."""
    av.logging.set_level(None)
    if config["as_long"]:
        readers._SHORT_PIXELS = 0
    return lambda request: pa.RecordBatch.from_pylist([_outcome(request)])


def _outcome(request: Mapping[str, Any]) -> dict[str, Any]:
    path = request["path"]
    video = {
        "video_id": "v", "uri": path, "size_bytes": Path(path).stat().st_size, "fingerprint": "f"
    }  # fmt: skip
    row = describe_video(video, _SETTINGS).to_pylist()[0]
    if row["status"] != "ok":
        is_odd = row["error_kind"] == "crashed"
        finding = f"crashed: {row['error_message']}" if is_odd else ""
        return {"outcome": row["error_kind"], "finding": finding}
    is_noticed = bool(row["damaged_packets"] or row["corrupt_frames"])
    outcome = "ok, damage reported" if is_noticed else "ok, nothing noticed"
    return {"outcome": outcome, "finding": _what_is_wrong(path, request["seed"])}


def _what_is_wrong(path: str, seed: int) -> str:
    """The difference between vidray's frames and a sequential decode; empty if there is none."""
    oracle = _sequential(path)
    with Video(path) as video:
        (every,), _ = decoders.read_planned(video, path, _everything, decoder="pyav")
        times = video.pts_seconds
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        return f"times do not rise: {times[:20].tolist()}"
    if len(every) != len(oracle):
        return f"{len(every)} frames, {len(oracle)} in a sequential decode"
    for k, pixels in enumerate(every.pixels):
        if not _same(pixels, oracle[k]):
            return f"frame {k} of {len(oracle)} differs from the sequential decode's"
    for k in {seed % len(oracle), len(oracle) - 1}:
        with Video(path) as video:
            pixels = video.read(Request([k], resize="as_stored"))[0].pixels[0]
        if not _same(pixels, oracle[k]):
            return f"frame {k} of {len(oracle)} differs when it is read alone"
    return ""


def _everything(video: Video) -> list[Request]:
    return [Request(range(video.num_frames), resize="as_stored")]


def _same(pixels: NDArray[np.uint8], frame: NDArray[np.uint8]) -> bool:
    # A frame of another size than the first is scaled: there is nothing to compare it with.
    return pixels.shape != frame.shape or bool(np.array_equal(pixels, frame))


def _sequential(path: str) -> list[NDArray[np.uint8]]:
    """Every frame of a plain decode from start to end, as FFmpeg's command line does it.

    No frame is let go of before the end: decoders of single pictures (Motion JPEG, ProRes) leave in
    a broken one what its buffer held before, so that the pixels depend on which is used again.
    """
    frames: list[av.VideoFrame] = []
    with demux.open_container(path) as container:
        stream = demux.choose_video_stream(container, path)
        stream.codec_context.thread_count = 1
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return [
                    to_rgb(f, size=(f.width, f.height), resize="as_stored", rotation_degrees=0)
                    for f in frames
                ]
            except IndexError:  # PyAV's, of a packet of a stream that began midway.
                packets = container.demux(stream)
                continue
            except av.error.FFmpegError:
                # FFmpeg drains the decoder where the container breaks off.
                packet = cast("av.Packet[av.VideoStream]", av.Packet())
                packet.stream = stream
            with contextlib.suppress(av.error.FFmpegError):
                frames += packet.decode()


if __name__ == "__main__":
    main(tyro.cli(Bench))
