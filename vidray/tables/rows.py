"""Rows of a result table: one video's values, or the reason why there are none. No Ray here."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vidray.errors import ERROR_KINDS, ModelError, VideoError
from vidray.masking import without_secrets
from vidray.storage import addresses

# Values of one row by column; columns left out are null.
Values = Mapping[str, Any]


class Stopwatch:
    """Seconds by stage: ``with clock("decode"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the seconds until the block ends, also when it ends with an error."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


def made_by(
    work: Callable[[Stopwatch], Sequence[Values]],
    video: Mapping[str, Any],
    schema: pa.Schema,
    digest: str,
) -> pa.RecordBatch:
    """The rows ``work`` gives for one VIDEOS row; whatever is wrong with the video is in its row.

    Only MemoryError and ModelError are raised: the caller knows how much memory was allowed
    (``Sandbox`` does), and a model's fault is no video's.
    The batch's schema metadata holds ``seconds``: JSON, stage -> seconds.

    Args:
        video: its ``fingerprint`` may be the reason why it must not be opened (``lookup``), and
            ``address``, if it has one, is what is fetched for its ``uri``.
    """
    clock = Stopwatch()
    kind, is_refused, reason = str(video.get("fingerprint")).partition(": ")
    if video.get("address"):
        addresses.remember(video["uri"], video["address"])
    try:
        if is_refused and kind in ERROR_KINDS:
            raise VideoError(kind, reason)
        rows = _batch([{**video, "status": "ok", **row} for row in work(clock)], schema, digest)
    except VideoError as error:
        rows = failed(video, schema, digest, error)
    except (MemoryError, ModelError):
        raise
    except Exception as unexpected:  # One bad video costs one row: it says why.
        if _is_for_memory(unexpected):
            raise MemoryError(str(unexpected)) from unexpected
        said = without_secrets(" ".join(str(unexpected).split()))[:300]
        message = f"unexpected {type(unexpected).__name__}: {said}"
        rows = failed(video, schema, digest, VideoError("crashed", message))
    return rows.replace_schema_metadata({"seconds": json.dumps(clock.seconds)})


def _is_for_memory(error: Exception) -> bool:
    """OpenCV and PyTorch have errors of their own for what NumPy calls a MemoryError."""
    said = str(error)
    return "Insufficient memory" in said or "can't allocate memory" in said


def failed(
    video: Mapping[str, Any], schema: pa.Schema, digest: str, error: VideoError
) -> pa.RecordBatch:
    """The one row of a video that gave nothing, with the reason, from which secrets are taken."""
    reason: dict[str, Any] = {
        "status": "failed",
        "error_kind": error.kind,
        "error_message": without_secrets(error.message),
    }
    if error.cap is not None:
        reason |= {"cap": error.cap.name, "cap_value": float(error.cap.value)}
    return _batch([{**video, **reason}], schema, digest)


def _batch(rows: Sequence[Values], schema: pa.Schema, digest: str) -> pa.RecordBatch:
    full = [{**row, "config_digest": digest} for row in rows]
    columns = [_column([row.get(field.name) for row in full], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if all(isinstance(value, np.ndarray) for value in values):
        flat = pa.array(np.concatenate(values), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(values, kind)
