"""Files in folders and buckets behind one set of small functions over URIs.

A URI is a local path or anything fsspec opens (``s3://bucket/key``). S3 takes its endpoint, region
and credentials from the usual environment (``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_PROFILE``,
...); none of them is ever printed. A request that meets throttling, a 5xx or a broken connection is
sent again: five times by botocore's standard retry mode (``AWS_MAX_ATTEMPTS`` changes that), then
the whole operation once more.

Unless said otherwise, functions raise ``FileNotFoundError``, ``PermissionError`` or another
``OSError``; those that read one video raise ``VideoError``, which becomes the row of that video.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec

from vidray.errors import UserError, VideoError
from vidray.masking import without_secrets
from vidray.storage import addresses, buckets, disk
from vidray.storage.addresses import (
    canonical,
    is_bucket,
    local_path,
    local_uri,
    name_of,
    protocol_of,
)

# Half of short clips are below 0.4 MiB and nearly all below 16 MiB: one GET then costs less than
# the size, the header and several blocks asked for apart.
WHOLE_FILE_BYTES = 16 * 2**20


class FileInfo(NamedTuple):
    """One file: its URI, its size, and a fingerprint that changes when the content does."""

    uri: str
    size_bytes: int
    fingerprint: str


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path on it.

    File systems are cached by fsspec per process and thread, so asking again is free, also after
    a fork.

    Raises:
        UserError: no library is installed for the URI's protocol.
    """
    if not is_bucket(uri):
        return fsspec.filesystem("file"), local_path(uri)
    address, protocol = addresses.fetched(uri), protocol_of(uri)
    addresses.check(uri)
    try:
        # A signature is of the address as it is written.
        fs = buckets.connect(protocol, **({"encoded": True} if address != uri else {}))
    except UserError:
        raise
    except Exception as error:  # fsspec has a hundred file systems, each with its own errors
        raise UserError(_cannot_open(protocol, error)) from error
    return fs, cast(str, fs._strip_protocol(address))


def _cannot_open(protocol: str, error: Exception) -> str:
    library = addresses.LIBRARIES.get(protocol)
    if library and isinstance(error, ImportError):
        return (
            f"{protocol}:// addresses need a library that is not installed: pip install {library}"
        )
    reason = without_secrets(" ".join(str(error).split()))[:200]
    return f"cannot open {protocol[:40]}:// addresses: {reason}"


def check_folder(out: str) -> None:
    """Raise UserError where a file is in the place of a folder to write into."""
    if exists(out) and not is_folder(out):
        raise UserError(f"{without_secrets(out)} is a file: --out must name a folder")


def check_file(out: str, noun: str) -> None:
    """Raise UserError where a file cannot be written: a folder has its name, or a file is above it.

    Args:
        noun: what it is, as ``a JSON file``.
    """
    shown, above = without_secrets(out), addresses.parent_of(out)
    if is_folder(out) and not is_bucket(out):
        raise UserError(f"--out is {shown}, a folder: give the name of {noun}")
    if exists(above) and not is_folder(above):
        raise UserError(f"--out is {shown}, but {without_secrets(above)} is a file")


def exists(uri: str) -> bool:
    """Whether a file, or a folder with something in it, is there."""
    if not is_bucket(uri):
        return os.path.lexists(local_path(uri))
    fs, path = filesystem(uri)
    try:
        buckets.call(fs.info, path)
    except FileNotFoundError:
        return False
    return True


def is_dead_link(uri: str) -> bool:
    """Whether a link to nothing is there: no file can be read or created under its name."""
    path = "" if is_bucket(uri) else local_path(uri)
    return os.path.islink(path) and not os.path.exists(path)


def is_folder(uri: str) -> bool:
    """Whether ``uri`` is a folder (in a bucket: whether an object lies below it)."""
    if not is_bucket(uri):
        return os.path.isdir(local_path(uri))
    fs, path = filesystem(uri)
    if buckets.is_s3(fs):  # also beside an object of the very same name
        return buckets.s3_is_folder(fs, path)
    try:
        return bool(buckets.call(fs.info, path)["type"] == "directory")
    except FileNotFoundError:
        return False


