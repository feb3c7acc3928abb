"""Actors that hold a network apart from the workers, and how a worker asks them.

worker: sandbox ──question──> ask ──> Predict, one after the other ──answer──> sandbox
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions

from vidray.distributed.capacity import MOST_STARTING_SECONDS
from vidray.distributed.resources import Predictors, Resources
from vidray.distributed.sandbox import Ask, find
from vidray.errors import UserError

_MOST_SECONDS_TO_TELL = 10
# Questions that a predictor answers at once; each is of one worker, so more would be idle threads.
_MOST_QUESTIONS = 128


def start(config: dict[str, Any], resources: Resources, wanted: Predictors) -> list[Any]:
    """Actors that have loaded their network."""
    actor = ray.remote(Predict).options(
        num_cpus=wanted.cpus_each,
        num_gpus=wanted.gpus_each,
        memory=0 if wanted.gpus_each else resources.memory_bytes,
        max_concurrency=_MOST_QUESTIONS,
        max_restarts=-1,
        max_task_retries=-1,
    )
    predictors: list[Any] = [actor.remote(wanted.target, config) for _ in range(wanted.number)]
    ready: list[Any] = [predictor.__ray_ready__.remote() for predictor in predictors]
    done, _ = ray.wait(ready, num_returns=len(ready), timeout=MOST_STARTING_SECONDS)
    if len(done) < len(ready):
        raise UserError(
            f"{len(ready) - len(done)} of {len(ready)} predictors have not started within "
            f"{MOST_STARTING_SECONDS} seconds: other jobs hold the GPUs or CPUs, so start the job "
            "again when these are done, or lower --predictors; a transformer may take longer to "
            "compile, so leave --compile out"
        )
    try:
        ray.get(ready)
    except ray.exceptions.RayActorError as error:
        raise _cannot_start(error) from error
    return predictors


def busy_seconds(started: Sequence[Any]) -> float | None:
    """Seconds in which the predictors had a question in hand, together; None where one that died
    cannot tell, or there are none.
    """
    if not started:
        return None  # Ray may not be there, and ray.get would start it.
    told: list[Any] = [predictor.busy_seconds.remote() for predictor in started]
    try:
        found: list[float] = ray.get(told, timeout=_MOST_SECONDS_TO_TELL)
    except ray.exceptions.RayError:
        return None
    return sum(found)


def stop(started: Sequence[Any]) -> None:
    """End actors at once: in a notebook, which goes on, they would hold their CPUs and GPUs until
    the last trace of the job is collected, and a training would wait for them for ever.
    """
    if ray.is_initialized():
        for predictor in started:
            ray.kill(predictor)


def _cannot_start(error: ray.exceptions.RayActorError) -> UserError:
    reason = [line for line in str(error).splitlines() if line.strip()][-1]
    # Without the name of its class, which means nothing to a user.
    return UserError(f"a predictor cannot start: {reason.strip().split('Error: ', 1)[-1]}")


class Predict:
    """An actor that holds a network and runs it on the clips of many workers."""

    def __init__(self, target: str, config: dict[str, Any]) -> None:
        self._answer: Ask = find(target)(config)
        self._lock, self._in_hand = threading.Lock(), 0
        self._busy_seconds, self._busy_since = 0.0, 0.0

    def answer(self, question: pa.RecordBatch) -> pa.RecordBatch:
        """Answer a question made by ``wire.question``."""
        self._count(1)
        try:
            return self._answer(question)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        """Stop the clock while no question is in hand."""
        with self._lock:
            now = time.monotonic()
            if self._in_hand:
                self._busy_seconds += now - self._busy_since
            self._busy_since = now
            self._in_hand += more

    def busy_seconds(self) -> float:
        """Seconds in which a question was in hand: not those in which it waited for one."""
        with self._lock:
            return self._busy_seconds


def ask(predictors: Sequence[Any]) -> Ask | None:
    """A function that asks the predictors in turn; each process begins with another one."""
    if not predictors:
        return None
    turns = itertools.count(os.getpid())

    def ask_next(question: pa.RecordBatch) -> pa.RecordBatch:
        predictor = predictors[next(turns) % len(predictors)]
        # Not ray.get: while a task waits in it, Ray gives its CPU to one more task.
        try:
            answer: pa.RecordBatch = predictor.answer.remote(question).future().result()
        except ray.exceptions.RayActorError as error:
            # It is started again whenever it dies, unless it refuses: the model has changed.
            raise _cannot_start(error) from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):  # A fault of the model: the user can fix it.
                raise UserError(str(error.cause)) from None
            raise
        return answer

    return ask_next
