"""Commit numbers: one sequence for all sets of a folder; a process takes each number.

    OUT/_numbers/000017     names the run that is about to commit under this number

A number is above those of all commits that are there. It is taken by a conditional write, and only
once the commit of the number before has come, so that a higher number was there to be read later.
That of a process that was killed in between does not come: after a while the next one passes by.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from vidray import storage
from vidray.errors import UserError
from vidray.labelling import commit_files
from vidray.storage import join, names

# Writing a commit takes seconds: the largest, of a million videos, has 45 MB without embeddings.
_MOST_WAITING_SECONDS = 60.0
_POLL_SECONDS = 0.1


def last_commit(out: str) -> int:
    """The highest committed number in any set of a folder; 0 if there is none."""
    return max((commit.last for commit in commit_files.find(out)), default=0)


def take(out: str, run: str) -> int:
    """The next number, for the commit of ``run``: the one it has taken before, if it still holds.

    Waits while others commit.

    Raises:
        UserError: there is no number left, because of a file with an absurd one; or what is no
            file, such as a folder, has the name of the next note.
    """
    waited: dict[int, float] = {}
    while True:
        last = last_commit(out)
        newest, whose = max(_pending(out, last), default=(0, ""))
        if whose == run:
            return newest
        deadline = waited.setdefault(newest, time.monotonic() + _MOST_WAITING_SECONDS)
        if newest and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            continue
        number = max(last, newest) + 1
        if number > commit_files.MOST_COMMITS_EVER:
            raise UserError(
                f"a file in {storage.without_secrets(out)} has the number {number - 1}, above which"
                " there is none: move it away"
            )
        if storage.write_once(_where(out, number), run.encode()):
            return number
        if time.monotonic() > waited.setdefault(number, time.monotonic() + _MOST_WAITING_SECONDS):
            raise UserError(
                f"{storage.without_secrets(_where(out, number))} is in the way of a commit and is "
                "not a note of one: move it away, and start the job again"
            )
        time.sleep(_POLL_SECONDS)


def is_ours(out: str, number: int) -> bool:
    """Whether no later number has overtaken one that was taken."""
    last = last_commit(out)
    return last < number and max(_pending(out, last), default=(0, ""))[0] <= number


def let_go(out: str, run: str) -> None:
    """Remove the notes of this run and of runs that others have overtaken."""
    last = last_commit(out)
    for number, whose in _taken(out):
        if whose == run or (number <= last and names.is_token(whose)):
            storage.remove_tree(_where(out, number), inside=out)


def _pending(out: str, last: int) -> list[tuple[int, str]]:
    """Numbers above the last commit, and the runs that took them."""
    return [(number, whose) for number, whose in _taken(out) if number > last]


def _taken(out: str) -> Iterator[tuple[int, str]]:
    for info in storage.list_files(join(out, "_numbers")):
        number = storage.name_of(info.uri)
        if re.fullmatch(r"\d{6,9}", number) and info.uri == _where(out, int(number)):
            try:
                yield int(number), storage.read_bytes(info.uri).decode(errors="replace")
            except FileNotFoundError:
                continue  # committed meanwhile


def _where(out: str, number: int) -> str:
    return join(out, "_numbers", f"{number:06d}")
