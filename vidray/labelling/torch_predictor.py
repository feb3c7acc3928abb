"""A network of PyTorch that answers a label job's questions."""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray.errors import ModelError, UserError
from vidray.labelling.settings import LabelSettings
from vidray.labelling.wire import Answer, in_batches
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


def open_predictor(settings: LabelSettings, *, may_use_gpu: bool) -> TorchPredictor:
    """The network of a model, ready to answer.

    Raises:
        UserError: there is a GPU for this process (``CUDA_VISIBLE_DEVICES``, which Ray sets) and
            PyTorch cannot use it.
    """
    on_gpu = may_use_gpu and torch.cuda.is_available()
    if may_use_gpu and not on_gpu and os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise UserError(
            "it was given a GPU that PyTorch cannot use: fix the driver of its node, "
            "or give --gpus-per-predictor 0"
        )
    if not on_gpu:
        use_one_thread()
    model = load_network(settings.model, device="cuda" if on_gpu else "cpu")
    assert isinstance(model, DeepModel)  # Exported ones go another way.
    return TorchPredictor(model, settings)


class TorchPredictor:
    """A network that gives the ``Answer`` for clips; safe to call from several threads.

    Args:
        model: on the device where it is to compute.
    """

    def __init__(self, model: DeepModel, settings: LabelSettings) -> None:
        self._model, self._precision = model, settings.options.precision
        self.class_names, self.clip = model.class_names, model.clip
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

    def begin_thread(self) -> None:
        """A stream of its own for this thread: a GPU's copy on one does not wait for another's
        kernels.
        """
        if self.on_gpu:
            torch.cuda.set_stream(torch.cuda.Stream())

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
        return in_batches(self._forward, pixels, self.batch_size)

    def _forward(self, pixels: NDArray[np.uint8]) -> Answer:
        found, stages = self._model.answer_rows(
            lambda rows: pixels[rows],
            np.arange(len(pixels)),
            batch_size=len(pixels),
            precision=self._precision,
            rows_at_once=self._rows_at_once,
        )
        return Answer(found, self._seen.embeddings if self._keeps else None, stages)
