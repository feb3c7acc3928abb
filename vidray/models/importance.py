"""Importance of feature families and of named features for a classical model.

Permutation importance (Breiman 2001; Fisher et al. 2019) on rows the model did not learn from: how
much worse its probabilities become when columns are shuffled among the videos. It treats the model
as a black box, so it means the same for all six, and speaks of features by name, whatever PCA or
selection lies between. Two limits: features that say the same stand in for each other, so each
looks unimportant alone (that is why a family is shuffled as a whole); and what is unimportant to
this model may still be informative to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import log_loss

from vidray.errors import UserError
from vidray.models.arrays import Labels, Matrix
from vidray.models.classical import predict


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The loss of a model without some features: mean and spread over the shuffles.

    Args:
        name: a family, or a feature such as ``flow.hof[3]``.
        log_loss_rise: in nats per video; near or below 0 where the model does without.
        log_loss_rise_std: population standard deviation over the shuffles.
        accuracy_drop: share of the videos.
        accuracy_drop_std: the same.
    """

    name: str
    log_loss_rise: float
    log_loss_rise_std: float
    accuracy_drop: float
    accuracy_drop_std: float


def by_columns(
    model: Any,
    x: Matrix,
    y: ArrayLike,
    columns: Mapping[str, NDArray[np.int64]],
    *,
    seed: int,
    repeats: int = 10,
) -> list[Importance]:
    """Importance of each set of columns, the most important first: families, parts, single ones.

    The columns of a set are shuffled together, a whole row of them from another video, so that what
    is measured is the loss of the set and not of the order within it. ``len(columns) * repeats``
    predictions of N rows.

    Args:
        model: what ``classical.fit`` returns.
        x: ``float32 (N, D)``, held out from the model's training.
        y: ``int (N,)``, in the order of the model's classes.
        columns: name -> column numbers, as ``matrices.family_columns`` gives them.
        seed: the same seed shuffles alike.
        repeats: shuffles of each set.

    Raises:
        UserError: fewer than two rows, which cannot be shuffled, or no repeats.
    """
    labels = np.asarray(y, np.int64)
    if len(x) < 2 or repeats < 1:
        raise UserError(f"{len(x)} rows and {repeats} repeats: give 2 rows and 1 repeat or more")
    loss, accuracy = _judge(predict(model, x), labels)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x)) for _ in range(repeats)]  # the same for every set
    shuffled = np.array(x)  # One copy; each set is put back after its turn.
    found = []
    for name, numbers in columns.items():
        original = x[:, numbers]  # (N, |set|)
        changes = []
        for order in orders:
            shuffled[:, numbers] = original[order]
            worse_loss, worse_accuracy = _judge(predict(model, shuffled), labels)
            changes.append((worse_loss - loss, accuracy - worse_accuracy))
        shuffled[:, numbers] = original
        (rise, drop), (rise_std, drop_std) = np.mean(changes, axis=0), np.std(changes, axis=0)
        found.append(
            Importance(
                name=name,
                log_loss_rise=float(rise),
                log_loss_rise_std=float(rise_std),
                accuracy_drop=float(drop),
                accuracy_drop_std=float(drop_std),
            )
        )
    return sorted(found, key=lambda importance: -importance.log_loss_rise)


def by_feature(
    model: Any,
    x: Matrix,
    y: ArrayLike,
    names: Sequence[str],
    *,
    seed: int,
    repeats: int = 5,
    candidates: int = 50,
) -> list[Importance]:
    """Importance of single named features, the most important first.

    Shuffling 163,828 numbers one by one would take hours, so only ``candidates`` of them are
    shuffled: those whose values go along with the model's answers best (``answer_correlation``).
    A feature that only matters together with others may be missed.

    Args:
        names: D names, as ``matrices.feature_names`` gives them.
        candidates: features to shuffle, 1 or more.
        (others as in ``by_columns``)

    Raises:
        UserError: names do not fit the columns.
    """
    if len(names) != x.shape[1]:
        raise UserError(f"{len(names)} names for {x.shape[1]} columns: give one each")
    strength = answer_correlation(predict(model, x), x)
    chosen = np.argsort(-strength, kind="stable")[:candidates]
    columns = {names[number]: np.array([number]) for number in chosen}
    return by_columns(model, x, y, columns, seed=seed, repeats=repeats)


def answer_correlation(probabilities: NDArray[np.float64], x: Matrix) -> NDArray[np.float64]:
    """Correlation of each feature with a model's answers: ``float64 (D,)``, 0 to 1.

    The largest absolute Pearson correlation, over the classes, with the logarithm of the class's
    probability. NaN counts as the feature's mean; a constant feature has 0.

    Args:
        probabilities: ``float64 (N, K)`` of a model.
        x: ``float32 (N, D)``, what it looked at.
    """
    answers = np.log(np.maximum(probabilities, 1e-12))
    answers = answers - answers.mean(axis=0)  # (N, K)
    known = np.isfinite(x)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, x, 0).sum(axis=0, dtype=np.float64) / counts
    centred = np.where(known, x - means, 0)  # (N, D)
    norms = np.linalg.norm(centred, axis=0)[:, None] * np.linalg.norm(answers, axis=0)  # (D, K)
    # A constant in float32 leaves rounding errors of its own size, which correlate with anything.
    floor = 1e-6 * np.sqrt(len(x)) * np.abs(means)[:, None] * np.linalg.norm(answers, axis=0)
    is_constant = norms <= np.maximum(floor, np.finfo(np.float64).tiny)
    correlation = np.abs(centred.T @ answers) / np.where(is_constant, 1, norms)
    return np.asarray(np.where(is_constant, 0, correlation).max(axis=1))


def _judge(probabilities: NDArray[np.float64], labels: Labels) -> tuple[float, float]:
    """Log loss in nats and accuracy."""
    classes = np.arange(probabilities.shape[1])
    loss = log_loss(labels, probabilities, labels=classes)
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())
