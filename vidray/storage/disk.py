"""Files of this machine: a walk that survives links and pipes, and writes that survive a kill."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

logger = logging.getLogger(__name__)


def kind_of(error: OSError) -> str:
    """The error kind of a file that cannot be looked at or opened."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing"
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):  # Nothing can be behind such a name.
        return "missing"
    if isinstance(error, PermissionError):
        return "denied"
    return "unreadable" if isinstance(error, IsADirectoryError) else "unavailable"


def size_and_fingerprint(path: str) -> tuple[int, str]:
    """Size in bytes, and size with the time of the last change in ns: changes with the content.

    Raises:
        OSError: missing, denied, a folder, or a pipe or device, which may never end.
    """
    try:
        found = os.stat(path)
    except ValueError:  # NUL
        raise FileNotFoundError(errno.ENOENT, "no name holds a NUL byte") from None
    if not stat.S_ISREG(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, a pipe or a device", path)
    return found.st_size, f"{found.st_size}-{found.st_mtime_ns}"


def open_file(path: str) -> BinaryIO:
    """A regular file to read from. Raises OSError as ``size_and_fingerprint`` does."""
    size_and_fingerprint(path)  # Opening a pipe would wait for a writer.
    return open(path, "rb")


def walk(folder: str, hidden: bool) -> Iterator[tuple[str, int, str]]:
    """(path, size in bytes, fingerprint) of all files below a folder, folder by folder, by name.

    What cannot be looked at has size 0 and, for fingerprint, the kind of error. Folders that cannot
    be read are passed over; one warning at the end counts and names them. Links to folders are
    followed, but not back to a folder they are in, and behind a link each folder only once more:
    twenty folders of links to each other are a million paths.

    Args:
        hidden: also those hidden by their own name (".") or a folder's ("." or "_").

    Raises:
        OSError: the folder itself cannot be read. One that is not there has no files.
    """
    try:
        walk = _Walk(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in walk.entries():
        if _is_folder(entry):
            if hidden or not entry.name.startswith(("_", ".")):
                walk.enter(entry)
        elif hidden or not entry.name.startswith("."):
            yield from _describe(entry)
    if walk.passed:
        names = _printable("; ".join(walk.passed[:3]))
        more = f"; and {len(walk.passed) - 3} more" if len(walk.passed) > 3 else ""
        logger.warning("folders passed over: %d: %s%s", len(walk.passed), names, more)


class _Walk:
    """Folders within folders, as a stack: they may be nested more deeply than functions may call.

    Attributes:
        passed: what was not entered, and why.
    """

    def __init__(self, folder: str) -> None:
        self.passed: list[str] = []
        here, entries = _read(folder)
        # Of each folder that we are in: which one it is, its entries left, whether behind a link.
        self._stack = [(here, entries, False)]
        self._above = {here}
        self._behind_links: set[_Id] = set()

    def entries(self) -> Iterator["os.DirEntry[str]"]:
        """The entries of the folder entered last, then of its parents."""
        while self._stack:
            here, entries, _ = self._stack[-1]
            entry = next(entries, None)
            if entry is not None:
                yield entry
            else:
                self._above.discard(here)
                self._stack.pop()

    def enter(self, entry: "os.DirEntry[str]") -> None:
        """Go on with the entries of this folder, unless it cannot be read or was read before."""
        try:
            here, entries = _read(entry.path)
        except FileNotFoundError:  # deleted this moment
            return
        except OSError as error:
            self.passed.append(f"{entry.path} ({error.strerror})")
            return
        if here in self._above:
            return
        is_link, was_behind_link = entry.is_symlink(), self._stack[-1][2]
        if is_link and was_behind_link:
            if here in self._behind_links:
                self.passed.append(f"{entry.path} (a link to a folder that was read already)")
                return
            self._behind_links.add(here)
        self._above.add(here)
        self._stack.append((here, entries, is_link or was_behind_link))


_Id = tuple[int, int]  # device and inode


def _read(folder: str) -> tuple[_Id, Iterator["os.DirEntry[str]"]]:
    found = os.stat(folder)
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    return (found.st_dev, found.st_ino), iter(ordered)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, a link through a file or into a locked folder
        return False


def _describe(entry: "os.DirEntry[str]") -> Iterator[tuple[str, int, str]]:
    try:
        found = entry.stat()
    except OSError as error:  # not to be looked at, or deleted this moment: still an input
        yield entry.path, 0, kind_of(error)
        return
    if stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        yield entry.path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}"


def _printable(text: str) -> str:
    """Names of files as a terminal may be shown them: one line, and no control characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextlib.contextmanager
def draft(target: str, data: bytes) -> Iterator[str]:
    """The data, safe on disk under a hidden name beside ``target``, and gone afterwards."""
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    with _locked_draft(folder) as file:
        try:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                error.filename = error.filename or target  # A full disk does not say which.
                raise
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
    """Sync a folder: otherwise a power cut can undo a rename that was reported as done."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
