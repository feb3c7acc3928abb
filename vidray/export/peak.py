"""The memory that one model needs to answer, in a process of its own.

    python -m vidray.export.peak MODEL_DIR

Prints the most bytes that the process has held, less those that Python itself and the packages
that both ways share had before the model was looked at.
"""

from __future__ import annotations

import os
import subprocess
import sys

from vidray.errors import JobError

_SECONDS = 600


def peak_bytes(model_dir: str) -> int | None:
    """The peak of a child process that loads a model and answers about a black clip.

    Raises:
        JobError: the child failed.
    """
    command = [sys.executable, "-m", "vidray.export.peak", model_dir]
    # A child of a package that is found through the current folder finds it there, too.
    paths = os.pathsep.join(path for path in (os.getcwd(), *sys.path) if path)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_SECONDS,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    last = done.stdout.split()[-1:]
    if done.returncode or not last:
        said = " ".join(done.stderr.split())[-200:]
        raise JobError(f"the memory of {model_dir} could not be measured: {said}")
    return int(last[0]) or None


def main(model_dir: str) -> None:
    """Load, answer once, print."""
    import numpy as np

    from vidray import memory
    from vidray.models.exported.description import is_graph
    from vidray.models.exported.model import load_exported
    from vidray.models.model_files import read_info

    info = read_info(model_dir)
    before = memory.resident_bytes() or 0
    clip = info["clip"]
    pixels = np.zeros((1, clip["frames_per_clip"], clip["size_px"], clip["size_px"], 3), np.uint8)
    if is_graph(info):
        load_exported(model_dir, info, threads=1).predict(pixels)
    else:
        import torch

        from vidray.models.folder import load_network

        torch.set_num_threads(1)
        load_network(model_dir).predict(pixels)
    print(max((memory.peak_bytes() or 0) - before, 0))


if __name__ == "__main__":
    main(sys.argv[1])
