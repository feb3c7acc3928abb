"""Clips and answers as Arrow batches, between the decoding process and the network's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray.video.clips import ClipSettings


@dataclass(frozen=True)
class Answer:
    """A network's output for clips: probabilities ``float64 (N, K)``; what its head saw,
    ``float32 (N, D)``, where that is wanted; and of a network with early exits the stage where each
    clip left, ``int32 (N,)``, 1 for the first exit.
    """

    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None = None
    stages: NDArray[np.int32] | None = None

    def rows(self, wanted: slice) -> Answer:
        """The answer for some of the clips."""
        parts = (self.probabilities, self.embeddings, self.stages)
        return Answer(*(None if part is None else part[wanted] for part in parts))  # type: ignore[arg-type]


def joined(answers: Sequence[Answer]) -> Answer:
    """The answers of one network, one or more, as one."""
    seen = [answer.embeddings for answer in answers if answer.embeddings is not None]
    stages = [answer.stages for answer in answers if answer.stages is not None]
    return Answer(
        np.concatenate([answer.probabilities for answer in answers]),
        np.concatenate(seen) if seen else None,
        np.concatenate(stages) if stages else None,
    )


def in_batches(
    forward: Callable[[NDArray[np.uint8]], Answer], pixels: NDArray[np.uint8], size: int
) -> Answer:
    """The answer for clips ``uint8 (N, T, H, W, 3)`` by forward passes of ``size`` clips each; the
    last one is filled up with black.
    """
    answers = []
    for begin in range(0, len(pixels), size):
        batch = pixels[begin : begin + size]
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.uint8)])
        answers.append(forward(batch).rows(slice(size - missing)))
    return joined(answers)


def question(pixels: NDArray[np.uint8]) -> pa.RecordBatch:
    """Clips ``uint8 (N, T, H, W, 3)`` as a batch of one column."""
    data = pa.py_buffer(np.ascontiguousarray(pixels))
    kind = pa.binary(pixels[0].size)
    return pa.record_batch({"pixels": pa.Array.from_buffers(kind, len(pixels), [None, data])})


def read_question(asked: pa.RecordBatch, clip: ClipSettings) -> NDArray[np.uint8]:
    """The clips of ``question``.

    Raises:
        ValueError: they are none of ``clip``.
    """
    shape = (clip.frames_per_clip, clip.size_px, clip.size_px, 3)
    column = asked["pixels"]
    if column.type != pa.binary(int(np.prod(shape))) or column.null_count:
        raise ValueError(f"{column.type} with {column.null_count} nulls are no clips of {shape}")
    pixels = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, *shape)
    return pixels[column.offset : column.offset + len(column)]


def write_answer(answer: Answer) -> pa.RecordBatch:
    """An ``Answer`` as a batch: a row per clip."""
    columns: dict[str, pa.Array] = {
        "probabilities": pa.array(list(answer.probabilities), pa.list_(pa.float64()))
    }
    if answer.stages is not None:
        columns["stages"] = pa.array(answer.stages)
    if answer.embeddings is not None:
        columns["embeddings"] = pa.array(list(answer.embeddings), pa.list_(pa.float32()))
    return pa.record_batch(columns)


def read_answer(batch: pa.RecordBatch) -> Answer:
    """The ``Answer`` of ``write_answer``."""
    stages = None
    if "stages" in batch.schema.names:
        stages = batch["stages"].to_numpy()
    return Answer(_lists(batch, "probabilities"), _lists(batch, "embeddings"), stages)


def _lists(batch: pa.RecordBatch, name: str) -> Any:
    """A column of lists as ``(N, D)``; None where there is none."""
    if name not in batch.schema.names:
        return None
    return np.stack(batch[name].to_numpy(zero_copy_only=False))
