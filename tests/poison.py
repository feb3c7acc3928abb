"""Work that dies the ways a decoder does, for the sandbox's tests."""

import ctypes
import os
import signal
import time
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from vidray.errors import ModelError, UserError
from vidray.tables import rows, schema
from vidray.video.decode import Request, Video


def doubled(config: dict[str, Any], ask: Any) -> Any:
    """Asks ``config["questions"]`` times what the double is."""

    def work(request: dict[str, Any]) -> pa.RecordBatch:
        batch = pa.RecordBatch.from_pydict({"number": [request["number"]]})
        for _ in range(config["questions"]):
            batch = ask(batch)
        time.sleep(request.get("sleep", 0))
        return batch

    return work


def die_at_start(config: dict[str, Any]) -> Any:
    """Is killed the first ``config["times"]`` times, as counted in the folder ``marks``."""
    with open(os.path.join(config["marks"], "starts"), "a") as file:
        file.write(".")
        if file.tell() <= config["times"]:
            os.kill(os.getpid(), signal.SIGKILL)
    return lambda _: pa.RecordBatch.from_pydict({"said": ["here"]})


def _start(config: dict[str, Any]) -> None:
    """Whatever may be wrong before there is any work."""
    if config.get("refuse"):
        raise ValueError("no such setting")
    if "advise" in config:
        raise UserError(config["advise"])
    if "load" in config:
        np.ones(config["load"], dtype=np.uint8)
    if "fill" in config:
        kept = np.ones(config["fill"], dtype=np.uint8)
        raise SystemError(f"a library says something else of {len(kept)} bytes")


def misbehave(config: dict[str, Any]) -> Any:
    """``config["marks"]``: a folder that notes each attempt."""
    _start(config)

    def work(request: dict[str, Any]) -> pa.RecordBatch:
        with open(os.path.join(config["marks"], request["do"]), "a") as file:
            file.write(".")
            attempts = file.tell()
        match request["do"]:
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "hang":
                time.sleep(3600)
            case "die_once" if attempts == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "eat" | "eat_with_opencv" | "eat_with_pytorch":
                _eat(request["do"])
            case "fault":
                raise ModelError("the model is\nat fault \ud800")
        return pa.RecordBatch.from_pydict({"said": [request["do"]], "pid": [os.getpid()]})

    return work


def _eat(how: str) -> None:
    """Four gigabytes, as a row is made of a video."""
    import torch

    work: dict[str, Any] = {
        "eat": lambda: np.ones(1 << 32, dtype=np.uint8),
        "eat_with_opencv": lambda: cv2.resize(np.zeros((9, 9), np.uint8), (65000, 65000)),
        "eat_with_pytorch": lambda: torch.empty(1 << 32, dtype=torch.uint8),
    }
    video = {"video_id": "v", "uri": "/v", "fingerprint": "f", "attempts": 1}
    rows.made_by(lambda _: work[how]() and [], video, schema.LABELLED, "d")


def labels_of_large_frames(_: dict[str, Any]) -> Any:
    """A LABELS row of a video all frames of which are held at once, four times: 0.6 GB of three."""

    def work(video: dict[str, Any]) -> pa.RecordBatch:
        def label(_: rows.Stopwatch) -> list[rows.Values]:
            with Video(video["uri"]) as opened:
                pixels = opened.read(Request(range(opened.num_frames)))[0].pixels
            return [{"label": "large", "probability": float(np.tile(pixels, 4).mean() >= 0)}]

        return rows.made_by(label, video, schema.LABELLED, "d")

    return work
