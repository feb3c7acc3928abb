"""Requests to buckets: options, retries, listings in pages, conditional puts, deletes.

``uris`` decides, this module talks: S3 through s3fs, page by page where fsspec's own calls
would hold a whole listing or hide errors, any other storage through fsspec alone. Every request
goes through ``call``, so it is sent again where that may help and ends in an ``OSError``.
"""

import functools
import io
import itertools
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import fsspec
import tenacity
from botocore import exceptions as boto
from botocore.utils import parse_timestamp

from vidray.errors import UserError, VideoError
from vidray.masking import has_password, without_secrets
from vidray.storage import disk

_P = ParamSpec("_P")
_R = TypeVar("_R")

# 12 blocks of 4 MiB are kept; with the block in flight and its copies a file stays below 64 MiB.
BLOCK_BYTES = 4 * 2**20
BLOCKS_KEPT = 12
PARALLEL_REQUESTS = 16
_WRITER = "vidray-writer"  # object metadata: distinguishes our own lost put from somebody else's


def connect(protocol: str, **options: Any) -> Any:
    """The fsspec file system of a protocol, connected once per process, thread and endpoint.

    Args:
        options: more of them, for storages other than S3.

    Raises:
        ImportError, ValueError: no library for this protocol is installed, or known.
        Exception: whatever else it raises that cannot connect.
    """
    if protocol not in ("s3", "s3a"):
        return fsspec.filesystem(protocol, **options)
    fs = _s3_filesystem()(**_s3_options())
    # s3fs repeats what botocore repeated already, by default 5 times and in places squared: an
    # endpoint that is down would hold every video for six minutes.
    fs.retries = 2
    if fs.session is None:  # new, and not connected yet
        fs.session = _session()
    return fs


@functools.cache
def _s3_filesystem() -> Any:
    from s3fs import S3FileSystem  # here: only S3 pays its second of import

    class WholeKeys(S3FileSystem):  # type: ignore[misc]
        """S3 with ``?versionId=`` as a part of keys: s3fs asks for what is before it."""

        def split_path(self, path: str) -> tuple[str, str, None]:
            """Bucket, key, and no version."""
            trail = path[len(path.rstrip("/")) :]
            bucket, key = self._find_bucket_key(self._strip_protocol(path).lstrip("/"))
            return bucket, key + trail if key else "", None

    return WholeKeys


def _session() -> Any:
    """A session that reads ISO times with the standard library.

    botocore's own way takes 3/4 of the time of a listing: 20 s of CPU for 100,000 objects.
    """
    from aiobotocore.session import AioSession  # here: only S3 pays its seconds of import

    def parse_time(value: Any) -> datetime:
        try:
            return datetime.fromisoformat(value)
        except (TypeError, ValueError):  # HTTP dates, seconds since 1970
            return cast(datetime, parse_timestamp(value))

    session = AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(
        timestamp_parser=parse_time
    )
    return session


def is_s3(fs: Any) -> bool:
    """Whether the S3 requests of this module work on this file system."""
    return "s3" in fs.protocol


def fingerprint(info: dict[str, Any]) -> str:
    """The storage's own digest of the content where it has one, else size and time."""
    for key in ("ETag", "etag", "md5Hash", "content_md5", "VersionId"):
        if info.get(key):
            return str(info[key]).strip('"')
    times = ("mtime", "LastModified", "Last-Modified", "created")
    changed = next((info[key] for key in times if info.get(key)), 0)
    return f"{info['size']}-{changed}"


def _s3_options() -> dict[str, Any]:
    """Options that are also fsspec's cache key: a changed endpoint gives a new connection."""
    environment = os.environ
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    attempts = environment.get("AWS_MAX_ATTEMPTS", "5")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", attempts):
        raise UserError(f"AWS_MAX_ATTEMPTS is {attempts!r}: a whole number from 1 to 9999")
    retries = {"mode": "standard", "max_attempts": int(attempts)}
    return {
        "endpoint_url": _endpoint("AWS_ENDPOINT_URL_S3") or _endpoint("AWS_ENDPOINT_URL"),
        "client_kwargs": {"region_name": region} if region else {},  # botocore skips AWS_REGION
        "config_kwargs": {"retries": retries, "max_pool_connections": 2 * PARALLEL_REQUESTS},
        "use_listings_cache": False,  # a nightly job must see what came since
        "anon": environment.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "yes", "true"),
    }


