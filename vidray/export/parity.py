"""A network and its export on the same clips, one after the other: answers, time, size, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from vidray.evaluation.judged import judge
from vidray.export.samples import Samples

Answers = NDArray[np.float64]
AnswerClips = Callable[[NDArray[np.uint8]], Answers]


@dataclass(frozen=True, kw_only=True)
class ParitySide:
    """One of the two.

    Attributes:
        accuracy, log_loss: of the videos of split val, with their intervals; None of made clips.
        size_bytes: of the weights, and of the graph where there is one.
        milliseconds: of a clip, the median, by one thread.
        peak_bytes: of a process that does nothing else.
    """

    accuracy: float | None
    accuracy_interval: list[float] | None
    log_loss: float | None
    log_loss_interval: list[float] | None
    size_bytes: int
    milliseconds: float
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an export differs from its network, as parity.json holds it.

    Attributes:
        clips: that were compared; of split val, or made.
        agreement: share of them that keep their label, with its exact interval.
        largest_change: of a probability.
        layers_in_float: of an int8 graph, named as in it; those clips have chosen them, so that
            another split must say how good it is.
        run_by: what ran the export here.
    """

    clips: int
    made: bool
    agreement: float
    agreement_interval: list[float]
    largest_change: float
    before: ParitySide
    after: ParitySide
    layers_in_float: list[str]
    run_by: str

    def to_json(self) -> dict[str, Any]:
        """The JSON of parity.json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TimedAnswers:
    """Probabilities ``float64 (N, K)`` of N clips, and the median seconds of one."""

    answers: Answers
    seconds: float


def alternated(
    before: AnswerClips, after: AnswerClips, samples: Samples
) -> tuple[TimedAnswers, TimedAnswers]:
    """Both answers about each clip, one right after the other, by turns first; one thread."""
    found: tuple[list[Answers], list[Answers]] = ([], [])
    seconds: tuple[list[float], list[float]] = ([], [])
    with one_thread():
        for predict in (before, after):
            predict(samples.clip(0))  # The first pass prepares what the others use.
        for k in range(len(samples)):
            clip = samples.clip(k)
            for which in (k % 2, 1 - k % 2):
                begin = time.perf_counter()
                found[which].append((before, after)[which](clip))
                seconds[which].append(time.perf_counter() - begin)
    first, second = (
        TimedAnswers(answers=np.concatenate(answers), seconds=statistics.median(each))
        for answers, each in zip(found, seconds, strict=True)
    )
    return first, second


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which PyTorch has one thread, as in a worker that labels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def agreement(before: Answers, after: Answers) -> float:
    """The share of clips that keep their label."""
    return float((before.argmax(axis=1) == after.argmax(axis=1)).mean())


def agreement_interval(before: Answers, after: Answers) -> list[float]:
    """The exact 95 % interval of ``agreement`` (Clopper & Pearson 1934), clips counted apart."""
    same = int((before.argmax(axis=1) == after.argmax(axis=1)).sum())
    low, high = binomtest(same, len(before)).proportion_ci(method="exact")
    return [float(low), float(high)]


def side(
    timed: TimedAnswers,
    samples: Samples,
    class_names: tuple[str, ...],
    size_bytes: int,
    peak: int | None,
) -> ParitySide:
    """The figures of one side."""
    figures: dict[str, Any] = {}
    if samples.examples is not None:
        figures = judge(samples.examples.table, timed.answers).metrics(class_names)
    intervals = figures.get("intervals", {})
    return ParitySide(
        accuracy=figures.get("accuracy"),
        accuracy_interval=intervals.get("accuracy"),
        log_loss=figures.get("log_loss"),
        log_loss_interval=intervals.get("log_loss"),
        size_bytes=size_bytes,
        milliseconds=1000 * timed.seconds,
        peak_bytes=peak,
    )
