"""A check that a job's output lies apart from its input: it would list its own output."""

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
    """A folder's real path with a slash at the end: it begins with that of any folder around it."""
    if not storage.is_bucket(uri):
        return os.path.realpath(storage.canonical(uri)).rstrip("/") + "/"
    protocol, _, path = uri.partition("://")
    return f"{protocol.lower().replace('s3a', 's3')}://{path.strip('/')}/"
