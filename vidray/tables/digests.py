"""Digests: short names of settings, equal where the settings are."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def of(values: Any) -> str:
    """Twelve hex digits that change when ``values`` (anything JSON can hold) do."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
