"""Tensors by an origin's names, as a network of ours has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from vidray.models.networks.positions import fit_positions
from vidray.models.networks.two_stream import inflate_first_convolution
from vidray.models.weights.origins import Origin

# From a tensor of theirs to what is put into ours.
Cut = Callable[[Tensor], Tensor]
_COUNTER = "num_batches_tracked"  # Files born in Caffe2 or before PyTorch 0.4.1 have none.
# Numbers of places, which a network computes: a file's could point anywhere.
_COMPUTED = "relative_position_index"
_PART = re.compile(r"(.*)\[(\d)/(\d)\]")
_OF_IT = re.compile(r"(.*)<(\d)/(\d)>")
_ROLLED = re.compile(r"(.*)~(\d+)")
_BRACES = re.compile(r"(.*?)\{([^{}]*)\}(.*)")


@dataclass(kw_only=True)
class Renamed:
    """What of a file fits a network, and what does not."""

    origin: Origin
    taken: dict[str, Tensor] = field(default_factory=dict)
    """By our names, of our shapes."""
    sources: dict[str, set[str]] = field(default_factory=dict)
    """Our names of ``taken`` to theirs."""
    head: list[str] = field(default_factory=list)
    """Names of theirs that are their last layer."""
    head_fits: bool = False
    """Whether that is ours, too."""
    left: dict[str, int] = field(default_factory=dict)
    """What was left on purpose, and of how many tensors."""
    unknown: list[str] = field(default_factory=list)
    """Names of theirs that this network has not."""
    missing: list[str] = field(default_factory=list)
    """Names of ours, but the head's, that the file has not."""
    misshapen: list[str] = field(default_factory=list)
    """Sentences on tensors of another shape."""
    share: float = 0.0
    """How much of both is the same, 0 to 1."""

    @property
    def fits(self) -> bool:
        """Whether the file fills the network but for its head."""
        return not (self.unknown or self.missing or self.misshapen)

    @property
    def rank(self) -> tuple[bool, float]:
        """The better of two is the larger."""
        return self.fits, self.share

    @property
    def differences(self) -> list[str]:
        """What is missing, too much or of another shape, in sentences."""
        return [
            *self.misshapen,
            *sorted(f"{name} is missing" for name in self.missing),
            *sorted(f"{name} is not in this model" for name in self.unknown),
        ]


def rename(
    origin: Origin, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], head: str
) -> Renamed | None:
    """The tensors of a file as ``ours``; None where it cannot be of this origin.

    Args:
        origin: whose names they have.
        theirs: the tensors of the file; of the device ``meta`` none is computed.
        ours: the network's own, for names and shapes.
        head: what the names of ours begin with that are the last layer.
    """
    if origin.must_have and not any(re.search(origin.must_have, name) for name in theirs):
        return None
    # Names that no rule changes are of an origin whose names are ours.
    if origin.rules and all(_targets(origin, name)[0][0] == name for name in theirs):
        return None
    found = Renamed(origin=origin)
    parts: dict[str, list[tuple[int, int, Tensor]]] = {}
    for name, tensor in theirs.items():
        if name.endswith(_COMPUTED):
            continue
        if re.search(origin.head, name) or (origin.name == "vidray" and name.startswith(head)):
            found.head.append(name)
        why = next((why for pattern, why in origin.left if re.search(pattern, name)), None)
        if why is not None:
            found.left[why] = found.left.get(why, 0) + 1
            continue
        targets = list(_targets(origin, name))
        if not any(target in ours for target, *_ in targets):
            if name not in found.head and not name.endswith(_COUNTER):
                found.unknown.append(name)
            continue
        for target, (k, count), cut in targets:
            parts.setdefault(target, []).append((k, count, cut(tensor)))
            found.sources.setdefault(target, set()).add(name)
    _take(found, parts, ours, head)
    return found


