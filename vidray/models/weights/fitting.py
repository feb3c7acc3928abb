"""Weights into a network: whose they are, what is taken, and what a file that does not fit is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from vidray.errors import UserError
from vidray.models import names
from vidray.models.networks.architecture import Architecture
from vidray.models.weights.origins import Origin, of_model
from vidray.models.weights.renaming import Renamed, rename

# Name and variant -> a fresh network.
Make = Callable[[str, str | None], Architecture]
# Where less of a file and a network is the same, other architectures are looked at.
_SAME = 0.5
_MOST_SHOWN = 3
_NOBODY = Origin(name="vidray", shown="vidray", models=())


@dataclass(frozen=True, kw_only=True)
class FoundWeights:
    """Weights as they were found."""

    tensors: Mapping[str, Tensor]
    shown: str
    """Where they are from, for people."""
    said: str = ""
    """What to say of how they were unwrapped."""
    origin: str | None = None
    """Whose they are, where that is known."""
    variant: str | None = None
    """How the network was run, where they are a model folder's."""
    source: Mapping[str, Any] | None = None
    """Repository, commit and licence, where they are of transformers."""


def fill(
    name: str, found: FoundWeights, make: Make, *, keep_head: bool | None = None
) -> Architecture:
    """The architecture ``name`` with the weights; its ``loaded`` says in one line what was taken.

    Args:
        name: the architecture.
        found: the weights, see the class.
        make: makes a fresh network.
        keep_head: None keeps the head where it has the shapes of ours; False never does; True
            wants it.

    Raises:
        UserError: they do not fit; it says what they are, or which tensors differ.
    """
    origin, variant = recognise(name, found, make)
    built = make(name, variant)
    ours, head = built.network.state_dict(), head_of(built)
    renamed = rename(origin, found.tensors, ours, head)
    assert renamed is not None
    if keep_head and not renamed.head_fits:
        said = _of_head(renamed, found, ours, head)
        raise UserError(f"{found.shown}: its last layer is wanted, and {said}")
    taken = renamed.taken
    if keep_head is False:
        taken = {k: v for k, v in taken.items() if not k.startswith(head)}
        renamed.head_fits = False
    _check_finite(taken, found.shown)
    built.network.load_state_dict({**ours, **taken})
    count = len(set().union(*(renamed.sources[key] for key in taken)))
    loaded = _line(renamed, found, ours, head, count)
    return replace(built, loaded=loaded, origin=origin.name, variant=variant, source=found.source)


