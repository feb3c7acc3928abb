"""Maps of many numbers a video in two dimensions, and what is true of the numbers themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from vidray.evaluation.intervals import Floats, Integers, interval, resampled

# Fewer points are no map.
FEWEST = 8
_MOST_COMPONENTS = 50  # As van der Maaten and Hinton (2008) do before t-SNE.
_PERPLEXITY, _UMAP_NEIGHBOURS = 30, 15  # Their own defaults.
NEIGHBOURS = 5
_RESAMPLES = 1000


def standardised(vectors: NDArray[np.floating]) -> Floats:
    """``float64 (N, D)``: each column with mean 0 and deviation 1; what is missing is the mean.

    Columns that are the same everywhere, or missing, say nothing and are left out.
    """
    values = np.where(np.isfinite(vectors), vectors, np.nan).astype(np.float64)
    values = values[:, np.isfinite(values).any(axis=0)]
    # By the largest first: squares of float32's largest numbers are still finite then.
    largest = np.nanmax(np.abs(values), axis=0)
    values = values / np.where(largest > 0, largest, 1)
    centred = values - np.nanmean(values, axis=0)
    spread = np.nanstd(centred, axis=0)
    is_alive = spread > 1e-9
    found: Floats = np.nan_to_num(centred[:, is_alive] / spread[is_alive])
    return found


def tsne(values: Floats, seed: int) -> Floats:
    """``float64 (N, 2)``: the map of t-SNE; the same for the same values and seed."""
    from sklearn.manifold import TSNE  # Seconds of imports: only a page with maps pays them.

    perplexity = min(_PERPLEXITY, (len(values) - 1) / 3)
    made = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return np.asarray(made.fit_transform(_components(values)), np.float64)


def umap(values: Floats, seed: int) -> Floats:
    """``float64 (N, 2)``: the map of UMAP; the same for the same values and seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of Numba, and of what a seed costs.
        from umap import UMAP

        neighbours = min(_UMAP_NEIGHBOURS, len(values) - 1)
        made = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1)
        return np.asarray(made.fit_transform(_components(values)), np.float64)


# Name -> as it is in names of files, and the function.
METHODS: dict[str, tuple[str, Callable[[Floats, int], Floats]]] = {
    "t-SNE": ("tsne", tsne),
    "UMAP": ("umap", umap),
}


def has_umap() -> bool:
    """Whether the package is installed."""
    return find_spec("umap") is not None


def _components(values: Floats) -> Floats:
    """``float64 (N, C)``: the first principal components, 50 at the most."""
    if min(values.shape) <= _MOST_COMPONENTS:
        return values
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    found: Floats = left[:, :_MOST_COMPONENTS] * sizes[:_MOST_COMPONENTS]
    return found


def kept_neighbours(values: Floats, place: Floats) -> float:
    """Share of each point's five nearest on a map that are among its ten nearest in ``values``."""
    on_map, in_all = _distances(place), _distances(values)
    near = _nearest(in_all, 2 * NEIGHBOURS)
    return float(
        np.mean([np.isin(row, of) for row, of in zip(_nearest(on_map), near, strict=True)])
    )


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """What the nearest neighbours of the videos are, in all dimensions.

    Attributes:
        same_class: of the five nearest neighbours that are of other recordings, the share that has
            the video's class; the mean over the videos.
        low, high: its interval, from resampled recordings; None where there is one recording.
        by_chance: the share if the numbers said nothing of the class.
        own_recording: of the five nearest of all, the share that is of the video's own recording.
        videos: that have a class, and neighbours of other recordings.
    """

    same_class: float
    low: float | None
    high: float | None
    by_chance: float
    own_recording: float
    videos: int


def neighbourhood(
    values: Floats, class_of: Integers, recording_of: Integers, seed: int
) -> Neighbourhood | None:
    """The classes and recordings of nearest neighbours by Euclidean distance.

    Args:
        values: ``float64 (N, D)``, standardised.
        class_of, recording_of: numbers, of each video.

    Returns:
        None where no video has neighbours of other recordings.
    """
    distances = _distances(values)  # (N, N)
    is_own = recording_of[:, None] == recording_of[None]
    nearest = _nearest(distances)
    own = np.take_along_axis(is_own, nearest, axis=1).mean()
    others = np.where(is_own, np.inf, distances)
    nearest = _nearest(others)
    is_there = np.isfinite(np.take_along_axis(others, nearest, axis=1))  # (N, 5)
    kept = is_there.any(axis=1)
    if not kept.any():
        return None
    is_same = class_of[nearest] == class_of[:, None]
    shares = (is_same & is_there).sum(axis=1)[kept] / is_there.sum(axis=1)[kept]
    is_class = class_of[:, None] == class_of[None]
    by_chance = ((is_class & ~is_own).sum(axis=1)[kept] / (~is_own).sum(axis=1)[kept]).mean()
    low, high = _ends(shares, recording_of[kept], seed)
    return Neighbourhood(
        same_class=float(shares.mean()),
        low=low,
        high=high,
        by_chance=float(by_chance),
        own_recording=float(own),
        videos=int(kept.sum()),
    )


def _distances(values: Floats) -> Floats:
    """``float64 (N, N)``: squared, and infinite to itself."""
    lengths = (values**2).sum(axis=1)
    found: Floats = lengths[:, None] + lengths[None] - 2 * values @ values.T
    np.fill_diagonal(found, np.inf)
    return found


def _nearest(distances: Floats, count: int = NEIGHBOURS) -> Integers:
    """Columns of the smallest distances of each row, ``int64 (N, count)``, the nearest first."""
    count = min(count, distances.shape[1])
    some = np.argpartition(distances, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(distances, some, axis=1).argsort(axis=1, kind="stable")
    found: Integers = np.take_along_axis(some, order, axis=1)
    return found


def _ends(shares: Floats, recording_of: Integers, seed: int) -> tuple[float | None, float | None]:
    _, numbers = np.unique(recording_of, return_inverse=True)
    if numbers.max() == 0:
        return None, None
    blocks = [
        shares @ weights / weights.sum(axis=0) for weights in resampled(numbers, _RESAMPLES, seed)
    ]
    ends = interval(np.concatenate(blocks))
    return (None, None) if ends is None else (ends[0], ends[1])
