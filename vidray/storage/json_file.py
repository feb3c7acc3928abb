"""Small JSON files of ours (run.json and the like), which somebody may have damaged since."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vidray import storage
from vidray.errors import UserError


def read(uri: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: it is damaged, or holds something else.
        OSError: it cannot be read.
    """
    where = storage.without_secrets(uri)
    try:
        values = json.loads(storage.read_bytes(uri))
    except (ValueError, RecursionError, IsADirectoryError) as error:  # Or brackets without end.
        raise UserError(
            f"{where} is damaged ({error}): put it back, or choose another folder"
        ) from None
    if not isinstance(values, dict):
        raise UserError(
            f"{where} holds {type(values).__name__} where an object is due: put it back, or choose "
            "another folder"
        )
    return values


def write_json(uri: str, values: Any) -> None:
    """Write anything JSON can hold, and dataclasses."""
    text = json.dumps(values, indent=2, default=dataclasses.asdict) + "\n"
    storage.write_bytes(uri, text.encode())
