"""Which cluster RAY_ADDRESS names, asked before Ray does: it tries a wrong one for minutes."""

from __future__ import annotations

import re
import socket

from vidray.errors import UserError

LOCAL, AUTO = "local", "auto"
_SECONDS_TO_ANSWER = 10.0
_HOW = "give the head node as HOST:PORT (its port is 6379 unless it was told another)"
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>[0-9]{1,5})"
)


def check(address: str) -> None:
    """Raise UserError unless ``address`` is ``local``, ``auto``, or HOST:PORT and answers."""
    if address in (LOCAL, AUTO):
        return
    told = f"RAY_ADDRESS is {address!r}"
    if address.startswith("ray://"):
        raise UserError(
            f"{told}: jobs do not run through Ray Client; {_HOW}, or use ray job submit"
        )
    if re.match(r"https?://", address):
        raise UserError(f"{told}, which is a dashboard: that is for ray job submit; here {_HOW}")
    found = re.fullmatch(
        r"(?:\[(?P<v6>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>\d{1,5})", address
    )
    if found is None or not 0 < int(found["port"]) < 65536:
        raise UserError(f"{told}: {_HOW}, or leave it out to start Ray here")
    try:
        place = (found["v6"] or found["host"], int(found["port"]))
        socket.create_connection(place, timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: a name no host can have.
        said = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{told} and nobody answers there ({said}): {_HOW}, wait until it has started, or "
            "leave it out to start Ray here"
        ) from error
