"""Removal of secrets (in URLs, from the environment) from all that is shown, logged or stored."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

# A shorter value may be an ordinary word.
_LEAST_LENGTH = 8
_LEAST_IN_LINES = 16
_SECRET_WORDS = {
    "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "KEY", "APIKEY", "CREDENTIAL",
    "CREDENTIALS", "PAT", "CONNSTR", "PASS", "AUTHORIZATION", "COOKIE",
}  # fmt: skip
# Also joined to the word before: PGPASSWORD, SECRETKEY, ACCESSTOKEN. PWD alone is a folder.
_SECRET_ENDINGS = re.compile(r"(?:PASSWORD|PASSWD|SECRET|TOKEN|(?:SECRET|API|ACCESS)KEY|.[_-]PWD)$")
# AWS_WEB_IDENTITY_TOKEN_FILE and the like say where it is, not what it is.
_PLAIN_ENDINGS = ("_FILE", "_PATH", "_DIR", "_ID", "_NAME", "_MODE", "_TYPE", "_URI", "_URL")
_PARTS_OF_CONNECTION = re.compile(
    r"(?:AccountKey|SharedAccess\w+|Password|Pwd)=([^;]+)", re.IGNORECASE
)
# Of a longer word its end is taken; without a limit a line of "a-a-a-" would take its square.
_SCHEME = r"[a-z][a-z0-9+.-]{0,31}"
# From a scheme to the next white space or scheme; a path library may have joined its slashes.
_URL = re.compile(
    rf"(?P<scheme>{_SCHEME})(?P<slashes>(?:(?<=http)|(?<=https)|(?<=s3)|(?<=s3a)):/+|://+)"
    rf"(?P<rest>(?:(?!{_SCHEME}://)\S)*)",
    re.IGNORECASE,
)
# What closes a quotation or a sentence is no part of a URL.
_CLOSING = "\"'`)]}>,.;:"
# In a URL without its scheme and host, as some libraries show it.
_SIGNED = re.compile(
    r"(?<=[?&])((?:x-(?:amz|goog)-[\w-]+|awsaccesskeyid|sig|signature|(?:\w+_)?token|"
    r"(?:\w+_)?(?:key|secret|password)))=[^\s&\"']*",
    re.IGNORECASE,
)
# Of these a name is a file's as it is, with "?" and "#"; or what stands before "@" is no user.
_LOCAL = ("file", "local")
_CONTAINER_AT_ACCOUNT = ("abfs", "abfss", "wasb", "wasbs", "adl", "az")
_WEB = ("http", "https", "ftp", "ftps", "ws", "wss")


def without_secrets(text: str) -> str:
    """``text`` for a log, a message or a table.

    From URLs go users and passwords (all up to the last ``@`` of the authority), and queries and
    fragments; of buckets, whose keys and globs may hold ``?`` and ``#``, only those with a ``=``.
    Values of environment variables whose names mark them as secret, of eight characters or more,
    and users and passwords in URLs among the variables, become ``***``.
    """
    text = _URL.sub(_masked, text)
    text = _SIGNED.sub(r"\1=***", text)
    for secret in _secrets(tuple(sorted(_variables()))):
        text = text.replace(secret, "***")
    return text


def throughout(value: Any) -> Any:
    """The same JSON-like value, every text in it ``without_secrets``."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: throughout(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(throughout(one) for one in value)
    return value


def has_password(uri: str) -> bool:
    """Whether a URI holds a password, or a user for a storage that has no user names."""
    url = _URL.match(uri)
    if url is None or url["scheme"].lower() in _LOCAL:
        return False
    user, _ = _split_user(url["rest"])
    no_users = url["scheme"].lower() in (*_WEB, "s3", "s3a", "gs", "gcs")
    return ":" in user or (no_users and bool(user))


def _masked(url: re.Match[str]) -> str:
    scheme, rest = url["scheme"].lower(), url["rest"]
    if scheme in _LOCAL:
        return url[0]
    user, rest = _split_user(rest)
    if scheme in _CONTAINER_AT_ACCOUNT and user and ":" not in user:
        rest = f"{user}@{rest}"
    start = re.search(r"[?#]", rest)
    if start and (scheme in _WEB or "=" in rest[start.start() :]):
        closing = max(len(rest.rstrip(_CLOSING)), start.start() + 1)
        rest = rest[: start.start()] + rest[closing:]
    return f"{url['scheme']}{url['slashes']}{rest}"


def _split_user(rest: str) -> tuple[str, str]:
    """The part before the host, and all from the host on."""
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if not at and re.match(r"[^:\[]+:(?!\d*[\"'`)\]}>,.;:]*$)", authority):
        # Behind a host's ":" is a port. This is a password with a slash: AWS's often have one.
        user, at, _ = rest.rpartition("@")
    return (user, rest[len(user) + 1 :]) if at else ("", rest)


def _variables() -> Iterator[tuple[str, str]]:
    """The environment variables that may hold a secret."""
    for name, value in os.environ.items():
        is_long = len(value) >= _LEAST_LENGTH
        if (is_long and _names_secret(name)) or ("://" in value and "@" in value):
            yield name, value


def _names_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    title = name.upper().replace("CONNECTION_STRING", "CONNSTR")
    words = re.split(r"[^A-Z0-9]+", title)
    ending = _SECRET_ENDINGS.search(title.rstrip("0123456789_"))
    is_named_so = ending is not None or bool(_SECRET_WORDS.intersection(words))
    return is_named_so and not title.endswith(_PLAIN_ENDINGS)


@lru_cache(maxsize=8)
def _secrets(variables: tuple[tuple[str, str], ...]) -> list[str]:
    """All secrets, in every way they are written, the longest first."""
    found: set[str] = set()
    for name, value in variables:
        if url := _URL.match(value):
            user, _ = _split_user(url["rest"])
            if user:
                found |= {f"{user}@", user, *user.split(":", 1)[1:]}
        # The path of a key is no secret; an address may be one, as those of web hooks are.
        if _names_secret(name) and not os.path.exists(value):
            found |= {value, value.strip(), *_PARTS_OF_CONNECTION.findall(value)}
            # A key of many lines may be shown as one line, or as one of its lines.
            lines = value.split()
            found |= {" ".join(lines), *(line for line in lines if len(line) >= _LEAST_IN_LINES)}
    found |= {urllib.parse.unquote(secret) for secret in found}
    written = {way for secret in found for way in _spellings(secret)}
    long = (way for way in written if len(way) >= _LEAST_LENGTH or way.endswith("@"))
    return sorted(long, key=lambda way: (-len(way), way))


def _spellings(secret: str) -> set[str]:
    """A secret as it is, percent-encoded, and as Python and JSON quote it."""
    encoded = {
        quote(secret, safe=safe)
        for quote in (urllib.parse.quote, urllib.parse.quote_plus)
        for safe in ("", "/", "/:@")
    }
    lower = {re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), one) for one in encoded}
    quoted = {repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)}
    return {secret, *encoded, *lower, *quoted}
