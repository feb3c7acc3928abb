"""The files of a model folder by name, and what its model.json says. No PyTorch: a driver that only
lists and compares must not load it.
"""

from __future__ import annotations

import json
from typing import Any

from vidray import storage
from vidray.errors import UserError

MODEL, WEIGHTS, PIPELINE = "model.json", "weights.safetensors", "pipeline.skops"


def read_info(model_dir: str) -> dict[str, Any]:
    """model.json of a model folder, local or in a bucket.

    Raises:
        UserError: there is none.
    """
    where = storage.join(storage.canonical(model_dir), MODEL)
    if not storage.exists(where):
        raise UserError(
            f"{storage.without_secrets(model_dir)} is not a model folder (no {MODEL}): make one "
            "with jobs/train.py"
        )
    info: dict[str, Any] = json.loads(storage.read_bytes(where))
    return info
