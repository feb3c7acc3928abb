"""Speed of each part of the notebooks' families against the library call it replaces.

    python bench/features.py [--video FILE]

One thread, both ways in turn in one process, medians of the ratios; a minute. Prints, per part,
milliseconds of both ways and the worst error, then the whole preset per frame and per video.
Needs the development packages (scikit-image is the reference).
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # read when numpy is loaded, so before it is
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from tests import features_reference as reference  # noqa: E402
from vidray import features  # noqa: E402
from vidray.features import color, motion, notebook, shape, texture  # noqa: E402

ROUNDS = 7


def timed(function: Callable[..., Any], *arguments: Any) -> float:
    """Milliseconds of one call."""
    begin = time.perf_counter()
    function(*arguments)
    return (time.perf_counter() - begin) * 1e3


def compare(
    name: str, ours: Callable[[Any], Any], theirs: Callable[[Any], Any], items: Any
) -> None:
    """Print one line: times, ratio, worst error over the items."""
    error = max(reference.worst_error(ours(item), theirs(item)) for item in items)
    pairs = [(timed(ours, item), timed(theirs, item)) for _ in range(ROUNDS) for item in items]
    fast, slow = np.median(pairs, axis=0)
    ratio = np.median([theirs_ms / ours_ms for ours_ms, theirs_ms in pairs])
    print(f"{name:<26}{fast:>9.2f}{slow:>11.2f}{ratio:>8.1f}x{error:>13.1e}")


def our_preset(frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """All families of the notebooks."""
    return notebook.describe(frames, features.PRESETS["notebook"])


def library_frame(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The libraries' way to a frame's numbers."""
    return reference.frame_vector(rgb)


def our_frame(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Our way: what ``notebook.describe`` does with one frame."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.concatenate([color.numbers(rgb), texture.numbers(gray), shape.numbers(gray)])


def our_edges(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Edge profile and contours, which share their edges."""
    edges = cv2.Canny(gray, 80, 160)
    return np.concatenate([shape.edge_profile(edges), shape.contours(edges)])


def library_edges(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Edge profile and contours by numpy and one OpenCV call per contour."""
    return np.concatenate([reference.edge_profile(gray), reference.contours(gray)])


def our_flow(pair: tuple[Any, Any]) -> NDArray[np.float64]:
    """Horn-Schunck in 38 numbers."""
    return motion.horn_schunck_statistics(*motion.horn_schunck(*pair))


def library_flow(pair: tuple[Any, Any]) -> NDArray[np.float64]:
    """Horn-Schunck by scipy in float64, then the same statistics."""
    flow = reference.horn_schunck(
        *pair, alpha=motion.HORN_SCHUNCK_ALPHA, iterations=motion.HORN_SCHUNCK_ITERATIONS
    )
    return motion.horn_schunck_statistics(*flow)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="a clip; made frames without it")
    video = parser.parse_args().video
    cv2.setNumThreads(1)
    made = list(reference.made_frames().values())
    frames = np.stack(reference.sampled_frames(video)[:8] if video else made[3:])

    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    few, few_grays = frames[:4], grays[:4]

    print(f"{len(frames)} frames of {video or 'no video: made ones'}")
    print(f"{'part':<26}{'ours ms':>9}{'library ms':>11}{'ratio':>9}{'worst error':>13}")
    compare("color", color.numbers, reference.color, few)
    compare("texture: glcm", texture.glcm, reference.glcm, few_grays)
    compare("texture: lbp", texture.lbp, reference.lbp, few_grays)
    compare("texture: gabor", texture.gabor, reference.gabor_energy, few_grays)
    compare("shape: edges, contours", our_edges, library_edges, few_grays)
    compare("shape: hog", shape.hog, reference.hog_vector, few_grays)
    compare("frame, all of these", our_frame, library_frame, few)
    if len(grays) > 1:
        pair = [(grays[0], grays[1])]
        compare(
            "video: frame difference", motion.frame_difference, reference.frame_difference, [grays]
        )
        compare("video: horn-schunck", our_flow, library_flow, pair)
        whole = np.median([timed(motion.lucas_kanade, *pair[0]) for _ in range(ROUNDS)])
        print(f"{'video: lucas-kanade':<26}{whole:>9.2f}")

    per_frame = ("color", "texture", "shape", "temporal")
    both = [
        (
            timed(notebook.describe, frames, per_frame),
            timed(our_preset, frames),
        )
        for _ in range(ROUNDS)
    ]
    without_motion, whole = np.median(both, axis=0)
    motion_ms = np.median([preset - rest for rest, preset in both])
    print(
        f"notebook preset, {notebook.LENGTH:,} numbers: {whole:.1f} ms for {len(frames)} "
        f"frames = {without_motion / len(frames):.2f} ms a frame + {motion_ms:.1f} ms a video"
    )


if __name__ == "__main__":
    main()
