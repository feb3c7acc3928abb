"""An exported network that answers a label job's questions. No PyTorch here."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from vidray import storage
from vidray.labelling.settings import LabelSettings
from vidray.labelling.wire import Answer, in_batches
from vidray.models.exported.model import ExportedModel, load_exported
from vidray.models.model_files import network_folder, read_info
from vidray.video.steady_opencv import steady_opencv

# More are no faster on a CPU: s3d, one thread, OpenVINO 90.0 ms a clip alone and 90.0 in fours,
# ONNX Runtime 120.5 and 120.3.
_CLIPS_ON_GPU, _CLIPS_ON_CPU = 16, 1


def open_predictor(settings: LabelSettings, *, may_use_gpu: bool) -> ExportedPredictor:
    """The exported network of a model, ready to answer.

    Raises:
        UserError: the runtime is not installed, or cannot use the GPU of this process
            (``CUDA_VISIBLE_DEVICES``, which Ray sets).
    """
    steady_opencv()
    folder = network_folder(settings.model)
    info = read_info(folder)
    on_gpu = may_use_gpu and bool(os.environ.get("CUDA_VISIBLE_DEVICES"))
    model = load_exported(
        storage.canonical(folder),
        info,
        device="cuda" if on_gpu else "cpu",
        threads=None if on_gpu else 1,
    )
    return ExportedPredictor(model, settings, on_gpu=on_gpu)


class ExportedPredictor:
    """A graph that gives the ``Answer`` for clips; safe to call from several threads.

    Args:
        on_gpu: whether it computes on a GPU.
    """

    def __init__(self, model: ExportedModel, settings: LabelSettings, *, on_gpu: bool) -> None:
        self._model, self._keeps = model, settings.options.embedding
        self.class_names, self.clip = model.class_names, model.clip
        self.on_gpu = on_gpu
        self.batch_size = _CLIPS_ON_GPU if on_gpu else _CLIPS_ON_CPU
        # Before anybody waits for an answer: what is wrong with the model is then no video's fault.
        clip = model.clip
        black = (1, clip.frames_per_clip, clip.size_px, clip.size_px, 3)
        self(np.zeros(black, np.uint8))

    def begin_thread(self) -> None:
        """Nothing to prepare: each call has a request of its own."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Answer:
        """The answer for clips ``uint8 (N, T, H, W, 3)``."""
        return in_batches(self._forward, pixels, self.batch_size)

    def _forward(self, pixels: NDArray[np.uint8]) -> Answer:
        probabilities, embeddings = self._model.answer(pixels)
        return Answer(probabilities, embeddings if self._keeps else None)
