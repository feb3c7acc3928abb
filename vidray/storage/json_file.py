"""Small JSON files of ours (run.json and the like), which somebody may have damaged since."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vidray import storage


def read(uri: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: it is damaged, or holds something else.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(storage.read_bytes(uri))
    except (ValueError, RecursionError, IsADirectoryError) as error:  # Or brackets without end.
        raise storage.damaged(uri, str(error)) from None
    if not isinstance(values, dict):
        raise storage.damaged(uri, f"it holds {type(values).__name__}, not an object")
    return values


def to_bytes(values: Any) -> bytes:
    """The text of anything JSON can hold, and of dataclasses."""
    return (json.dumps(values, indent=2, default=dataclasses.asdict) + "\n").encode()


def write_json(uri: str, values: Any) -> None:
    """Write anything JSON can hold, and dataclasses."""
    storage.write_bytes(uri, to_bytes(values))