def recognise(name: str, found: FoundWeights, make: Make) -> tuple[Origin, str | None]:
    """The origin of weights for the architecture ``name``, and the variant it is to be built as.

    Raises:
        UserError: they do not fit.
    """
    best, variant = _best(name, found, make)
    if best.fits:
        return best.origin, variant
    nearest, at = best, name
    if best.share < _SAME:
        for other in _others(name):
            candidate, _ = _best(other, found, make)
            if candidate.share > nearest.share:
                nearest, at = candidate, other
    if nearest.fits:
        raise UserError(
            f"{found.shown} does not fit {name}: it holds {at} ({_whose(nearest)}); give "
            f"--model {at}, or other weights"
        )
    if nearest.share == 0:
        theirs = ", ".join(list(found.tensors)[:_MOST_SHOWN])
        raise UserError(
            f"{found.shown} does not fit the model {name}, and no other that vidray has: its "
            f"first tensors are {theirs}"
        )
    differences = nearest.differences
    more = len(differences) - _MOST_SHOWN
    said = "; ".join(differences[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
    if at == name:
        raise UserError(f"{found.shown} does not fit the model: {said}")
    raise UserError(
        f"{found.shown} does not fit {name}; the nearest is {at} ({_whose(nearest)}): {said}"
    )


def head_of(built: Architecture) -> str:
    """What the names of the head's tensors begin with."""
    modules = built.network.named_modules()
    name: str = next(name for name, module in modules if module is built.head)
    return f"{name}."


def _best(name: str, found: FoundWeights, make: Make) -> tuple[Renamed, str | None]:
    """The origin that fills most of an architecture, and the variant; no tensor is computed."""
    best: Renamed | None = None
    at: str | None = None
    theirs = {key: torch.empty_like(value, device="meta") for key, value in found.tensors.items()}
    for variant in (None, *names.VARIANTS.get(name, ())):
        rows = [row for row in of_model(name) if _may_be(row, found, variant)]
        if not rows:
            continue
        with torch.device("meta"):
            built = make(name, variant)
        ours, head = built.network.state_dict(), head_of(built)
        for row in rows:
            renamed = rename(row, theirs, ours, head)
            if renamed is not None and (best is None or renamed.rank > best.rank):
                best, at = renamed, variant
    if best is None:
        with torch.device("meta"):
            built = make(name, None)
        best = rename(_NOBODY, theirs, built.network.state_dict(), head_of(built))
        assert best is not None  # It has no rules.
    return best, at


def _may_be(row: Origin, found: FoundWeights, variant: str | None) -> bool:
    """Whether weights may be of this row of the table, for the network run as ``variant``."""
    if found.origin is not None:
        return row.name == found.origin and (
            variant == (found.variant if row.name == "vidray" else row.variant)
        )
    return row.variant == variant or row.name == "vidray"


def _others(name: str) -> list[str]:
    """Other architectures, of those that differ in the pooling over time one."""
    found = []
    lacking = names.VIDEOMAE if find_spec("transformers") is None else ()
    for other in names.DEEP:
        backbone, _, pooling = other.rpartition("_")
        is_twin = backbone in names.BACKBONES and pooling != names.POOLINGS[0]
        is_twin |= other in names.FLOW_MODELS[1:] or other == "x3d_m"
        if other != name and other not in lacking and not is_twin:
            found.append(other)
    return found


def _check_finite(taken: Mapping[str, Tensor], shown: str) -> None:
    wrong = [
        name
        for name, tensor in taken.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        raise UserError(
            f"{shown} holds NaN or infinity in {len(wrong)} tensors, {wrong[0]} among them: get a "
            "new copy of it"
        )


def _whose(renamed: Renamed) -> str:
    shown = renamed.origin.shown
    return f"{shown}{'' if shown.endswith('s') else chr(39) + 's'} names"


def _line(
    renamed: Renamed, found: FoundWeights, ours: Mapping[str, Tensor], head: str, count: int
) -> str:
    """What was taken and what was left, in one line."""
    of = "; ".join(part for part in (_whose(renamed), found.said, renamed.origin.note) if part)
    line = f"{found.shown}: {count} tensors taken ({of})"
    left = "".join(f", left: {number} of {why}" for why, number in renamed.left.items())
    if renamed.head_fits:
        return f"{line}, all there are, the head's {len(renamed.head)} among them{left}"
    return f"{line}{left}, {_of_head(renamed, found, ours, head)}, so the head is new"


def _of_head(renamed: Renamed, found: FoundWeights, ours: Mapping[str, Tensor], head: str) -> str:
    """Why a head is not kept."""
    if not renamed.head:
        return "there is no head"
    named = ", ".join(renamed.head[:4])
    theirs, classes = _classes(renamed.head, found.tensors), _classes(ours, ours, head)
    if theirs != classes:
        return f"left: {named} ({theirs} classes, this model has {classes})"
    return f"left: {named} (for other classes, or of another form)"


def _classes(
    among: Mapping[str, Tensor] | list[str], tensors: Mapping[str, Tensor], head: str = ""
) -> int:
    """The classes of a last layer, by its last matrix."""
    matrices = [tensors[n] for n in among if n.startswith(head) and tensors[n].ndim >= 2]
    return len(matrices[-1]) if matrices else 0


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put ``state`` into ``network``; all of it has to fit.

    Raises:
        UserError: names the tensors that are missing, too many or of another shape.
    """
    ours = network.state_dict()
    wrong = [f"{name} is missing" for name in ours.keys() - state.keys()]
    wrong += [f"{name} is not in this model" for name in state.keys() - ours.keys()]
    wrong += [
        f"{name} is {tuple(state[name].shape)} and must be {tuple(ours[name].shape)}"
        for name in ours.keys() & state.keys()
        if state[name].shape != ours[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"{source} does not fit the model: {'; '.join(sorted(wrong)[:5])}{more}")
    network.load_state_dict(dict(state))
