"""Addresses: the meaning of a URI, its one spelling, and the part of it that may be stored.

A URI is a local path or anything fsspec opens (``s3://bucket/key``). A local path stands for
itself, whatever it holds; one that is not UTF-8 (or holds a NUL) is written ``file://`` and
percent-encoded, and only behind ``file://`` is anything decoded, so a name with ``%`` in it is
never mistaken.

What lets somebody in is not stored: user names and passwords in a URI are refused, and of a signed
URL the query stays in this process's memory (``fetched``), out of every table and file.
"""

import os
import posixpath
import re
from hashlib import blake2b
from urllib.parse import quote, unquote_to_bytes

from vidray.errors import UserError

# Protocol -> the library that fsspec wants for it.
LIBRARIES = {
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
    "hf": "huggingface_hub",
    "oss": "ossfs",
    "oci": "ocifs",
    "webhdfs": "requests",
    "dropbox": "dropboxdrivefs",
    "gdrive": "gdrive_fsspec",
}
# Protocols of fsspec that are no storage: files in files, caches, this machine's programs.
INDIRECT = frozenset(
    {"async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir"}
    | {"dvc", "filecache", "generic", "git", "jlab", "jupyter", "libarchive", "pyscript"}
    | {"reference", "simplecache", "tar", "zip"}
)
# Storages that are somewhere else, which a list in a bucket may name.
REMOTE = frozenset(
    {*LIBRARIES, "s3", "s3a", "http", "https", "ftp", "hdfs", "memory", "box", "dbfs", "github"}
    | {"gist", "lakefs", "ocilake", "root", "tos", "tosfs", "wandb", "webdav"}
)

