"""From paths as people write them to files: which URI is meant, and what is really there."""

import difflib
import os
import posixpath
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal

from vidray import storage
from vidray.storage import FileInfo, without_secrets

# A list of more videos than this in a bucket is looked up in one listing (1000 a request) instead
# of one request each.
LIST_ABOVE = 1000


def look_up(base: str, paths: Iterable[str], known: Mapping[str, FileInfo]) -> list[FileInfo]:
    """What is there for each path, in order; size 0 and fingerprint "missing" for nothing.

    Args:
        base: the folder that relative paths start from.
        paths: relative or absolute, with either slash, or URIs.
        known: a listing of ``base`` by URI, where there is one already.
    """
    uris = [_resolved(base, path) for path in paths]
    found = dict(known)
    inside = {uri for uri in uris if uri.startswith(base.rstrip("/") + "/")}
    if not known and storage.is_bucket(base) and len(inside) > LIST_ABOVE:
        listing = storage.list_files(base, hidden=True)
        found = {file.uri: file for file in listing if file.uri in inside}
    left = [uri for uri in uris if uri not in found]
    found.update(zip(left, storage.file_infos(left), strict=True))
    for uri in left:
        if found[uri].fingerprint == "missing" and not uri.isascii():
            found[uri] = _other_form(uri, known) or found[uri]
    return [found[uri] for uri in uris]


def nearest(uri: str) -> str:
    """The nearest folder that is there, and the name in it that was perhaps meant."""
    missing, parent = uri, storage.parent_of(uri)
    while not storage.exists(parent) and storage.parent_of(parent) != parent:
        missing, parent = parent, storage.parent_of(parent)
    if not storage.exists(parent):
        return (
            f"{without_secrets(uri)} is not there, nor is {without_secrets(parent)}: check the name"
        )
    names = storage.list_names(parent)
    close = difflib.get_close_matches(storage.name_of(missing), names, n=1)
    hint = (
        f"did you mean {close[0]!r}?" if close else f"it holds {', '.join(names[:5]) or 'nothing'}"
    )
    return f"{without_secrets(uri)} is not there; {without_secrets(parent)} is: {hint}"


def _resolved(base: str, path: str) -> str:
    """The URI of a path as somebody wrote it: relative to the list's folder, absolute or a URI."""
    if "://" in path:
        return storage.canonical(path)
    if "\\" in path and (storage.is_bucket(base) or not os.path.lexists(os.path.join(base, path))):
        path = path.replace("\\", "/")  # a list that was made on Windows
    if not storage.is_bucket(base) or path.startswith("/"):
        return os.path.normpath(os.path.join(base, path))
    protocol, _, folder = base.partition("://")
    return f"{protocol}://{posixpath.normpath(f'{folder}/{path}')}"


def _other_form(uri: str, known: Mapping[str, FileInfo]) -> FileInfo | None:
    """The same name in Unicode's other normal form: a Mac decomposes names, an editor does not."""
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        other = unicodedata.normalize(form, uri)
        if other != uri:
            info = known.get(other) or storage.file_infos([other])[0]
            if info.fingerprint != "missing":
                return info
    return None