def _endpoint(name: str) -> str | None:
    """The address in a variable of the environment, if any."""
    address = os.environ.get(name, "").strip()
    if not address:
        return None
    if has_password(address):
        raise UserError(
            f"{name} holds a user or a password, and requests are signed with keys: leave them "
            "out, and give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    try:
        url = urlsplit(address)
        is_address = url.scheme.lower() in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # Brackets, or a port that is no number.
        is_address = False
    if not is_address or re.search(r"\s", address):
        raise UserError(f"{name} is {address!r}: give it as http://HOST:PORT or https://HOST")
    return address


def _roots(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int:
    """The HTTP status at the root of an error; 0 where there is none."""
    for root in _roots(error):
        if isinstance(root, boto.ClientError):
            return int(root.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if isinstance(status := getattr(root, "status", None), int):  # aiohttp's
            return status
    return 0


def _is_archived(error: BaseException) -> bool:
    """Whether S3 says that an object is in Glacier, and not restored."""
    return any(
        isinstance(root, boto.ClientError)
        and root.response.get("Error", {}).get("Code") == "InvalidObjectState"
        for root in _roots(error)
    )


def _is_transient(error: BaseException) -> bool:
    status = _status(error)
    # 409: two conditional puts at once, of which S3 wants one sent again.
    return status >= 500 or status in (409, 429) or _is_broken(error)


def _is_broken(error: BaseException) -> bool:
    """Whether the connection failed or broke; fsspec calls a web file missing then."""
    broken = (ConnectionError, TimeoutError, boto.HTTPClientError)
    return isinstance(error, broken) or isinstance(error.__cause__, (OSError, *broken))


def call(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """One operation on a storage, tried once more where that may help.

    Raises:
        OSError: whatever the storage's own library raises; FileNotFoundError and PermissionError
            say what they say.
    """
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(2),
        wait=tenacity.wait_random(0.2, 1.0),
        reraise=True,
    )
    try:
        return again(function, *args, **kwargs)
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise PermissionError("no credentials for this storage in the environment") from error
    except OSError:
        raise
    except Exception as error:  # every storage library has its own base class
        raise OSError(f"{type(error).__name__}: {error}") from error


def in_parallel(function: Callable[[Any], _R], items: Iterable[Any]) -> list[_R]:
    """The function of every item, in order, 16 at a time; the first error is raised."""
    results: list[_R] = []
    left = iter(items)
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        # 4096 at a time: a pool holds a kilobyte for each call it was given.
        while batch := list(itertools.islice(left, 4096)):
            results.extend(pool.map(function, batch))
    return results


def read_head(fs: Any, path: str, max_bytes: int) -> bytes:
    """The first ``max_bytes`` of a file, in one request and without asking for its size."""
    try:
        return cast(bytes, call(fs.cat_file, path, start=0, end=max_bytes))
    except OSError as error:
        if _status(error) == 416:  # an empty object has no first byte to ask for
            return b""
        raise


def open_blocks(fs: Any, path: str) -> Any:
    """A seekable fsspec file that keeps ``BLOCKS_KEPT`` blocks in memory."""
    options = {"maxblocks": BLOCKS_KEPT}
    return fs.open(
        path, "rb", block_size=BLOCK_BYTES, cache_type="blockcache", cache_options=options
    )


def video_error(error: OSError) -> VideoError:
    """The ``VideoError`` of a storage failure, for the row of the video."""
    if _is_archived(error):  # s3fs says PermissionError
        return VideoError("archived", "it is in an archive of the storage: restore it first")
    if _status(error) in (401, 403):  # fsspec says FileNotFoundError of a web server's refusal
        return VideoError("denied", "the storage refuses to hand it over")
    said = {
        "missing": "it was listed, but is not there any more",
        "denied": "the storage refuses to hand it over",
        "unreadable": "it is a folder or a device, not a file",
    }
    if (kind := disk.kind_of(error)) in said and _status(error) < 500 and not _is_broken(error):
        return VideoError(kind, said[kind])
    reason = without_secrets(" ".join(str(error).split()))[:300]
    return VideoError("unavailable", f"the storage fails to hand it over: {reason}")


class BlockFile(io.RawIOBase):
    """An fsspec file whose later failures are ``VideoError``, too."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the beginning."""
        return cast(int, self._file.tell())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, which asks for nothing yet."""
        return cast(int, self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the blocks kept, or fetch them. Raises ``VideoError``."""
        try:
            data = call(self._file.read, len(buffer))
        except OSError as error:
            raise video_error(error) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Drop the blocks."""
        if not self.closed:
            self._file.close()
        super().close()


def walk_any(fs: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path below the folder, details) of all files, in any storage, a folder at a time."""
    start = len(path.rstrip("/")) + 1
    for _, _, files in fs.walk(path, detail=True):
        for info in files.values():
            yield info["name"][start:], info


def _s3_pages(fs: Any, path: str, **request: Any) -> Iterator[dict[str, Any]]:
    """Pages of up to 1000 objects below a prefix (fsspec's own listing holds all of them)."""
    bucket, key, _ = fs.split_path(path)
    request |= {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    while True:
        page = call(fs.call_s3, "list_objects_v2", **request)
        yield page
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def s3_files(fs: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path below the folder, details) of all objects, a page at a time."""
    for page in _s3_pages(fs, path):
        for found in page.get("Contents", []):
            relative = found["Key"][len(page.get("Prefix", "")) :]
            if relative and not relative.endswith("/"):  # consoles make "folder/" objects
                yield relative, {"ETag": found["ETag"], "size": found["Size"]}


def s3_is_folder(fs: Any, path: str) -> bool:
    """Whether the path is a bucket, or an object lies below it."""
    if not fs.split_path(path)[1]:
        return bool(call(fs.info, path)["type"] == "directory")
    try:
        page = next(_s3_pages(fs, path, MaxKeys=1))
    except FileNotFoundError:  # no such bucket
        return False
    return bool(page.get("Contents"))


def s3_names(fs: Any, path: str) -> list[str]:
    """Names directly below a prefix, the first page of them (up to 1000)."""
    page = next(_s3_pages(fs, path, Delimiter="/"))
    folders = [found["Prefix"] for found in page.get("CommonPrefixes", [])]
    files = [found["Key"] for found in page.get("Contents", []) if not found["Key"].endswith("/")]
    return [key.rstrip("/").rpartition("/")[2] for key in folders + files]


def put_once(fs: Any, path: str, data: bytes) -> bool:
    """Create an object unless it is there; whether this call did."""
    ours = uuid.uuid4().hex
    extra = {"Metadata": {_WRITER: ours}} if is_s3(fs) else {}
    try:
        call(fs.pipe_file, path, data, mode="create", **extra)
        return True
    except OSError as error:
        if not isinstance(error, FileExistsError) and _status(error) != 412:
            raise
    if not extra:
        return False
    # A put whose answer was lost is sent again and then meets itself: the object says whose it is.
    bucket, key, _ = fs.split_path(path)
    try:
        head = call(fs.call_s3, "head_object", Bucket=bucket, Key=key)
    except FileNotFoundError:  # theirs, and removed since
        return False
    return bool(head.get("Metadata", {}).get(_WRITER) == ours)


def s3_remove(fs: Any, path: str) -> None:
    """Deletes in pages of 1000; s3fs's own ``rm`` hides what the server could not delete."""
    bucket, key, _ = fs.split_path(path)
    if key:
        call(fs.call_s3, "delete_object", Bucket=bucket, Key=key)
    for page in _s3_pages(fs, path):
        keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
        if not keys:
            continue
        delete = {"Objects": keys, "Quiet": True}
        answer = call(fs.call_s3, "delete_objects", Bucket=bucket, Delete=delete)
        for failed in answer.get("Errors", [])[:1]:
            raise OSError(f"cannot delete {failed.get('Key')}: {failed.get('Code')}")
