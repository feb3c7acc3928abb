"""How a job fails: any error becomes one line and an exit code. Exit code 2 is for errors that the
user can fix: an argument, a setting of the environment, a damaged file of ours. Exit code 1 is for
failures: a full disk, a storage that does not answer, a bug of vidray.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import tempfile
import traceback

from vidray.errors import JobError, UserError
from vidray.masking import without_secrets

# errno -> exit code, and what to do.
_AGAIN = "then run the same command again to go on"
_ERRNOS = {
    errno.ENOSPC: (1, f"the disk is full: free some space, {_AGAIN}"),
    errno.EDQUOT: (1, f"the disk quota is used up: free some space, {_AGAIN}"),
    errno.EFBIG: (1, f"the file would be larger than allowed (ulimit -f): raise that, {_AGAIN}"),
    errno.ENOMEM: (1, f"the machine is out of memory: free some, {_AGAIN}"),
    errno.EMFILE: (1, f"too many files are open: raise ulimit -n, {_AGAIN}"),
    errno.ENFILE: (1, f"too many files are open on this machine: close some, {_AGAIN}"),
    errno.EIO: (1, f"reading or writing has failed: check the disk, {_AGAIN}"),
    errno.ESTALE: (1, f"the network disk has changed: mount it again, {_AGAIN}"),
    errno.EROFS: (2, "the disk is read-only: choose a folder that can be written"),
    errno.ENAMETOOLONG: (2, "the name is too long: give a shorter one"),
    errno.ELOOP: (2, "a link leads back to itself: fix it, or give another path"),
    errno.ENOTDIR: (2, "a part of the path is a file, not a folder: give another path"),
    errno.EISDIR: (2, "it is a folder, not a file: give another path"),
    errno.EINVAL: (2, "the system does not take such a name: give another one"),
}
_ADDRESSES = "the addresses, and AWS_PROFILE or AWS_ACCESS_KEY_ID"
# Errors of botocore caused by its arguments, not by a server's answer.
_WRONG_SETTINGS = (
    "ProfileNotFound", "ConfigParseError", "ConfigNotFound", "InvalidRegionError", "NoRegionError",
    "InvalidConfigError", "ParamValidationError", "InvalidRetryConfigurationError",
    "InvalidMaxRetryAttemptsError", "InvalidRetryModeError",
)  # fmt: skip


def line_and_code(error: BaseException) -> tuple[str, int]:
    """The line that says ``error`` to the user, and the exit code of the job that it ends."""
    error = _root(error)
    line, code = _of(error)
    return one_line(line), code


def one_line(text: str) -> str:
    """Text from anywhere as one line for a terminal: no secrets, nothing that moves a cursor."""
    words = " ".join(without_secrets(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def _root(error: BaseException) -> BaseException:
    """The error a worker raised, out of the wrappers of Ray and Ray Train."""
    while True:
        of_workers = getattr(error, "worker_failures", None) or {}
        inner = [getattr(error, "cause", None), *(of_workers.values() if of_workers else ())]
        causes = [cause for cause in inner if isinstance(cause, BaseException)]
        if not causes or type(causes[0]).__name__ == "UserCodeException":
            return error  # Ray Data's wrapper of any error of ours, which it holds as text.
        error = causes[0]


def _of(error: BaseException) -> tuple[str, int]:
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, JobError):
        return str(error), 1
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return f"the job is out of memory: give it more, {_AGAIN}", 1
    if _is_of(error, "botocore"):
        return _wrong_settings(error), 2
    if _is_of(error, "ray") and not type(error).__name__.startswith("RayTaskError"):
        said = f"{type(error).__name__}: {_last_words(error)}"
        return f"Ray has failed ({said}): run the same command again to go on", 1
    return _unexpected(error), 1


def _of_system(error: OSError) -> tuple[str, int]:
    said = _said(error)
    if isinstance(error, PermissionError):
        # A bucket's has no number.
        where = "who may read and write there" if error.errno else _ADDRESSES
        return f"access denied ({said}): check {where}", 2
    if isinstance(error, FileNotFoundError):
        return f"not there ({said}): check the name", 2
    if isinstance(error, BrokenPipeError):
        return "who read this output has gone: send it to a file instead", 1
    if error.errno in _ERRNOS:
        code, advice = _ERRNOS[error.errno]
        return f"{advice} ({said})", code
    if error.__cause__ is not None and type(error.__cause__).__name__ in _WRONG_SETTINGS:
        return _wrong_settings(error.__cause__), 2
    if _no_answer(error):
        return f"the storage does not answer ({said}): see that it runs, {_AGAIN}", 1
    return f"a file or a storage fails ({said}): check it, {_AGAIN}", 1


def _no_answer(error: OSError) -> bool:
    """Whether the other end did not answer, or broke the connection."""
    every = (error, error.__cause__)
    names = ("Connect", "ConnectionClosed", "Timeout", "HTTPClientError", "EndpointConnection")
    return any(
        isinstance(one, ConnectionError | TimeoutError | socket.gaierror)
        or (one is not None and any(name in type(one).__name__ for name in names))
        for one in every
    )


def _wrong_settings(error: BaseException) -> str:
    return f"the settings of the storage are wrong ({error}): check the AWS variables"


def _said(error: OSError) -> str:
    text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    return text[:500] or type(error).__name__


def _last_words(error: BaseException) -> str:
    """The last line of an error that holds a worker's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Ray Data ends with its own words, and with advice.
    raised = [line for line in lines if re.match(r"(?!.*UserCode)[\w.]+(Error|Exception): ", line)]
    return [*lines, *raised][-1][:300] if lines else ""


def _is_of(error: BaseException, library: str) -> bool:
    return any(base.__module__.split(".")[0] == library for base in type(error).__mro__)


def _unexpected(error: BaseException) -> str:
    """The line for a bug; it names a file with the traceback to report."""
    # For a worker's error, Ray gives the traceback.
    said = " ".join(str(error).split())[:300] if "\n" not in str(error) else _last_words(error)
    line = f"unexpected {type(error).__name__}: {said}"
    text = without_secrets("".join(traceback.format_exception(error)))
    try:
        handle, path = tempfile.mkstemp(prefix="vidray-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:  # A full disk is no reason to be silent.
        return f"{line} (please report it)"
    return f"{line} (please report it with {path}, which shows where it happened)"
