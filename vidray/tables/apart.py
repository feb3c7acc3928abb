"""Where a job writes must lie apart from what it lists, or it would see its own output."""

from __future__ import annotations

import os
import re

from vidray import storage
from vidray.errors import UserError
from vidray.storage import without_secrets


def check_apart(out: str, videos: str) -> None:
    """Raise UserError where a job that lists ``videos`` might take what it writes for input."""
    fixed = re.split(r"/(?=[^/]*[*?\[])", videos, maxsplit=1)[0] or "/"
    if fixed != videos and storage.exists(videos):
        fixed = videos  # A folder with brackets in its name.
    source, target = _resolved(fixed), _resolved(out)
    if source == target:
        how = "is --videos itself"
    elif target.startswith(source) and fixed == videos:  # A glob says what it takes.
        how = "lies inside --videos"
    elif source.startswith(target):
        how = "lies around --videos"
    else:
        return
    raise UserError(
        f"--out {without_secrets(out)} {how}, and the job would see what it writes: choose an "
        "--out beside it"
    )


def _resolved(uri: str) -> str:
    """Links followed, and a slash at the end: one folder is inside another if it begins with it."""
    if not storage.is_bucket(uri):
        return os.path.realpath(storage.canonical(uri)).rstrip("/") + "/"
    protocol, _, path = uri.partition("://")
    return f"{protocol.lower().replace('s3a', 's3')}://{path.strip('/')}/"
