"""Files of this machine: a walk that survives links and pipes, and writes that survive a kill."""

import contextlib
import errno
import fcntl
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def size_and_fingerprint(path: str) -> tuple[int, str]:
    """Size in bytes, and size with the time of the last change in ns: changes with the content.

    Raises:
        OSError: missing, denied, or a folder.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(path)
    return found.st_size, f"{found.st_size}-{found.st_mtime_ns}"


def walk(
    folder: str, hidden: bool, above: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[str, int, str]]:
    """(path, size in bytes, fingerprint) of all files below a folder, folder by folder, by name.

    Args:
        hidden: also those hidden by their own name (".") or a folder's ("." or "_").
        above: (device, inode) of the folders above this one, so that a link back ends the walk.
    """
    try:
        here = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    if (here.st_dev, here.st_ino) in above:
        return
    for entry in entries:
        if entry.is_dir():
            if hidden or not entry.name.startswith(("_", ".")):
                yield from walk(entry.path, hidden, (*above, (here.st_dev, here.st_ino)))
        elif hidden or not entry.name.startswith("."):
            yield from _describe(entry)


def _describe(entry: "os.DirEntry[str]") -> Iterator[tuple[str, int, str]]:
    try:
        found = entry.stat()
    except FileNotFoundError:  # a link to nothing, or deleted this moment: still an input
        yield entry.path, 0, "missing"
        return
    if stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        yield entry.path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}"


@contextlib.contextmanager
def draft(target: str, data: bytes) -> Iterator[str]:
    """The data, safe on disk under a hidden name beside ``target``, and gone afterwards."""
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    with _locked_draft(folder) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            yield file.name
            _sync_folder(folder)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _locked_draft(folder: str) -> IO[bytes]:
    """A new file, locked while its writer lives: ``remove_drafts`` sees by that whether it does."""
    while True:
        # open() rather than tempfile: the usual permissions, so that others may read the result.
        path = os.path.join(folder, f".{uuid.uuid4().hex}.draft")
        file = open(path, "xb")  # noqa: SIM115  Handed on, to be closed there.
        with contextlib.suppress(OSError):  # A file system without locks: no draft is removed.
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # It was taken for one of a dead process before it was locked.


def is_draft(name: str) -> bool:
    """Whether ``draft`` gives such a name."""
    return re.fullmatch(r"\.[0-9a-f]+\.draft", name) is not None


def remove_drafts(folder: str) -> None:
    """Remove the drafts directly in a folder whose writers were killed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if is_draft(entry.name) and entry.is_file(follow_symlinks=False):
                # BlockingIOError: its writer lives, here or on another machine.
                with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)


def rename_folder(source: str, target: str) -> None:
    """Rename in one step; done already is no error.

    Raises:
        FileNotFoundError: neither folder is there.
        FileExistsError: both are, and the target is not empty.
    """
    if not os.path.isdir(source):
        if os.path.isdir(target):  # a run that was killed after the rename
            return
        raise FileNotFoundError(f"nothing to publish in {source}")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(f"cannot publish to {target}: it is not empty") from error
        raise
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    """Without it a power cut can undo a rename that was reported as done."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