def list_names(uri: str) -> list[str]:
    """The names directly in a folder, sorted, without hidden ones; at most the first 1000."""
    if not is_bucket(uri):
        names = os.listdir(local_path(uri))
    else:
        fs, path = filesystem(uri)
        if buckets.is_s3(fs):
            names = buckets.s3_names(fs, path)
        else:
            names = [name_of(found) for found in buckets.call(fs.ls, path, detail=False)]
    return sorted(name for name in names if not name.startswith("."))[:1000]


def list_files(uri: str, *, hidden: bool = False) -> Iterator[FileInfo]:
    """Every file below a folder, one at a time.

    Left out unless ``hidden``: files whose name starts with ".", and all below a folder whose name
    starts with "_" or ".". Links to folders are followed. What cannot be looked at (a link to
    nothing, a denied file) is listed with size 0 and, for fingerprint, the kind of error. A folder
    that is not there has no files; one below it that cannot be read is passed over with a warning.

    100,000 files: one page of 1000 in memory for S3, one folder for local disks.
    """
    root = canonical(uri)
    if not is_bucket(root):
        for path, size_bytes, fingerprint in disk.walk(local_path(root), hidden):
            # Most are ASCII, and a call for each is 5 % of a listing.
            uri = path if path.isascii() else local_uri(path)
            yield FileInfo(uri, size_bytes, fingerprint)
        return
    fs, path = filesystem(root)
    pages = buckets.s3_files(fs, path) if buckets.is_s3(fs) else buckets.walk_any(fs, path)
    for relative, info in pages:
        if hidden or not _is_hidden(relative):
            yield FileInfo(f"{root}/{relative}", int(info["size"]), buckets.fingerprint(info))


def file_info(uri: str) -> FileInfo:
    """Size and fingerprint of one file.

    Raises:
        VideoError: ``missing``, ``denied``, ``unavailable``, or ``unreadable`` (a folder).
    """
    return _file_info(uri, *_filesystem_of_video(uri))


def file_infos(uris: Iterable[str]) -> list[FileInfo]:
    """``file_info`` of many files in parallel; a file without one has size 0 and, for fingerprint,
    the kind of error (``missing``, ``denied``, ``unavailable``, ``unreadable``); where no library
    opens its address, the kind, a colon and the reason.
    """

    def info(opened: tuple[str, Any, str]) -> FileInfo:
        uri, fs, path = opened
        if fs is None:
            return FileInfo(uri, 0, f"unavailable: {path}")
        try:
            return _file_info(uri, fs, path)
        except VideoError as error:
            return FileInfo(uri, 0, error.kind)

    # The file systems are asked for in this thread: in each other one, fsspec would connect anew.
    opened = [(uri, *_filesystem_or_reason(uri)) for uri in uris]
    if not any(is_bucket(uri) for uri, _, _ in opened):
        return list(map(info, opened))  # 100,000 local files: faster than handing them to threads
    return buckets.in_parallel(info, opened)


def open_binary(uri: str, *, size_bytes: int | None = None) -> BinaryIO:
    """A seekable file to decode from, straight from where it is.

    Bucket files up to 16 MiB come whole in one GET. Bigger ones come in blocks of 4 MiB, of which
    12 are kept: below 64 MiB of memory whatever the size of the file, as long as it is read in
    small pieces. A file that changes while it is read is an error, never a mixture.

    Args:
        size_bytes: the size where known, which saves one request for bigger files.

    Raises:
        VideoError: ``missing``, ``denied`` or ``unavailable``, here or at any later read.
    """
    try:
        if not is_bucket(uri):
            return disk.open_file(local_path(uri))
        fs, path = _filesystem_of_video(uri)
        if size_bytes is None or size_bytes <= WHOLE_FILE_BYTES:
            head = buckets.read_head(fs, path, WHOLE_FILE_BYTES)
            if len(head) < WHOLE_FILE_BYTES:
                return io.BytesIO(head)
        return cast(BinaryIO, buckets.BlockFile(buckets.call(buckets.open_blocks, fs, path)))
    except OSError as error:
        raise buckets.video_error(error) from error


