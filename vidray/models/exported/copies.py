"""Copies on this machine of exported networks in buckets: one for all of its workers.

    CACHE/vidray/exports/KEY/       the files, and their digest
    CACHE/vidray/exports/KEY.lock   locked while somebody looks at the copy, makes or removes it
    CACHE/vidray/exports/KEY.used   locked, together with others, by each process that uses it

The key is of the address and of the fingerprints there, so a folder that changes gets another copy.
A copy is in place at once and whole; it is looked at each time before it is used. The oldest that
nobody uses go.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidray import storage

_DIGEST = "sha256"
_DRAFT = ".draft"
_PIECE_BYTES = 4 << 20
# Copies that are kept besides those in use: a night labels with one network, or with two.
_MOST_UNUSED = 4
# Copies that this process uses, each with its lock, which ends with the process.
_held: dict[str, int] = {}


def copied(uri: str, files: Sequence[str]) -> Path:
    """A private folder of this machine with a copy of some files of a folder in a bucket.

    It stays as long as this process lives.

    Raises:
        VideoError: a file cannot be read.
        OSError: the disk is full.
    """
    cache, key = _cache(), _key(uri, files)
    folder = cache / key
    with _locked(cache / f"{key}.lock"):
        if not _is_whole(folder, files):
            _copy(uri, files, folder)
        os.utime(folder)  # It is the last to go.
        if key not in _held:
            _held[key] = _opened(cache / f"{key}.used")
            fcntl.flock(_held[key], fcntl.LOCK_SH)
    _remove_unused(cache, keep=key)
    # Replaced while it was copied: what was copied may be of both.
    return folder if _key(uri, files) == key else copied(uri, files)


def found(uri: str, files: Sequence[str]) -> Path | None:
    """The copy that this process uses, if there is one and the files in the bucket are still those
    that were copied.
    """
    key = _key(uri, files) if _held else ""
    return _cache() / key if key in _held else None


def _cache() -> Path:
    """The folder of copies. What lies there is run, so nobody else may write into it."""
    home = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home.
        folder = (Path(home) if home else Path.home() / ".cache") / "vidray" / "exports"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(folder):
            return folder
    folder = Path(tempfile.gettempdir()) / f"vidray-exports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"{folder} is another user's, or others may write into it: remove it")
    return folder


def _is_private(folder: Path) -> bool:
    """Whether it is a folder of this user's, and no link, for nobody else to write into."""
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and os.access(folder, os.W_OK | os.X_OK)
    )


def _key(uri: str, files: Sequence[str]) -> str:
    digest = hashlib.sha256(storage.canonical(uri).encode())
    for name in files:
        info = storage.file_info(storage.join(storage.canonical(uri), name))
        digest.update(f"\n{name} {info.size_bytes} {info.fingerprint}".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until nobody else, here or in another process, holds the lock."""
    while True:
        descriptor = _opened(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        os.close(descriptor)  # Whoever removed the copy removed its lock, too.
    try:
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _copy(uri: str, files: Sequence[str], folder: Path) -> None:
    """Copy files, in one step as others see it."""
    for left in folder.parent.glob(f"{folder.name}.*{_DRAFT}"):  # Of a process that was killed.
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=_DRAFT, dir=folder.parent))
    try:
        for name in files:
            where = storage.join(storage.canonical(uri), name)
            info = storage.file_info(where)
            with (
                storage.open_binary(where, size_bytes=info.size_bytes) as source,
                (draft / name).open("wb") as target,
            ):
                shutil.copyfileobj(source, target, _PIECE_BYTES)
        (draft / _DIGEST).write_text(_digest(draft, files))
        shutil.rmtree(folder, ignore_errors=True)  # A damaged one.
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _is_whole(folder: Path, files: Sequence[str]) -> bool:
    """Whether a copy holds what was copied."""
    try:
        return (folder / _DIGEST).read_text() == _digest(folder, files)
    except (OSError, ValueError):
        return False


def _digest(folder: Path, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        digest.update(f"{name} {(folder / name).stat().st_size}\n".encode())
        with (folder / name).open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()


def _remove_unused(cache: Path, *, keep: str) -> None:
    """Remove the oldest copies that no process uses."""
    there = []
    for folder in cache.iterdir():
        with contextlib.suppress(OSError):
            if folder.is_dir() and folder.name != keep and folder.suffix != _DRAFT:
                there.append((folder.stat().st_mtime, folder))
    for _, folder in sorted(there, reverse=True)[_MOST_UNUSED:]:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a copy, unless a process uses it."""
    lock, used = folder.with_name(f"{folder.name}.lock"), folder.with_name(f"{folder.name}.used")
    with contextlib.suppress(OSError), lock.open("rb+") as locked, used.open("rb+") as mine:
        for file in (locked, mine):  # BlockingIOError: it is in use.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        used.unlink()
        lock.unlink()
