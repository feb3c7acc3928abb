"""A row of the table of origins: whose names the tensors of a file have.

It says for which architectures it holds, and rules that turn names of theirs into ours. Each
rule is a pattern that is searched for and its replacement; a name passes all of them in turn. At
the end it may be several of ours, and a part of one, or one of a part of it:

- ``{a,b}.weight``: the tensor goes to ``a.weight`` and to ``b.weight``;
- ``qkv.weight[1/3]``: it is the second third of our ``qkv.weight``, along the first axis;
- ``key.weight<1/3>``: of it, the second third is our ``key.weight``;
- ``head.weight~256``: its first 256 columns are our last.
"""

from __future__ import annotations

from dataclasses import dataclass

Rules = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Names of the tensors of one origin's networks, for those of ours that are the same."""

    name: str
    """A word for recipes and model.json."""
    shown: str
    """What people call it."""
    models: tuple[str, ...]
    """Our architectures."""
    rules: Rules = ()
    """Patterns and replacements, see the module."""
    head: str = r"(?!)"
    """Pattern of THEIR names that are the last layer, for their classes."""
    left: tuple[tuple[str, str], ...] = ()
    """Patterns of their names that no network of ours has, and what those are."""
    new: str = r"(?!)"
    """Pattern of OUR names that such a file does not fill."""
    variant: str | None = None
    """How the network is run so that it is theirs, see ``names.VARIANTS``."""
    note: str = ""
    """What else to say of such a file."""
    is_image: bool = False
    """Whether it is an image network, whose kernels are repeated over frames."""
    must_have: str = ""
    """Pattern of a name of theirs without which the file is not of this origin."""
