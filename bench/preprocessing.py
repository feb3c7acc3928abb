"""How far our input of a network is from that of the package its weights come from.

    python bench/preprocessing.py [VIDEO ...]

Prints a row for each set of weights and a column for each video: the largest difference of the
whole tensor, of a normalised unit, over 4 frames. Without videos it takes those of ../shared/data.
Takes a minute on one core.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from tests import origins
from vidray.video.decode import Video, probe


def main(videos: list[Path]) -> None:
    """Print the table."""
    shown = [probe(str(path), count_frames=False) for path in videos]
    sizes = [f"{one.display_width_px}x{one.display_height_px}" for one in shown]
    print(f"| weights of | resizer | {' | '.join(sizes)} |")
    print("|" + "---|" * (len(videos) + 2))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        opened = [stack.enter_context(Video(str(path))) for path in videos]
        for origin in chain(
            origins.of_torchvision(),
            origins.of_facebook(),
            origins.of_opencv(),
            origins.of_transformers(Path(folder)),
        ):
            found = [
                origins.difference(video, path, origin, frames=4)
                for video, path in zip(opened, videos, strict=True)
            ]
            cells = " | ".join(f"{value:.1g}" for value in found)
            print(f"| {origin.name} | `{origin.recipe.resizer}` | {cells} |", flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or list(origins.REAL))
