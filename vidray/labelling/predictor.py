"""The network of a label job: in the decoding process, or in one that many processes share.

Clips of different videos share forward passes of one fixed size, filled up with black where too few
are waiting: what a network says of a clip does not depend on its neighbours then, and neither does
a label on how many processes there were. No Ray here.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray.errors import ModelError, UserError
from vidray.labelling import wire
from vidray.labelling.settings import LabelSettings, check_unchanged, network_options
from vidray.labelling.wire import Answer
from vidray.models import DeepModel, inference
from vidray.models.folder import load_network
from vidray.video.steady_opencv import steady_opencv

# A GPU is idle with less; a thread of a CPU is busy with one.
_CLIPS_ON_GPU, _CLIPS_ON_CPU = 16, 1
# Of those that have not left at an early exit: at most three of a pass are black.
_CLIPS_AFTER_EXIT = 4


def use_one_thread() -> None:
    """Limit this process to one thread: there is one process per core."""
    steady_opencv()
    torch.set_num_threads(1)


class Predictor:
    """A network that gives the ``Answer`` for clips; safe to call from several threads.

    Args:
        model: on the device where it is to compute.
    """

    def __init__(self, model: DeepModel, settings: LabelSettings) -> None:
        self._model, self._precision = model, settings.options.precision
        self.on_gpu = next(model.network.parameters()).device.type == "cuda"
        self.batch_size = _CLIPS_ON_GPU if self.on_gpu else _CLIPS_ON_CPU
        inference.to_channels_last(model.network)
        self._seen = threading.local()
        self._keeps = settings.options.embedding
        # Of a fixed size as well, so that those who leave change nothing for those who stay.
        self._rows_at_once = min(_CLIPS_AFTER_EXIT, self.batch_size)
        if self._keeps:
            # What the head sees is of all clips: none leaves before it.
            self._model = model = dataclasses.replace(model, exits=None)
            assert model.head is not None
            model.head.register_forward_pre_hook(self._keep)
        if settings.options.compile:
            self._compile()
        else:
            self._try()

    def _try(self) -> None:
        """The first forward pass, of black clips, before anybody waits for an answer.

        What is wrong with the model, or too little memory for it, is then no video's fault.
        """
        clip = self._model.clip
        shape = (self.batch_size, clip.frames_per_clip, clip.size_px, clip.size_px, 3)
        self._forward(np.zeros(shape, np.uint8))

    def _compile(self) -> None:
        """Compile the network for the one batch size."""
        # "freezing" takes weights for constants: batch norms are folded into them and they are laid
        # out for the processor once, which is most of what is gained.
        network: Any = torch.compile(self._model.network, options={"freezing": True})
        self._model = dataclasses.replace(self._model, network=network)
        try:
            self._try()
        except ModelError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise UserError(
                f"{self._model.name} cannot be compiled ({reason}): install a C++ compiler such as "
                "g++ on every node, or leave --compile out"
            ) from error

    def _keep(self, _head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen.embeddings = inputs[0].detach().float().cpu().numpy()

    def __call__(self, pixels: NDArray[np.uint8]) -> Answer:
        """The answer for clips ``uint8 (N, T, H, W, 3)``."""
        size = self.batch_size
        return wire.joined(
            [self._forward(pixels[k : k + size]) for k in range(0, len(pixels), size)]
        )

    def _forward(self, pixels: NDArray[np.uint8]) -> Answer:
        """Run the network on up to ``batch_size`` clips."""
        missing = self.batch_size - len(pixels)
        if missing:
            black = np.zeros((missing, *pixels.shape[1:]), np.uint8)
            pixels = np.concatenate([pixels, black])
        found, stages = self._model.answer_rows(
            lambda rows: pixels[rows],
            np.arange(len(pixels)),
            batch_size=len(pixels),
            precision=self._precision,
            rows_at_once=self._rows_at_once,
        )
        seen = self._seen.embeddings if self._keeps else None
        return Answer(found, seen, stages).rows(slice(self.batch_size - missing))


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
        """Run batches in a thread: a GPU copy on one stream does not wait for another's kernels."""
        if self._predictor.on_gpu:
            torch.cuda.set_stream(torch.cuda.Stream())
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
            (``CUDA_VISIBLE_DEVICES``, which Ray sets) and PyTorch cannot use it.
    """
    settings = LabelSettings.from_json(config).asked
    on_gpu = torch.cuda.is_available()
    if not on_gpu and os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise UserError(
            "it was given a GPU that PyTorch cannot use: fix the driver of its node, "
            "or give --gpus-per-predictor 0"
        )
    if not on_gpu:
        use_one_thread()
    model = load_network(settings.model, device="cuda" if on_gpu else "cpu")
    check_unchanged(settings)
    clip = model.clip
    predict = Batches(Predictor(model, network_options(settings)), threads=2 if on_gpu else 1)
    return lambda asked: wire.write_answer(predict(wire.read_question(asked, clip)))
