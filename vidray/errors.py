"""The errors vidray raises on purpose: for the user, for a job, for a row."""

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

# error_kind -> its meaning.
ERROR_KINDS = {
    "missing": "listed, but gone when it was opened",
    "denied": "the storage refused to hand it over",
    "archived": "in cold storage: restore it before it can be read",
    "unavailable": "the storage failed while it was read, every try of it",
    "unreadable": "not a video file, or damaged beyond its first frame",
    "no_video": "opens, but holds no video stream",
    "encrypted": "the video is encrypted and no key is given",
    "unsupported": "no decoder for its codec",
    "too_short": "fewer frames than the task needs",
    "too_large": "over a cap on pixels, frames, seconds or bytes",
    "out_of_memory": "needs more memory than one worker is allowed",
    "damaged": "more of its frames are corrupt than allowed",
    "changed": "replaced by another file since it was listed",
    "timeout": "not finished within the seconds allowed",
    "crashed": "killed the decoding process, or met an error nobody expected",
}
# Errors that may pass by the next time; the others are the video's own.
PASSING_KINDS = (
    "missing", "denied", "archived", "unavailable", "changed", "timeout", "crashed",
)  # fmt: skip


class UserError(ValueError):
    """A wrong argument, source or output folder: the value, the rule, the next step, in one line.

    Jobs print it on stderr and exit with 2.
    """


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that was perhaps meant; None where none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown decoder, model, ... (``kind``); it lists the known ones."""
    known = list(known)
    meant = closest_name(name, known)
    one_of = f"did you mean {meant}? One of" if meant else "one of"
    return UserError(f"{kind} {name!r} is unknown: {one_of} {', '.join(known)}")


class ModelError(UserError):
    """A fault of the model, met while a video is labelled: it stops the job and is no video's row.
    A model is input: one whose outputs are no probabilities can label no video.
    """


class JobError(RuntimeError):
    """The job cannot go on, and no argument would fix it: why, and the next step.

    Jobs print it on stderr and exit with 1.
    """


class Cap(NamedTuple):
    """The limit a video was over: its name, such as ``max_pixels``, and its value then."""

    name: str
    value: float


class VideoError(Exception):
    """The reason why a video has no result: ``error_kind`` and ``error_message`` of its row.

    Args:
        kind: one of ``ERROR_KINDS``.
        message: one sentence, without the path (the row has it already).
        cap: the limit that the video is over; a job with a higher one tries again.
    """

    def __init__(self, kind: str, message: str, *, cap: Cap | None = None) -> None:
        if kind not in ERROR_KINDS:
            raise ValueError(f"unknown error kind {kind!r}; one of {', '.join(ERROR_KINDS)}")
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.cap = cap

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str], dict[str, Any]]:
        # By default an exception is pickled by its message alone; this one crosses process pools.
        return VideoError, (self.kind, self.message), {"cap": self.cap}
