"""Whole folders: published from a draft, removed where proven ours; local or in a bucket."""

import os
import shutil
from pathlib import Path

from vidray.errors import UserError
from vidray.masking import without_secrets
from vidray.storage import buckets, disk
from vidray.storage.addresses import (
    canonical,
    is_bucket,
    local_path,
    name_of,
    parent_of,
    protocol_of,
)
from vidray.storage.uris import filesystem, list_files


def remove_tree(uri: str, *, inside: str) -> None:
    """Remove a file, or a folder and all that is in it; nothing there is no error.

    Args:
        inside: the folder that was given to be written into: nothing else is ever removed.

    Raises:
        UserError: ``uri`` does not lie below ``inside`` once links are followed.
    """
    _check_below(uri, inside)
    if not is_bucket(uri):
        path = local_path(uri)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)
        return
    fs, path = filesystem(uri)
    if buckets.is_s3(fs):
        buckets.s3_remove(fs, path)
    elif buckets.call(fs.exists, path):
        buckets.call(fs.rm, path, recursive=True)


def _check_below(uri: str, folder: str) -> None:
    """Raise UserError unless ``uri`` is strictly below ``folder``. The last link is not followed:
    what would be removed is the link.
    """
    are_buckets = is_bucket(uri), is_bucket(folder)
    if not any(are_buckets):
        head, name = os.path.split(local_path(uri))
        found = os.path.join(os.path.realpath(head), name)
        base = os.path.realpath(local_path(folder))
    else:
        found, base = (filesystem(which)[1].rstrip("/") for which in (uri, folder))
    below = found.removeprefix(base.rstrip("/") + "/")
    is_other_storage = any(are_buckets) and protocol_of(uri) != protocol_of(folder)
    if is_other_storage or below == found or {"", ".", ".."} & set(below.split("/")):
        raise UserError(
            f"{without_secrets(uri)} is not inside {without_secrets(folder)}, so it is not "
            "removed: a link or a name there leads out of it; take it away"
        )


def remove_drafts(folder: str) -> None:
    """Remove what writers that were killed left directly in a folder; in a bucket they leave
    nothing.
    """
    if not is_bucket(folder):
        disk.remove_drafts(local_path(folder))


def publish(from_uri: str, to_uri: str) -> None:
    """Move a finished folder to where its readers look; run again after a kill, it completes.

    Local: one rename, so both must be on the same disk. Bucket: server-side copies in parallel,
    names that start with "_" (``_SUCCESS``) after all others, and then the source is deleted.

    Raises:
        FileNotFoundError: neither folder holds anything.
        FileExistsError: local only, both do.
    """
    source, target = canonical(from_uri), canonical(to_uri)
    if protocol_of(source) != protocol_of(target):
        raise ValueError(f"cannot publish from {source} to another storage, {target}")
    if not is_bucket(source):
        disk.rename_folder(source, target)
        return
    if source == target:
        raise ValueError(f"cannot publish {without_secrets(source)} to itself")
    copied = _copy_all(source, target)
    if not copied and next(list_files(target, hidden=True), None) is None:
        raise FileNotFoundError(f"nothing to publish in {without_secrets(source)}")
    remove_tree(source, inside=parent_of(source))


def _copy_all(source: str, target: str) -> int:
    fs, _ = filesystem(source)
    names = [info.uri[len(source) + 1 :] for info in list_files(source, hidden=True)]
    last = [name for name in names if name_of(name).startswith("_")]

    def copy(name: str) -> None:
        paths = (fs._strip_protocol(f"{folder}/{name}") for folder in (source, target))
        buckets.call(fs.cp_file, *paths)

    buckets.in_parallel(copy, [name for name in names if not name_of(name).startswith("_")])
    buckets.in_parallel(copy, last)
    return len(names)
