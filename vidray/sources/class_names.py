"""The classes of label indices: lists of names, and the name of each index."""

import posixpath
import re
from collections import Counter

from vidray.errors import UserError
from vidray.sources import manifests
from vidray.sources.manifests import Entry

# Where several lie side by side, the first of these.
_USUAL = ("classind.txt", "classes.txt", "labels.txt", "labels.json")


def rank(path: str) -> tuple[int, str]:
    """The rank of a list of classes: of several, the lowest is used."""
    name = posixpath.basename(path).lower()
    return (_USUAL.index(name) if name in _USUAL else len(_USUAL), path)


def is_class_list(path: str) -> bool:
    """Whether a file of such a name lists classes: ``classInd.txt``, ``label_map_k400.txt``."""
    stem, extension = posixpath.splitext(posixpath.basename(path).lower())
    words = set(re.findall(r"[a-z]+", stem))
    is_named = words & {"classind", "classes", "classnames", "labels", "labelmap"}
    return extension in (".txt", ".json") and bool(is_named or {"label", "map"} <= words)


def read_class_names(data: bytes, name: str) -> tuple[list[str], int]:
    """Class names in the order of their indices, and the first index.

    ``1 Name`` lines or JSON say it; of ``Name`` lines the first is 0.

    Raises:
        UserError: two classes of one name.
    """
    if name.lower().endswith(".json"):
        lines = _json_classes(data, name)
    else:
        lines = [
            line.strip() for line in manifests.text_of(data, name).splitlines() if line.strip()
        ]
    numbered = [re.fullmatch(r"(\d+)[\s,:.]+(\S.*)", line) for line in lines]
    names, first = lines, 0
    pairs = sorted((int(match[1]), match[2]) for match in numbered if match)
    for start in (0, 1):
        # All numbered without a gap; otherwise numbers belong to names, such as "3 point shot".
        if [index for index, _ in pairs] == list(range(start, start + len(lines))):
            names, first = [found for _, found in pairs], start
    if len(set(names)) != len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise UserError(f"{name} names the class {twice!r} twice: each index needs its own name")
    return names, first


def _json_classes(data: bytes, name: str) -> list[str]:
    """Lines of ``["a", "b"]``, ``{"a": 0}`` (Something-Something's) or ``{"0": "a"}``."""
    found = manifests.json_of(data, name)
    if isinstance(found, list):
        return [str(word) for word in found]
    if not isinstance(found, dict):
        raise UserError(f"{name} is no list of class names")
    pairs = [(str(key), str(value)) for key, value in found.items()]
    if not all(key.isdecimal() for key, _ in pairs):
        pairs = [(value, key) for key, value in pairs]
    return [f"{index} {word}" for index, word in pairs]


def names_of_indices(
    entries: list[Entry], tops: list[str | None], names: list[str], first: int
) -> list[str | None]:
    """Names where indices and class folders agree, counted from ``first`` or, failing that, from
    the other of 0 and 1 (UCF-101 counts from 1, most others from 0); None for no index.

    Args:
        entries: whose labels are indices.
        tops: the class folder that each entry is in.
        names: of the classes, in order.
        first: the index of the first name, 0 or 1.

    Raises:
        UserError: an index without a name, or a name that is another class folder's.
    """
    problem = _index_problem(entries, tops, names, first)
    if problem is not None:
        if _index_problem(entries, tops, names, 1 - first) is not None:
            raise UserError(problem)
        first = 1 - first
    indices = (entry.label for entry in entries)
    return [None if index is None else names[int(index) - first] for index in indices]


def _index_problem(
    entries: list[Entry], tops: list[str | None], names: list[str], base: int
) -> str | None:
    for entry, top in zip(entries, tops, strict=True):
        if entry.label is None:
            continue
        place = int(entry.label) - base
        if not 0 <= place < len(names):
            return (
                f"{entry.where}: label index {entry.label} of {entry.path!r}, but there are "
                f"{len(names)} classes, counted from {base}: {', '.join(names[:5])}"
            )
        if top in names and names[place] != top:
            return (
                f"{entry.where}: label index {entry.label} is class {names[place]!r}, but "
                f"{entry.path!r} is in class folder {top!r}: add classes.txt with the right order"
            )
    return None