def read_heads(uris: Sequence[str], size_bytes: int) -> list[bytes]:
    """The first bytes of many files, in parallel; empty for one that cannot be read."""

    def head(opened: tuple[str, Any, str]) -> bytes:
        uri, fs, path = opened
        try:
            if is_bucket(uri):
                return buckets.read_head(fs, path, size_bytes)
            with disk.open_file(path) as file:
                return file.read(size_bytes)
        except OSError:
            return b""

    return buckets.in_parallel(head, [(uri, *filesystem(uri)) for uri in uris])


@contextlib.contextmanager
def opened(uri: str, size_bytes: int | None = None) -> Iterator[str | BinaryIO]:
    """The source for a decoder: a local path as it is, a file in a bucket by ``open_binary``.

    Raises:
        VideoError: as ``open_binary``.
    """
    if not is_bucket(uri) and not uri.startswith("file://"):
        open_binary(uri).close()  # What decoders say of a file that they may not open differs.
        yield uri
        return
    with open_binary(uri, size_bytes=size_bytes) as file:
        yield file


def read_bytes(uri: str) -> bytes:
    """The content of one small file. Raises ``FileNotFoundError`` or another ``OSError``."""
    if not is_bucket(uri):
        with disk.open_file(local_path(uri)) as file:
            return file.read()
    fs, path = filesystem(uri)
    return cast(bytes, buckets.call(fs.cat_file, path))


def write_bytes(uri: str, data: bytes) -> None:
    """Write one file so that a reader sees all of it, the old one or none, whatever happens."""
    if is_bucket(uri):
        fs, path = filesystem(uri)
        buckets.call(fs.pipe_file, path, data)
        return
    path = local_path(uri)
    with disk.draft(path, data) as draft:
        os.replace(draft, path)


def write_once(uri: str, data: bytes) -> bool:
    """Create one file unless it is there: True for exactly one of any number of writers.

    S3: a conditional put (If-None-Match), which AWS, MinIO and R2 honour; a store that ignores
    the condition lets the last writer win. An answer that was lost and a put that is sent again
    still give True to the writer whose data is there.
    """
    if is_bucket(uri):
        return buckets.put_once(*filesystem(uri), data)
    path = local_path(uri)
    with disk.draft(path, data) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    return True


def _is_hidden(relative: str) -> bool:
    *folders, name = relative.split("/")
    # "." and ".." are no folders in a bucket, but names like any other.
    return name.startswith(".") or any(
        folder.startswith(("_", ".")) and folder not in (".", "..") for folder in folders
    )


# Reading


def _filesystem_or_reason(uri: str) -> tuple[Any, str]:
    """``filesystem``, or None and the reason why nothing opens the address."""
    try:
        return filesystem(uri)
    except UserError as error:
        return None, str(error)


def _filesystem_of_video(uri: str) -> tuple[Any, str]:
    fs, path = _filesystem_or_reason(uri)
    if fs is None:
        raise VideoError("unavailable", path)
    return fs, path


def _file_info(uri: str, fs: Any, path: str) -> FileInfo:
    try:
        if not is_bucket(uri):
            return FileInfo(uri, *disk.size_and_fingerprint(path))
        info = buckets.call(fs.info, path)
        if info["type"] == "directory":
            raise IsADirectoryError(path)
        size_bytes = int(info["size"] or 0)  # A web server may leave it out.
        return FileInfo(uri, size_bytes, buckets.fingerprint(info))
    except OSError as error:
        raise buckets.video_error(error) from error
