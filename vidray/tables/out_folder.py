"""The folder that a job was given to write into: empty, or filled by a job of the same kind.

Every job asks here first, before it starts Ray or writes anything.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal

from vidray import storage
from vidray.errors import UserError
from vidray.storage import join, without_secrets
from vidray.tables import runs

Kind = Literal["features", "clips", "label", "model", "evaluation", "study", "search"]

# The files of a model folder.
MODEL, WEIGHTS, PIPELINE = "model.json", "weights.safetensors", "pipeline.skops"

_RUN = "run.json"
# What label jobs leave; older ones wrote run.json only after their first commit.
_OF_LABELS = {"labels", "_runs", "_numbers"}


def check(out: str, kind: Kind, *, videos: str | None = None) -> dict[str, Any] | None:
    """run.json of the job of this kind that has the folder; None where it is free.

    Args:
        out: the folder, which need not be there.
        videos: the source that the job lists.

    Raises:
        UserError: it is a file, holds anything else, or lies so that the job would see its output.
    """
    if videos is not None:
        _check_apart(out, videos)
    storage.check_folder(out)
    if not storage.exists(join(out, _RUN)):
        names = storage.list_names(out) if storage.exists(out) else []
        if names and not (kind == "label" and _is_old_label_folder(out, names)):
            found = "a model" if MODEL in names else names[0]
            raise UserError(
                f"{without_secrets(out)} holds {found} but no {_RUN}: choose another --out"
            )
        return None
    try:
        report = runs.read_json(out)
    except UserError:
        report = {}
    if report.get("kind", report.get("table")) != kind:
        raise UserError(f"{without_secrets(out)} holds another job's run: choose another --out")
    return report


def _is_old_label_folder(out: str, names: list[str]) -> bool:
    inside = [
        name
        for folder in _OF_LABELS & set(names) - {"_numbers"}
        for name in storage.list_names(join(out, folder))
    ]
    return set(names) <= _OF_LABELS and all(name.startswith("set=") for name in inside)


def _check_apart(out: str, videos: str) -> None:
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
