"""Feature families: name -> numbers that describe a video.

A family is one file that ends in ``FAMILY = Family(looks_at=..., describe=..., parts=...)``; it is
known by its line in ``FAMILIES`` here. ``shape_pooled`` is a short example, and
``tests/features/test_shape_pooled.py`` its test. Everything else follows from these: the flag
``--families``, the column of the table, what is decoded, the names of the numbers.

One family is not in ``FAMILIES``, since its length is that of a network: ``embedding``. Where it
may be meant, functions take the ``Embedding`` that stands for it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError, unknown_name
from vidray.features import audio, embedding, flow, notebook, shape_pooled
from vidray.features.embedding import Embedding, Views
from vidray.features.family import Family
from vidray.features.material import Bursts, LooksAt, Material

__all__ = [
    "FAMILIES",
    "PRESETS",
    "Bursts",
    "Embedding",
    "Family",
    "LooksAt",
    "Material",
    "Views",
    "column_names",
    "describe",
    "get_family",
]

FAMILIES: dict[str, Family] = {
    **notebook.FAMILIES,
    "flow": flow.FAMILY,
    "shape_pooled": shape_pooled.FAMILY,
    "audio": audio.FAMILY,
}

# On 203 fight clips of 34 recordings flow alone classifies best, and every family added to it makes
# the best model no better at more bytes (bench/presets.py).
PRESETS: dict[str, tuple[str, ...]] = {
    "default": ("flow",),
    "notebook": tuple(notebook.FAMILIES),
}


def get_family(name: str, network: Embedding | None = None) -> Family:
    """The family of that name.

    Args:
        network: the one whose numbers the family ``embedding`` has.

    Raises:
        UserError: no such family; the message lists those there are.
    """
    if name == embedding.NAME:
        if network is None:
            raise UserError(
                f"the family {name} is a network's: leave it out of --families, and give "
                "jobs/extract.py --embed MODEL_DIR"
            )
        return network.family
    if name not in FAMILIES:
        raise unknown_name("feature family", name, FAMILIES)
    return FAMILIES[name]


def column_names(name: str, network: Embedding | None = None) -> list[str]:
    """One name per number of a family, in order: ``part[index]``."""
    parts = get_family(name, network).parts
    return [f"{part}[{index}]" for part, length in parts for index in range(length)]


def describe(
    seen: Mapping[LooksAt, Material],
    families: Sequence[str] = PRESETS["default"],
    network: Embedding | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The families asked for, in one go: name -> ``float32 (length,)``, in the order asked.

    Args:
        seen: what there is to look at.
        families: names in ``FAMILIES``. A family whose material is not in ``seen`` is left out of
            the result: the video has nothing it could look at.
        network: that of the family ``embedding``, if it is among them.

    Raises:
        UserError: unknown family.
        ValueError: material of another shape or type.
    """
    of_name = {name: get_family(name, network) for name in families}
    wanted = [name for name in families if of_name[name].looks_at in seen]
    found: dict[str, NDArray[np.float32]] = {}
    shared = [name for name in wanted if name in notebook.FAMILIES]
    if shared:
        (frames,) = seen["frames"]
        found |= notebook.describe(frames, shared)
    for name in wanted:
        if name not in found:
            found[name] = of_name[name](*seen[of_name[name].looks_at])
    return {name: found[name] for name in wanted}
