"""A teacher at work: its logits of the view that the student sees, and the loss they make.

The teacher is asked at each step, since each view is new (Beyer et al. 2022: a patient and
consistent teacher): its answers of another crop, or of the clip as it is stored, would be answers
to another question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from torch import Tensor, nn

from vidray.errors import UserError
from vidray.learning import losses
from vidray.learning.distillation import Distillation
from vidray.learning.hyperparameters import Training
from vidray.learning.loader import Batch, TrainingLoader
from vidray.learning.losses import Classification
from vidray.learning.unlabelled import read_beside
from vidray.models.arrays import Labels, RowNumbers
from vidray.models.exported.description import is_graph
from vidray.models.exported.model import ExportedModel, load_exported
from vidray.models.folder import DeepModel, load_network
from vidray.models.inference import Read, autocast
from vidray.models.model_files import name_and_digest, read_info
from vidray.models.names import Precision
from vidray.models.preprocess import Preprocessing
from vidray.tables.shards import Clips

TeacherAnswer = Callable[[Tensor, Tensor | None, torch.device, Precision], Tensor]
"""Clips ``uint8 (N, T, H, W, 3)`` and their flow -> logits ``float32 (N, K)`` on the device."""


class Teacher:
    """A network that answers and does not learn.

    Args:
        answer: the network with its own preprocessing: it is fed as it was trained.
        preprocessing: the frames and the size that it takes.
        order: ``int64 (K,)``: the teacher's number of each class of the student.
    """

    def __init__(self, answer: TeacherAnswer, preprocessing: Preprocessing, order: Labels) -> None:
        self._answer, self.preprocessing = answer, preprocessing
        self._order = torch.from_numpy(order)

    @classmethod
    def of(
        cls, distillation: Distillation, class_names: Sequence[str], device: torch.device
    ) -> Teacher:
        """The teacher of a training.

        Raises:
            UserError: its folder does not hold what it held when the training began.
        """
        if name_and_digest(distillation.teacher)[1] != distillation.digest:
            raise UserError(
                f"the teacher {distillation.name} is not {distillation.digest} any more: put back "
                "the model folder that the training began with, or start afresh with --overwrite"
            )
        info = read_info(distillation.teacher)
        number = {name: k for k, name in enumerate(info["class_names"])}
        order = np.array([number[name] for name in class_names], np.int64)
        if is_graph(info):
            exported = load_exported(
                distillation.teacher, info, device=device.type, threads=torch.get_num_threads()
            )
            return cls(answer_of_graph(exported), exported.preprocessing, order)
        model = load_network(distillation.teacher, device=str(device))
        assert isinstance(model, DeepModel)  # Exported ones went another way.
        answer = answer_of_network(model.network, model.preprocessing)
        return cls(answer, model.preprocessing, order)

    @torch.no_grad()
    def logits(
        self, batch: Batch, parts: Sequence[slice], device: torch.device, precision: Precision
    ) -> Tensor:
        """Logits ``float32 (n, K)`` of a batch's view, in the student's order of classes.

        Args:
            parts: slices of its rows, one for each forward pass.
        """
        clips, flow = batch.for_teacher or (batch.clips, batch.flow)
        if not self.preprocessing.flow:
            flow = None  # The student's.
        found = [
            self._answer(clips[part], None if flow is None else flow[part], device, precision)
            for part in parts
        ]
        return torch.cat(found)[:, self._order.to(device)]


def answer_of_network(network: nn.Module, preprocessing: Preprocessing) -> TeacherAnswer:
    """The answers of a network of PyTorch, on the device where it is, in evaluation mode."""
    network.eval().requires_grad_(False)

    def answer(
        clips: Tensor, flow: Tensor | None, device: torch.device, precision: Precision
    ) -> Tensor:
        pixels = clips.to(device, non_blocking=True)
        with autocast(device, precision):
            logits: Tensor = network(preprocessing.to_input(pixels, flow))
        return logits.float()

    return answer


def answer_of_graph(model: ExportedModel) -> TeacherAnswer:
    """The answers of an exported network, in the precision that it was exported with.

    A logarithm of probabilities differs from the logits by a number that all classes share: at any
    temperature they say the same.
    """

    def answer(
        clips: Tensor, _flow: Tensor | None, device: torch.device, _precision: Precision
    ) -> Tensor:
        probabilities = model.predict(clips.numpy(), batch_size=len(clips))
        least = np.finfo(np.float64).tiny
        return torch.from_numpy(np.log(np.maximum(probabilities, least))).float().to(device)

    return answer


class Distilled:
    """Cross-entropy of labels beside the divergence from a teacher's answers; an ``Objective``.

    A labelled clip's loss is (1 - share) * cross-entropy + share * T² * KL(teacher | student), both
    at temperature T; T² keeps the gradient's size whatever T is (Hinton et al. 2015). A clip
    without a label, or mixed with one, has T² * KL alone. Targets are ``(N, 2 K)``: labels (zeros
    where there are none), and the teacher's logits of the same pixels, mixed ones too. Label
    smoothing is of the labels alone; class weights weigh both parts of a clip's loss, by the
    teacher's answer where it has no label.

    Args:
        temperature, share: see above.
        label_smoothing, class_weights: as of ``Classification``.
    """

    def __init__(
        self,
        *,
        temperature: float,
        share: float,
        label_smoothing: float,
        class_weights: Tensor | None,
    ) -> None:
        self._temperature, self._share = temperature, share
        self._label_smoothing, self._class_weights = label_smoothing, class_weights
        self._plain = Classification(label_smoothing=0.0, class_weights=None)

    @classmethod
    def of(
        cls,
        found: Distillation,
        training: Training,
        loader: TrainingLoader,
        device: torch.device,
    ) -> Distilled:
        """The objective of a training with a teacher."""
        weights = None
        if training.class_weights:
            weights = losses.balanced_weights(loader.labels, loader.num_classes).to(device)
        return cls(
            temperature=found.temperature,
            share=found.share,
            label_smoothing=training.label_smoothing,
            class_weights=weights,
        )

    def weights(self, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        labels, logits = targets.chunk(2, dim=1)
        if self._class_weights is None:
            return torch.ones(len(targets), device=targets.device)
        known = labels.sum(dim=1, keepdim=True)
        # Answers at temperature 1: what the teacher holds true.
        said = labels + (1 - known) * logits.softmax(dim=1)
        return losses.row_weights(said, self._class_weights)

    def loss_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        labels, logits = targets.chunk(2, dim=1)
        known = labels.sum(dim=1)  # 1 or 0
        smoothing = self._label_smoothing
        smoothed = labels * (1 - smoothing) + known[:, None] * smoothing / labels.shape[1]
        hard = losses.loss_sum(outputs, smoothed, class_weights=self._class_weights)
        shares = 1 - (1 - self._share) * known
        soft = (self.weights(targets) * shares) @ divergence(outputs, logits, self._temperature)
        return (1 - self._share) * hard + soft

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """See ``Objective``; a clip without a label (-1) is not counted."""
        return self._plain.right(outputs, labels)

    def judged(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Objective``; by the labels alone."""
        return self._plain.judged(outputs, labels)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² * KL(teacher | student) of logits ``(N, K)`` at temperature T: ``float32 (N,)``."""
    own = (student.float() / temperature).log_softmax(dim=1)
    others = (teacher.float() / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(own, others, reduction="none", log_target=True).sum(dim=1)


def with_unlabelled(
    found: Distillation | None, clips: Clips, rows: RowNumbers, labels: Labels
) -> tuple[Read, Labels]:
    """What a training reads: the labelled clips, then those that the teacher alone answers for.

    Args:
        rows, labels: of the labelled ones, rows of ``clips``.

    Returns:
        Numbers from 0 -> stored clips, and the class of each: -1 where it has none.
    """
    if found is None or found.unlabelled is None:
        return lambda numbers: clips.read(rows[numbers]), labels
    others, own = Clips(found.unlabelled), np.array(found.rows, np.int64)
    return (
        partial(read_beside, clips, rows, others, own),
        np.concatenate([labels, np.full(len(own), -1, np.int64)]),
    )
