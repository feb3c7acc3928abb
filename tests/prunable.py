"""Which networks can be pruned, by how much: the table of docs/training.md.

python -m tests.prunable
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from vidray.learning.pruning import choice, groups
from vidray.models import names
from vidray.models.networks.build import build

# Clips that are quick to compute: few frames, and the least size of each network.
_SIZES = {"s3d": (8, 32), "c3d": (16, 112), "slowfast_r50": (32, 32)}
_USUAL = (4, 32)
_HEAD = """| model | groups of channels | channels | most of the operations that can go |
|---|---|---|---|
"""
# Their widths are tied; what they are is not looked at layer by layer, and some need a package.
TRANSFORMERS = ("mvit", "swin3d", "timesformer", "videomae")
CONVOLUTIONAL = tuple(name for name in names.DEEP if not name.startswith(TRANSFORMERS))


def clip_shape(name: str) -> tuple[int, int, int, int]:
    """A clip, (C, T, H, W), that is quick to compute."""
    frames, size_px = _SIZES.get(name, _USUAL)
    return (5 if name in names.FLOW_MODELS else 3, frames, size_px, size_px)


def figures(name: str) -> tuple[int, int, str]:
    """Groups, channels, and the share of the operations that goes where the least is left."""
    shape = clip_shape(name)
    built = build(name, num_classes=4, frames=shape[1], size_px=shape[2])
    found = groups.find_groups(built, shape)
    costs = choice.count_operations(built.network, shape)
    least = choice.least_left(np.array([group.size for group in found]))
    gone = 1 - costs.after(found, least.tolist()) / costs.total
    return len(found), sum(group.size for group in found), f"{gone:.2f}"


def rows() -> Iterator[str]:
    """A row for each network, or for several that are alike."""
    alike = defaultdict(list)
    for name in CONVOLUTIONAL:
        alike[figures(name)].append(name)
    for (count, channels, gone), members in alike.items():
        shown = ", ".join(f"`{name}`" for name in members)
        yield f"| {shown} | {count} | {channels:,} | {gone} |\n"


def page() -> str:
    """The table."""
    return _HEAD + "".join(rows())


if __name__ == "__main__":
    print(page(), end="")
