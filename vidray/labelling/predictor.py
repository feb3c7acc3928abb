"""The network of a label job: in the decoding process, or in one that many processes share.

Clips of different videos share forward passes of one fixed size, filled up with black where too few
are waiting: what a network says of a clip does not depend on its neighbours then, and neither does
a label on how many processes there were. No Ray here, and PyTorch only for a network that needs it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray.labelling import wire
from vidray.labelling.settings import LabelSettings, check_unchanged, network_options
from vidray.labelling.wire import Answer
from vidray.models.exported.description import is_graph
from vidray.models.model_files import network_folder, read_info
from vidray.video.clips import ClipSettings


class Predictor(Protocol):
    """A network that gives the ``Answer`` for clips; safe to call from several threads.

    Attributes:
        class_names: in the order of the probabilities.
        clip: how a video is cut into the clips it takes.
        on_gpu: whether it computes on one.
        batch_size: clips of a forward pass.
    """

    class_names: tuple[str, ...]
    clip: ClipSettings
    on_gpu: bool
    batch_size: int

    def begin_thread(self) -> None:
        """Prepare a thread that will call it again and again."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Answer:
        """The answer for clips ``uint8 (N, T, H, W, 3)``."""


def open_predictor(settings: LabelSettings, *, may_use_gpu: bool) -> Predictor:
    """The network of a model, or of a classical one that whose embeddings it takes, loaded.

    Raises:
        UserError: it cannot be loaded.
    """
    asked = network_options(settings)
    # PyTorch takes 0.3 GB and 2 seconds: not where another runtime runs the network.
    if is_graph(read_info(network_folder(settings.model))):
        from vidray.labelling import exported_predictor

        return exported_predictor.open_predictor(asked, may_use_gpu=may_use_gpu)
    from vidray.labelling import torch_predictor

    return torch_predictor.open_predictor(asked, may_use_gpu=may_use_gpu)


class Batches:
    """Clips of many callers in the same forward passes.

    Args:
        predictor: answers about a batch.
        threads: forward passes at once; with two, the pixels of one cross to a GPU while it
            computes the other.
    """

    def __init__(self, predictor: Predictor, *, threads: int) -> None:
        self._predictor = predictor
        self._waiting: queue.SimpleQueue[tuple[NDArray[np.uint8], Future[Answer]]] = (
            queue.SimpleQueue()
        )
        for _ in range(threads):
            threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, pixels: NDArray[np.uint8]) -> Answer:
        """The answer for clips ``uint8 (N, T, H, W, 3)``; returns when all are answered."""
        asked: list[Future[Answer]] = [Future() for _ in pixels]
        for clip, future in zip(pixels, asked, strict=True):
            self._waiting.put((clip, future))
        return wire.joined([future.result() for future in asked])

    def _serve(self) -> None:
        """Run batches in a thread."""
        self._predictor.begin_thread()
        while True:
            taken = [self._waiting.get()]
            while len(taken) < self._predictor.batch_size and not self._waiting.empty():
                try:
                    taken.append(self._waiting.get_nowait())
                except queue.Empty:  # The other thread was faster.
                    break
            self._answer([clip for clip, _ in taken], [future for _, future in taken])

    def _answer(self, clips: list[NDArray[np.uint8]], futures: list[Future[Answer]]) -> None:
        try:
            answer = self._predictor(np.stack(clips))
        except Exception as error:  # noqa: BLE001  It is the callers' to raise.
            for future in futures:
                future.set_exception(error)
            return
        for k, future in enumerate(futures):
            future.set_result(answer.rows(slice(k, k + 1)))


def answer_questions(config: Mapping[str, Any]) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """The work of a process that holds the network: ``labeller.question`` -> ``write_answer``.

    Args:
        config: ``LabelSettings`` as JSON. Of a classical model the network is the one whose
            embeddings it takes, and answers have these.

    Raises:
        UserError: the model is not the one the job began with, or there is a GPU for this process
            that its runtime cannot use.
    """
    settings = LabelSettings.from_json(config).asked
    predictor = open_predictor(settings, may_use_gpu=True)
    check_unchanged(settings)
    predict = Batches(predictor, threads=2 if predictor.on_gpu else 1)
    return lambda asked: wire.write_answer(predict(wire.read_question(asked, predictor.clip)))
