"""What is on a map: the videos of a run with their numbers, classes, recordings and errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray.labelling import commit_files
from vidray.labelling.commits import LabelSet
from vidray.report.judged.comparable import groups
from vidray.report.runs import ExtractRun, JudgedModel, LabelHistory, Runs
from vidray.sources.splits import known_recordings

# Neighbours are looked for among so many videos: a matrix of 72 MB.
MOST_COMPARED = 3000
_EMBEDDING, _USUAL = "embedding", "flow"


@dataclass(frozen=True, kw_only=True)
class MapPoints:
    """Videos with the numbers that a map is made of.

    Attributes:
        what: the numbers, such as ``features: flow``.
        run: the name of the run that they are of.
        num_videos: of the run that have them; these are a sample of it, each class with its share.
        model: the name of the model whose errors are marked; empty for none.
        frame: a row a video: ``video_id``, ``uri``, ``true_label``, ``recording``, and ``label``
            that the model gives; null where there is none. In the order of ``stratified``.
        vectors: ``float32 (N, D)``.
    """

    what: str
    run: str
    num_videos: int
    model: str
    frame: pd.DataFrame
    vectors: NDArray[np.float32]


def all_points(runs: Runs, seed: int) -> Iterator[MapPoints]:
    """All that a map can be made of: families of features, and embeddings of networks."""
    judged = [group.best for group in groups(runs)]
    for run in runs.features:
        for families in _families(run, runs.judged):
            yield of_features(run, families, judged, seed)
    for history in runs.labels:
        if (found := of_labels(history, seed)) is not None:
            yield found


def _families(run: ExtractRun, judged: Sequence[JudgedModel]) -> list[list[str]]:
    """The families of the most accurate classical model that has learnt from such features, or
    flow; apart from them the embedding.
    """
    if not run.families:
        return []
    fitting = [
        (one.metrics["accuracy"], list(one.model.info["families"]))
        for one in judged
        if one.model is not None
        and not one.model.is_deep
        and set(one.model.info["families"]) <= set(run.families)
    ]
    usual = _USUAL if _USUAL in run.families else next(iter(run.families))
    chosen = max(fitting, key=lambda one: one[0])[1] if fitting else [usual]
    alone = [[_EMBEDDING]] if _EMBEDDING in run.families else []
    return [chosen, *(one for one in alone if one != chosen)]


def of_features(
    run: ExtractRun, families: Sequence[str], judged: Sequence[JudgedModel], seed: int
) -> MapPoints:
    """The videos of an extract run by some of its families.

    Args:
        judged: the errors of the first one that was judged on any of the videos are marked.
    """
    vectors = run.matrix(families)
    rows = run.rows.append_column("recording", pa.array(known_recordings(run.rows), pa.string()))
    kept = np.flatnonzero(np.isfinite(vectors).any(axis=1))
    rows = rows.take(kept)
    videos = rows["video_id"].to_pylist()
    chosen = stratified(videos, rows["label"].to_pylist(), most=MOST_COMPARED, seed=seed)
    there = set(videos)
    best = next((one for one in judged if there & set(one.video_ids)), None)
    said = {} if best is None else dict(zip(best.video_ids, best.predicted, strict=True))
    is_embedding = list(families) == [_EMBEDDING]
    return MapPoints(
        what="embeddings" if is_embedding else f"features: {', '.join(families)}",
        run=run.name,
        num_videos=len(rows),
        model="" if best is None else best.title,
        frame=_frame(rows.take(chosen), "label", [said.get(videos[k]) for k in chosen]),
        vectors=vectors[kept[chosen]],
    )


def of_labels(history: LabelHistory, seed: int) -> MapPoints | None:
    """The newest labels of a set by the embeddings that were stored with them; None: there are
    none, or of several lengths, which share no space.
    """
    rows = commit_files.newest(history.rows)
    rows = rows.filter(pc.equal(rows["status"], "ok"))
    num_videos = len(rows)
    chosen = stratified(
        rows["video_id"].to_pylist(), rows["true_label"].to_pylist(), most=MOST_COMPARED, seed=seed
    )
    rows = rows.take(chosen)
    commit_of = dict(zip(rows["video_id"].to_pylist(), rows["commit"].to_pylist(), strict=True))
    found = dict(_embeddings(history, commit_of))
    if len({len(vector) for vector in found.values()}) != 1:
        return None
    rows = rows.filter(pc.is_in(rows["video_id"], pa.array(list(found), pa.string())))
    rows = rows.append_column("recording", pa.array(known_recordings(rows), pa.string()))
    return MapPoints(
        what=f"embeddings of {history.model_name}",
        run=history.name,
        num_videos=num_videos,
        model=history.model_name,
        frame=_frame(rows, "true_label", rows["label"].to_pylist()),
        vectors=np.stack([found[video] for video in rows["video_id"].to_pylist()]),
    )


def _frame(rows: pa.Table, truth: str, said: Sequence[str | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "video_id": rows["video_id"].to_pylist(),
            "uri": rows["uri"].to_pylist(),
            "true_label": rows[truth].to_pylist(),
            "recording": rows["recording"].to_pylist(),
            "label": list(said),
        },
        dtype=object,
    )


def _embeddings(
    history: LabelHistory, commit_of: Mapping[str, int]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Video and its embedding, ``float32 (D,)``; one commit after another: they are large."""
    wanted = pa.array(list(commit_of), pa.string())
    for commit in LabelSet(out=history.out, name=history.set_name).commits():
        if _EMBEDDING not in commit.contents.columns:
            continue
        rows = commit_files.read(commit, ["video_id", "commit", _EMBEDDING])
        rows = rows.filter(pc.and_(pc.is_in(rows["video_id"], wanted), rows[_EMBEDDING].is_valid()))
        for row in rows.to_pylist():
            vector = np.array(row[_EMBEDDING], np.float32)
            if row["commit"] == commit_of[row["video_id"]] and np.isfinite(vector).all():
                yield row["video_id"], vector


def stratified(
    video_ids: Sequence[str], classes: Sequence[str | None], *, most: int, seed: int
) -> NDArray[np.int64]:
    """Places of ``most`` videos, each class with its share and at least one; of several runs of
    the same videos, the same ones.

    They are in an order of which every beginning is such a sample, as near as it can be.
    """
    keys = [blake2b(f"{seed} {video}".encode(), digest_size=8).digest() for video in video_ids]
    places_of: dict[str | None, list[int]] = defaultdict(list)
    for place in sorted(range(len(keys)), key=lambda k: keys[k]):
        places_of[classes[place]].append(place)
    # The k-th of n videos of a class stands at (k + 1/2) / n, and the first of each class first.
    ranked = [
        (bool(k), (k + 0.5) / len(places), keys[place], place)
        for places in places_of.values()
        for k, place in enumerate(places)
    ]
    return np.array([rank[-1] for rank in sorted(ranked)[:most]], np.int64)
