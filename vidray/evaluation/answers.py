"""A model's answers: probabilities checked, averaged over the clips of a video, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from vidray.errors import UserError, closest_name
from vidray.evaluation.intervals import Floats, Integers

# A true class of probability 0 would cost an infinite loss; scikit-learn cuts here too.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)

# Probabilities of a network in bfloat16 add up to 1 within this.
SUM_TOLERANCE = 0.01
PREDICTIONS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("true_label", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # predicted
        pa.field("probability", pa.float32(), nullable=False),  # of the predicted label
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),  # in the model's order
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("loss", pa.float32(), nullable=False),  # -log of the true label's probability
        pa.field("group", pa.string()),  # source recording; null where it is unknown
    ]
)


def average_views(video_ids: Sequence[str], probabilities: ArrayLike) -> tuple[list[str], Floats]:
    """One row per video of several clips: the mean of their probabilities.

    Args:
        video_ids: (N,) the video of each clip.
        probabilities: float (N, K).

    Returns:
        The M different ids in the order they are first seen, and float64 (M, K).

    Raises:
        ValueError: not one row of probabilities for each id.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or len(scores) != len(video_ids):
        raise ValueError(
            f"{len(video_ids)} video_ids and probabilities of shape {scores.shape}; "
            "pass one row for each id"
        )
    number_of = {video_id: k for k, video_id in enumerate(dict.fromkeys(video_ids))}
    numbers = np.array([number_of[video_id] for video_id in video_ids], dtype=np.int64)
    sums = np.zeros((len(number_of), scores.shape[1]))
    np.add.at(sums, numbers, scores)
    return list(number_of), sums / np.bincount(numbers, minlength=len(number_of))[:, None]


def prediction_rows(
    *,
    video_ids: Sequence[str],
    uris: Sequence[str],
    y_true: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    groups: Sequence[str | None],
    exit_stages: Sequence[int] | None = None,
) -> pa.Table:
    """PREDICTIONS, worst first: by loss, the largest where the true class is the least probable.

    Args:
        video_ids: (N,).
        uris: (N,).
        y_true: (N,) class names or indices.
        probabilities: float (N, K).
        class_names: K names.
        groups: (N,) the recording of each, None where it is unknown.
        exit_stages: (N,) of a network with early exits, for a column ``exit_stage``.

    Raises:
        UserError, ValueError: see ``compute_metrics``.
    """
    truth, scores = checked(y_true, probabilities, class_names)
    names = pa.array(class_names, pa.string())
    predicted = scores.argmax(axis=1)
    probability = scores.max(axis=1)
    correct = predicted == truth
    loss = losses(truth, scores)
    order = np.argsort(-loss, kind="stable")
    table = pa.table(
        [
            pa.array(video_ids, pa.string()),
            pa.array(uris, pa.string()),
            names.take(pa.array(truth)),
            names.take(pa.array(predicted)),
            pa.array(probability, pa.float32()),
            pa.array(list(scores.astype(np.float32)), pa.list_(pa.float32())),
            pa.array(correct),
            pa.array(loss, pa.float32()),
            pa.array(groups, pa.string()),
        ],
        schema=PREDICTIONS,
    )
    if exit_stages is not None:
        table = table.append_column("exit_stage", pa.array(exit_stages, pa.int32()))
    return table.take(pa.array(order))


def checked(
    y_true: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]
) -> tuple[Integers, Floats]:
    """Class indices (N,) and probabilities (N, K), known to fit each other."""
    truth = class_indices(y_true, class_names)
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.shape != (len(truth), len(class_names)):
        raise ValueError(
            f"probabilities have shape {scores.shape}; {len(truth)} labels of "
            f"{len(class_names)} classes need ({len(truth)}, {len(class_names)})"
        )
    sums = scores.sum(axis=1)
    # Written so that NaN is wrong too.
    wrong = ~((scores >= 0).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row {row} of probabilities is {scores[row][:5].tolist()}, sum {sums[row]:g}; "
            "probabilities are not negative and add up to 1: pass logits through a softmax first"
        )
    return truth, scores


def class_indices(labels: ArrayLike, class_names: Sequence[str]) -> Integers:
    """int64 (N,) from names or indices."""
    number_of = {name: k for k, name in enumerate(class_names)}
    if len(number_of) < len(class_names):
        raise ValueError(f"class names {list(class_names)} are not all different")
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels have shape {values.shape}; pass one for each video")
    if len(values) == 0:
        raise UserError("there are no videos to judge; choose a split that has some")
    if values.dtype.kind in "iu":
        outside = values[(values < 0) | (values >= len(class_names))]
        if len(outside):
            raise ValueError(
                f"label {outside[0]} is no index of {len(class_names)} classes; "
                f"pass 0 to {len(class_names) - 1}"
            )
        return values.astype(np.int64)
    return np.array([_number(label, number_of) for label in values.tolist()], dtype=np.int64)


def _number(label: object, number_of: Mapping[str, int]) -> int:
    if isinstance(label, str) and label in number_of:
        return number_of[label]
    meant = closest_name(str(label), number_of)
    hint = f"did you mean {meant!r}?" if meant else f"it knows {', '.join(list(number_of)[:10])}"
    raise UserError(f"the model does not know the label {label!r}: {hint}")


def losses(truth: Integers, scores: Floats) -> Floats:
    """float64 (N,): minus the logarithm of the true class's probability, in nats."""
    true_score = scores[np.arange(len(truth)), truth]
    losses: Floats = -np.log(np.clip(true_score, LEAST_PROBABILITY, 1))
    return losses + 0.0  # no -0.0 in a report
