"""A check of RAY_ADDRESS before Ray reads it: Ray tries a wrong one for minutes."""

from __future__ import annotations

import os
import re
import socket

from vidray.errors import UserError

LOCAL, AUTO = "local", "auto"
_SECONDS_TO_ANSWER = 10.0
_HOW = "give the head node as HOST:PORT (its port is 6379 unless set otherwise)"
# A frame of HTTP/2: length, type 4 (settings), flags, stream 0.
_NO_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>[0-9]{1,5})"
)


def check(address: str) -> None:
    """Raise UserError unless ``address`` is ``local``, ``auto``, or HOST:PORT and answers."""
    if address in (LOCAL, AUTO):
        return
    given = f"RAY_ADDRESS is {address!r}"
    if address.startswith("ray://"):
        raise UserError(
            f"{given}: jobs do not run through Ray Client; {_HOW}, or use ray job submit"
        )
    if re.match(r"https?://", address):
        raise UserError(f"{given}, which is a dashboard: that is for ray job submit; here {_HOW}")
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise UserError(f"{given}: {_HOW}, or leave it out to start Ray here")
    try:
        is_there = _speaks_http2(found["v6"] or found["host"], int(found["port"]))
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have.
        said = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{given} and nobody answers there ({said}): {_HOW}, wait until it has started, or "
            "leave it out to start Ray here"
        ) from error
    if not is_there:
        raise UserError(f"{given}, where something else answers than Ray's head: {_HOW}")


def _speaks_http2(host: str, port: int) -> bool:
    """Whether a server answers as gRPC does; a dashboard, a database or a web page does not."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        socket.create_connection((host, port), timeout=_SECONDS_TO_ANSWER).close()
        return True
    with socket.create_connection((host, port), timeout=_SECONDS_TO_ANSWER) as server:
        server.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _NO_SETTINGS)
        try:
            answer = b""
            while len(answer) < len(_NO_SETTINGS) and (more := server.recv(64)):
                answer += more
        except (TimeoutError, ConnectionError):
            return False
    return answer[3:4] == _NO_SETTINGS[3:4] and answer[5:9] == bytes(4)