def _take(
    found: Renamed,
    parts: Mapping[str, list[tuple[int, int, Tensor]]],
    ours: Mapping[str, Tensor],
    head: str,
) -> None:
    """Fill ``found`` with what has our shape, and with the names of what has not."""
    misshapen_head = False
    wanted = {
        name: value for name, value in ours.items() if not name.endswith((_COUNTER, _COMPUTED))
    }
    for target in ours.keys() & parts.keys():
        tensor = _adapted(target, _joined(parts[target]), ours[target], found.origin)
        if tensor.shape == ours[target].shape:
            found.taken[target] = tensor
        elif target.startswith(head):
            misshapen_head = True
        else:
            shapes = f"{tuple(tensor.shape)} and must be {tuple(ours[target].shape)}"
            found.misshapen.append(f"{min(found.sources[target])} is {shapes}")
    of_head = {name for name in wanted if name.startswith(head)}
    used = set().union(*(found.sources[name] for name in of_head & found.taken.keys()))
    found.head_fits = not misshapen_head and of_head <= found.taken.keys()
    found.head_fits &= used == set(found.head)
    if not found.head_fits:
        found.taken = {k: v for k, v in found.taken.items() if not k.startswith(head)}
    body = {name for name in wanted if not name.startswith(head)}
    found.missing = sorted(
        name for name in body - parts.keys() if not re.search(found.origin.new, name)
    )
    found.misshapen.sort()
    good = len(body & found.taken.keys())
    bad = len(found.missing) + len(found.misshapen) + len(found.unknown)
    found.share = good / max(1, good + bad)


@cache
def _targets(origin: Origin, name: str) -> tuple[tuple[str, tuple[int, int], Cut], ...]:
    """Our names for one of theirs: name, part of ours that it is, and how it becomes that."""
    for pattern, replacement in origin.rules:
        name = re.sub(pattern, replacement, name)
    found: list[tuple[str, tuple[int, int], Cut]] = []
    for each in _expanded(name):
        if match := _PART.fullmatch(each):
            found.append((match[1], (int(match[2]), int(match[3])), _whole))
        elif match := _OF_IT.fullmatch(each):
            found.append((match[1], (0, 1), partial(_nth, int(match[2]), int(match[3]))))
        elif match := _ROLLED.fullmatch(each):
            found.append((match[1], (0, 1), partial(_rolled, int(match[2]))))
        else:
            found.append((each, (0, 1), _whole))
    return tuple(found)


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _nth(index: int, count: int, tensor: Tensor) -> Tensor:
    is_divided = tensor.ndim > 0 and len(tensor) % count == 0
    return tensor.chunk(count)[index] if is_divided and len(tensor) else tensor


def _rolled(columns: int, tensor: Tensor) -> Tensor:
    return tensor.roll(-columns, dims=1) if tensor.ndim == 2 else tensor


def _expanded(name: str) -> Iterator[str]:
    match = _BRACES.fullmatch(name)
    if match is None:
        yield name
        return
    for choice in match[2].split(","):
        yield from _expanded(match[1] + choice + match[3])


def _joined(parts: list[tuple[int, int, Tensor]]) -> Tensor:
    """The parts of a tensor one behind the other; alone where some are missing."""
    parts = sorted(parts, key=lambda part: part[0])
    if len(parts) == 1 or [k for k, _, _ in parts] != list(range(parts[0][1])):
        return parts[0][2]
    if len({tuple(tensor.shape[1:]) for *_, tensor in parts}) > 1:
        return parts[0][2]
    return torch.cat([tensor for *_, tensor in parts])


def _adapted(name: str, theirs: Tensor, ours: Tensor, origin: Origin) -> Tensor:
    """Their tensor in our shape where it is the same but for its form; else as it is."""
    if theirs.shape == ours.shape:
        return theirs
    if origin.is_image and theirs.ndim == 4 and ours.ndim == 5:
        frames = ours.shape[2]
        # (C', C, H, W) -> (C', C, T, H, W): a still picture gives what it gives the image network.
        return theirs.unsqueeze(2).expand(-1, -1, frames, -1, -1) / frames
    if origin.is_image and theirs.ndim == ours.ndim == 4 and theirs.shape[1] == 3:
        return inflate_first_convolution(theirs, channels=ours.shape[1])
    # A kernel of one place is a matrix, a token of a batch of one is a token.
    if _without_ones(theirs.shape) == _without_ones(ours.shape):
        return theirs.reshape(ours.shape)
    if theirs.ndim == ours.ndim + 1 and len(theirs) == 1:  # MViT's positions
        theirs = theirs[0]
    if theirs.ndim == ours.ndim and theirs.shape[-1] == ours.shape[-1]:
        try:
            return fit_positions(name, theirs, rows=ours.shape[-2])
        except ValueError:  # They are of no square.
            return theirs
    return theirs


def _without_ones(shape: torch.Size) -> list[int]:
    return [length for length in shape if length != 1]
