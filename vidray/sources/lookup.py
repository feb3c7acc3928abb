"""Lookup of paths as users write them: the URI that is meant, and the file there.

A list in a bucket was written by whoever may write there. It names files in its own bucket by path
and anything on other storages by address, but nothing of the machine that reads it. A path it may
not name, or that nothing opens, is a row too: size 0 and, for fingerprint, the error kind, a colon
and the reason, which ``rows.made_by`` puts into the row.
"""

import logging
import os
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

from fsspec.registry import known_implementations

from vidray import storage
from vidray.errors import UserError, closest_name
from vidray.sources.manifests import Entry
from vidray.storage import FileInfo, addresses, without_secrets

logger = logging.getLogger(__name__)

# A list of more videos than this in a bucket is looked up in one listing (1000 a request) instead
# of one request each.
LIST_ABOVE = 1000
_MOST_REASONS_TOLD = 5
# s3://…, and what fsspec calls a chain: zip://a::s3://…, simplecache::s3://…
_IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::.*://)", re.DOTALL)

# A URI, or the row of one that is not looked up.
_Form = str | FileInfo


class _RefusedError(Exception):
    """An entry that is not looked up: what its row shows for URI, the error kind and the reason."""

    def __init__(self, uri: str, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.file = FileInfo(uri, 0, f"{kind}: {reason}")


def look_up(
    base: str, entries: Sequence[Entry], known: Mapping[str, FileInfo] | None = None
) -> list[FileInfo]:
    """The file of each entry, in order; size 0 and fingerprint "missing" where there is none.

    Args:
        base: the folder that relative paths start from.
        entries: paths relative or absolute, with either slash, or URIs.
        known: files by URI, where some have been listed already.
    """
    forms = [_forms(base, entry.path) for entry in entries]
    found = _ask(base, [form for each in forms for form in each if isinstance(form, str)], known)
    files = [_first_there(each, found) for each in forms]
    for number, file in enumerate(files):
        if file.fingerprint == "missing" and not file.uri.isascii():
            files[number] = _other_normal_form(file.uri, found) or file
    _warn_of_refusals(entries, files)
    return files


def _ask(base: str, uris: list[str], known: Mapping[str, FileInfo] | None) -> dict[str, FileInfo]:
    found = dict(known or {})
    start = base.rstrip("/") + "/"
    if not known and storage.is_bucket(base):
        inside = {uri for uri in uris if uri.startswith(start)}
        if len(inside) > LIST_ABOVE:
            found = {uri: FileInfo(uri, 0, "missing") for uri in inside}
            listing = storage.list_files(base, hidden=True)
            found.update((file.uri, file) for file in listing if file.uri in inside)
    left = [uri for uri in dict.fromkeys(uris) if uri not in found]
    found.update(zip(left, storage.file_infos(left), strict=True))
    return found


def _first_there(forms: tuple[_Form, ...], found: Mapping[str, FileInfo]) -> FileInfo:
    """The file of the first spelling that exists, else of the last."""
    file = FileInfo("", 0, "missing")
    for form in forms:
        file = found[form] if isinstance(form, str) else form
        if file.fingerprint != "missing":
            break
    return file


def _warn_of_refusals(entries: Sequence[Entry], files: Sequence[FileInfo]) -> None:
    """Warn of each reason in one line: where it is met first, and how often."""
    met: dict[str, list[str]] = {}
    for entry, file in zip(entries, files, strict=True):
        _, colon, reason = file.fingerprint.partition(": ")
        if colon:
            met.setdefault(reason, []).append(entry.where)
    # A missing library is always reported: it is easy to install.
    for reason in sorted(met, key=lambda reason: "pip install" not in reason)[:_MOST_REASONS_TOLD]:
        places = met[reason]
        more = f" ({len(places)} entries)" if len(places) > 1 else ""
        logger.warning("%s: %s%s", places[0], reason, more)
    if len(met) > _MOST_REASONS_TOLD:
        logger.warning("and %d more reasons, each in its row", len(met) - _MOST_REASONS_TOLD)


def nearest(uri: str) -> str:
    """The nearest existing folder, and the name in it that was perhaps meant."""
    missing, parent = uri, storage.parent_of(uri)
    while not storage.exists(parent) and storage.parent_of(parent) != parent:
        missing, parent = parent, storage.parent_of(parent)
    if not storage.exists(parent):
        return (
            f"{without_secrets(uri)} is not there, nor is {without_secrets(parent)}: check the name"
        )
    names = storage.list_names(parent)
    meant = closest_name(storage.name_of(missing), names)
    hint = f"did you mean {meant!r}?" if meant else f"it holds {', '.join(names[:5]) or 'nothing'}"
    return f"{without_secrets(uri)} is not there; {without_secrets(parent)} is: {hint}"


def _forms(base: str, path: str) -> tuple[_Form, ...]:
    """The possible meanings of a written path: relative to the list's folder, absolute, or a URI.

    In a bucket first the key as it is written ("a//b" and "./a" are keys), then what it means as a
    path.
    """
    try:
        if "\0" in path:
            shown = f"{base.rstrip('/')}/{path.replace(chr(0), '%00')}"
            raise _RefusedError(shown, "missing", "no name holds a NUL byte")
        if _IS_ADDRESS.match(path):
            return (_address(base, path),)
        if storage.is_bucket(base) and path.startswith("/"):
            reason = "a list in a bucket names no files of the machine that reads it: give a URI"
            raise _RefusedError(path, "denied", reason)
        written = f"{base.rstrip('/')}/{path}"
        try:
            meant: _Form = _meant(base, path)
        except _RefusedError as refused:
            meant = refused.file
        has_keys = storage.is_bucket(base) and addresses.protocol_of(base) not in ("http", "https")
        return (written, meant) if has_keys and written != meant else (meant,)
    except _RefusedError as refused:
        return (refused.file,)


def _address(base: str, path: str) -> str:
    """A URI in its canonical spelling, if this list may name it."""
    protocol = addresses.protocol_of(path)
    if not protocol:
        reason = "an address inside another one is not opened: give the inner one"
        raise _RefusedError(addresses.without_user(path), "denied", reason)
    reads_here = protocol in known_implementations and protocol not in addresses.REMOTE
    if storage.is_bucket(base) and reads_here:
        reason = f"a list in a bucket names no {protocol}:// addresses, which reach its reader"
        raise _RefusedError(addresses.without_user(path), "denied", reason)
    try:
        return storage.canonical(path)
    except UserError as error:
        kind = "denied" if "user name" in str(error) else "unavailable"
        raise _RefusedError(addresses.without_user(path), kind, str(error)) from error


def _meant(base: str, path: str) -> str:
    """The URI of a path, ``..`` and Windows' slashes understood."""
    if "\\" in path and (storage.is_bucket(base) or not os.path.lexists(os.path.join(base, path))):
        path = path.replace("\\", "/")  # a list that was made on Windows
    if not storage.is_bucket(base):
        return addresses.local_uri(os.path.normpath(os.path.join(addresses.local_path(base), path)))
    protocol, _, folder = base.partition("://")
    bucket = folder.partition("/")[0]
    normal = posixpath.normpath(f"{folder}/{path}")
    if not normal.startswith(f"{bucket}/"):
        reason = "a path in a bucket does not lead out of it: give the URI of the other bucket"
        raise _RefusedError(f"{base.rstrip('/')}/{path}", "denied", reason)
    return storage.canonical(f"{protocol}://{normal}")


def _other_normal_form(uri: str, known: Mapping[str, FileInfo]) -> FileInfo | None:
    """The same name in Unicode's other normal form: macOS decomposes names, editors do not."""
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        other = unicodedata.normalize(form, uri)
        if other != uri:
            info = known.get(other) or storage.file_infos([other])[0]
            if info.fingerprint != "missing":
                return info
    return None