_LOCAL = re.compile(r"(?:file|local)://(?:localhost(?=/))?", re.IGNORECASE)
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Protocols whose first component is a bucket or host without which there is nothing to ask.
_S3_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:.+")  # as botocore has it
_HOST = re.compile(r"(?:[^\s:@\[\]/]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
_WITHOUT_HOST = ("memory", "hdfs", "dropbox", "gdrive")
_AZURE = ("az", "abfs", "abfss", "adl")  # container@account is no user name
_WITH_USER = (*_AZURE, "sftp", "ssh", "ftp", "hdfs", "webhdfs", "smb")
# Of a query: who may read and until when. The rest says what is read.
_SIGNATURE = re.compile(
    r"x-(?:amz|goog|oss|ms|cos|obs)-.*|.*(?:signature|token|password|secret|credential).*|"
    r"expires?|policy|key-pair-id|awsaccesskeyid|googleaccessid|ossaccesskeyid|sign?|auth|jwt|"
    r"api_?key|hdn\w+|response-.*"
)
_AZURE_SIGNATURE = re.compile(r"sig|s[etprvs]|s[kd]\w{1,3}|spr|sip|srt")
_DIGEST = re.compile(r"[0-9a-f]{8}")

# Stored spelling -> what is fetched for it. Filled by ``canonical`` and ``remember``.
_fetched: dict[str, str] = {}


def protocol_of(uri: str) -> str:
    """The protocol, ``s3`` of ``s3://bucket``; empty for a path."""
    match = _PROTOCOL.match(uri)
    return match[1].lower() if match else ""


def is_bucket(uri: str) -> bool:
    """Whether the URI names another storage than this machine's files."""
    return protocol_of(uri) not in ("", "file", "local")


def canonical(uri: str) -> str:
    """The one spelling of a URI: absolute for local paths, no slash at the end, no signature.

    Raises:
        UserError: no bucket or host, a malformed one, a user name or password.
    """
    if not is_bucket(uri):
        return local_uri(local_path(uri))
    check(uri)
    protocol = protocol_of(uri)
    uri = protocol + uri[len(protocol) :]  # S3://
    return _unsigned(uri) if protocol in ("http", "https") else uri.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """``uri`` and the relative ``parts`` below it, with one slash between them."""
    if not is_bucket(uri):
        return local_uri(os.path.join(local_path(uri), *parts))
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def name_of(uri: str) -> str:
    """The last component."""
    return uri.rstrip("/").rpartition("/")[2]


def parent_of(uri: str) -> str:
    """The folder that holds ``uri``; a bucket and ``/`` are their own parents."""
    if not is_bucket(uri):
        return local_uri(os.path.dirname(local_path(uri)))
    head, _, path = uri.rstrip("/").partition("://")
    return f"{head}://{posixpath.dirname(path) or path}"


def below(folder: str, uri: str) -> str | None:
    """The path of ``uri`` below ``folder``, or None; a name that is not UTF-8 stays encoded."""
    start = folder.rstrip("/") + "/"
    if uri.startswith(start):
        return uri[len(start) :]
    if not uri.startswith("file://") or is_bucket(folder):
        return None
    path, start = local_path(uri), local_path(folder).rstrip("/") + "/"
    if not path.startswith(start):
        return None
    names = path[len(start) :].split("/")
    return "/".join(name if _is_text(name) else quote(os.fsencode(name)) for name in names)


def local_path(uri: str) -> str:
    """The absolute path of a local URI; bytes that are not UTF-8 as ``os.fsdecode`` has them.

    Raises:
        UserError: empty, or an address whose bucket or second slash is missing.
    """
    start = _LOCAL.match(uri)
    path = os.fsdecode(unquote_to_bytes(uri[start.end() :])) if start else uri
    if not path:
        raise UserError("an empty path: give a file or a folder, '.' for the current one")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(?:/|$)", path):
        raise UserError(
            f"{path}: an address has two slashes and a name behind its colon, s3://NAME"
        )
    return os.path.abspath(os.path.expanduser(path))


def local_uri(path: str) -> str:
    """The URI of an absolute path: itself, or percent-encoded where a table cannot hold it."""
    return path if _is_text(path) else f"file://{quote(os.fsencode(path))}"


def _is_text(path: str) -> bool:
    if path.isascii():
        return "\0" not in path
    try:
        return b"\0" not in path.encode()
    except UnicodeEncodeError:
        return False


def check(uri: str) -> None:
    """Raise UserError unless the address names a storage's bucket or host, and no password."""
    protocol, rest = protocol_of(uri), uri.partition("://")[2]
    host = re.split(r"[/?#]" if protocol in ("http", "https") else "/", rest, maxsplit=1)[0]
    if protocol in INDIRECT:
        raise UserError(f"{protocol}:// is no storage: give the address of the file itself")
    user, at, name = host.rpartition("@")
    if at and (protocol not in _WITH_USER or ":" in user):
        raise UserError(
            f"{protocol}://{name}: an address holds no user name or password: put them in the "
            "environment or the storage's own configuration"
        )
    if not name and protocol in _WITHOUT_HOST:
        return
    if not name or (user == "" and at):
        raise UserError(f"{protocol}://{rest[:80]} names no {_part(protocol)}")
    rule = _S3_BUCKET if protocol in ("s3", "s3a") else _HOST
    if not rule.fullmatch(name):
        # Not shown: what is behind the colon may be the first half of a password.
        raise UserError(
            f"{protocol}://{re.split('[:@]', name)[0][:80]}… has no well-formed {_part(protocol)}"
        )


def _part(protocol: str) -> str:
    named = protocol in ("http", "https", "sftp", "ssh", "ftp", "smb", "webhdfs")
    return f"host: {protocol}://HOST/PATH" if named else f"bucket: {protocol}://BUCKET/KEY"


def without_user(uri: str) -> str:
    """The address of a row that is refused: no user name, no password, no query."""
    protocol, _, rest = uri.partition("://")
    _, at, rest = rest.rpartition("@")
    if "http" in protocol.lower():
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{protocol}://{'***@' if at else ''}{rest}"


# Signed URLs


def _unsigned(uri: str) -> str:
    """The address without query and fragment; a digest of what in the query is no signature."""
    address, _, fragment = uri.partition("#")
    bare, _, query = address.partition("?")
    stored = bare.rstrip("/")
    if not query:  # the digest of a row of our own tables stays
        return f"{stored}#{fragment}" if _DIGEST.fullmatch(fragment) else stored
    words = {word: word.partition("=")[0].lower() for word in query.split("&") if word}
    rules = [_SIGNATURE, *([_AZURE_SIGNATURE] if "sig" in words.values() else [])]
    asked = sorted(w for w, name in words.items() if not any(r.fullmatch(name) for r in rules))
    if asked:
        stored += "#" + blake2b("&".join(asked).encode(), digest_size=4).hexdigest()
    _fetched[stored] = address
    return stored


def fetched(uri: str) -> str:
    """The address to request for a stored ``uri``: the same with its signature."""
    return _fetched.get(uri, uri)


def signed(uri: str) -> str | None:
    """The address with its signature, to hand to another process; None: it has none."""
    return _fetched.get(uri)


def remember(uri: str, address: str) -> None:
    """Keep the signed address that ``signed`` gave in another process."""
    _fetched[uri] = address
