"""Common parts of all plots: colours, frames, names as text, PNG files.

Figures are made without matplotlib's global state, so any thread may draw. Colours are Okabe and
Ito's eight, which colour-blind readers can distinguish, always with a second sign (marker or dash).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidray import storage

COLOURS = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # green
    "#CC79A7",  # purple
    "#E69F00",  # orange
    "#56B4E9",  # sky
    "#000000",
    "#8C7A00",  # their yellow, darkened: it must be seen as a line on white
)
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X"
GREY = "#808080"
_PIXELS_PER_INCH = 150
_MOST_LETTERS = 24
Rows = Sequence[Mapping[str, Any]]


def save_figure(figure: Figure, uri: str) -> None:
    """Write a figure as PNG, to a local path or a bucket; the same figure gives the same bytes."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that no installed font has is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            sink,
            format="png",
            dpi=_PIXELS_PER_INCH,
            bbox_inches="tight",  # a long name is not cut at the edge
            metadata={"Software": None},
        )
    storage.write_bytes(uri, sink.getvalue())


def shown(name: str) -> str:
    """A class name as text: not a formula, not too long."""
    short = name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"
    return short.replace("$", r"\$")


def open_frame(axes: Axes) -> None:
    """Grid lines, and no frame on the right and above."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
