"""The training loop: PyTorch alone, in one process or in each of several under torch.distributed.

A step learns from one global batch, of which every process has its share. The gradient is that of
the mean over the global batch whatever the shares, so one worker and many train the same network:

    share -> micro-batches -> forward, loss summed over own rows -> backward, averaged by DDP
          -> clipped -> optimizer at ``learning_rate_at(step)`` -> average of the weights

The loop keeps no state but the network, the optimizer, the average and the rows of the epochs so
far; all else is a function of the step or of (seed, epoch, rank). So a training goes on from a
checkpoint of an epoch as if it had not stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from vidray import memory
from vidray.errors import UserError
from vidray.learning import checkpoints, defaults
from vidray.learning.average import Average
from vidray.learning.epochs import EpochRow, Validation, check_finite, known, should_stop
from vidray.learning.exits import of_every_exit
from vidray.learning.loader import Batch, TrainingLoader
from vidray.learning.losses import Classification, Objective, balanced_weights
from vidray.learning.optimizer import learning_rate_at, make_optimizer, parameter_groups
from vidray.learning.processes import default_precision, predict_shared, rank_here, reduced
from vidray.learning.progress import checked_rows, precision_of
from vidray.models.inference import (
    autocast,
    to_channels_last,
)
from vidray.models.networks import batchnorm

if TYPE_CHECKING:
    from vidray.learning.hyperparameters import Training
    from vidray.learning.teacher import Teacher


Save = Callable[[Path], None]


def fit(
    network: nn.Module,
    loader: TrainingLoader,
    *,
    training: Training,
    device: torch.device,
    on_epoch: Callable[[Sequence[EpochRow], Save], bool | None],
    validation: Validation | None = None,
    start: Path | None = None,
    shares: Mapping[str, float] | None = None,
    is_fresh: bool = False,
    objective: Objective | None = None,
    teacher: Teacher | None = None,
) -> list[EpochRow]:
    """Train ``network`` in place; called in every process of a torch.distributed group, or alone.

    Args:
        network: the same in all processes; ``float (N, C, T, H, W)`` -> logits ``(N, K)``. What has
            ``requires_grad`` is trained. Its batch norms become synchronised ones.
        loader: this process's share of every batch, made by the same settings as ``training``.
        training: settings, the same in all processes; what is left open is as for a fresh network
            (``defaults``), the precision as for the device or, of ``start``, as it was.
        device: of this process.
        on_epoch: called after each epoch in all processes, with the rows so far and a function that
            saves a checkpoint into a new folder (from one process: it waits for no other). Where
            it returns False in any process, the training ends for all.
        validation: clips to judge by; None to train without.
        start: folder of a checkpoint to go on from.
        shares: the learning rate of each parameter as a share of the head's, see ``rate_shares``.
        is_fresh: whether the network starts from noise: its batch norms forget the statistics they
            begin with, see ``batchnorm.set_momentum``.
        objective: what is minimised; None is the cross-entropy of the loader's classes.
        teacher: its logits of a batch stand beside the targets that ``objective`` gets.

    Returns:
        A row per epoch, those before ``start`` included; ``best_epoch`` finds the best.

    Raises:
        UserError: settings that do not go together, a checkpoint of another training, or a loss
            that is no number any more.
    """
    if training.patience and validation is None:
        raise UserError(
            f"patience is {training.patience} but there is no validation split: pass 0 or a "
            "data set with one"
        )
    if training.precision == "float16" and device.type == "cpu":
        raise UserError("precision is float16, which needs a GPU: pass bfloat16 or float32")
    check_accumulate(network, training)
    if training.precision is None:
        precision = default_precision(device) if start is None else precision_of(start)
        training = dataclasses.replace(training, precision=precision)
    loop = _Loop(network, loader, training, device, shares, objective, teacher, is_fresh=is_fresh)
    rows = loop.resume(start) if start is not None else []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while len(rows) < training.epochs and not should_stop(rows, training):
            rows.append(loop.run_epoch(len(rows), validation))
            save = functools.partial(loop.save, rows=tuple(rows))
            if not loop.all_agree(on_epoch(tuple(rows), save) is not False):
                break
    return rows


def check_accumulate(network: nn.Module, training: Training) -> None:
    """Raise UserError where parts of a batch would not give the gradient of the batch.

    Batch norm in training normalises by the statistics of what it is given: in four parts the
    gradient of a fresh r3d_18 is off by more than its own length.
    """
    if training.accumulate > 1 and batchnorm.is_trained(network):
        raise UserError(
            f"accumulate is {training.accumulate} and the network trains batch norm, which must "
            "see a batch whole: give --accumulate 1 with --checkpointing or a smaller "
            "--batch-size, --trained head, or a model without batch norm such as swin3d_t"
        )


class _Loop:
    """The network as it is trained, and what trains it."""

    def __init__(
        self,
        network: nn.Module,
        loader: TrainingLoader,
        training: Training,
        device: torch.device,
        shares: Mapping[str, float] | None,
        objective: Objective | None,
        teacher: Teacher | None,
        *,
        is_fresh: bool,
    ) -> None:
        self.loader = loader
        self.training = training
        self.numbers = defaults.numbers(training)
        assert training.precision is not None
        self.precision = training.precision
        self.device = device
        self.world = batchnorm.world_size()
        self.steps_per_epoch = loader.steps_per_epoch
        objective = objective or _classification(loader, training, device)
        self.objective = of_every_exit(network, objective)
        self.teacher = teacher
        self.network = batchnorm.synchronise(network.to(device))
        if training.channels_last:
            to_channels_last(self.network)
        self.optimizer = make_optimizer(self.network, training, shares)
        self.shares = [g.share for g in parameter_groups(self.network, training, shares)]
        self.scaler = GradScaler(device.type) if self.precision == "float16" else None
        decay = self.numbers.ema
        self.average = Average(self.network, decay) if decay else None
        self.fresh_norms = batchnorm.momenta(self.network) if is_fresh else []
        self.wrapped = self.network
        if self.world > 1:
            self.wrapped = DistributedDataParallel(
                self.network,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # Synchronised batch norms have the same ones everywhere.
                gradient_as_bucket_view=True,  # One copy of the gradients, not two.
            )

    def resume(self, folder: Path) -> list[EpochRow]:
        """Load a checkpoint; the rows of the epochs before it."""
        # First what is easily told: other rates are other groups of the optimizer, too.
        rows = checked_rows(folder, checkpoints.read_progress(folder), self._settings())
        checkpoints.load(
            folder,
            self.network,
            self.optimizer,
            scaler=self.scaler,
            average=None if self.average is None else self.average.network,
        )
        return rows

    def save(self, folder: Path, rows: Sequence[EpochRow]) -> None:
        """Write a checkpoint after the last of ``rows``."""
        progress = {
            "settings": self._settings(),
            "epochs": [dataclasses.asdict(row) for row in rows],
        }
        checkpoints.save(
            folder,
            self.network,
            self.optimizer,
            progress,
            scaler=self.scaler,
            average=None if self.average is None else self.average.network,
        )

    def _settings(self) -> dict[str, Any]:
        """The settings that the weights after an epoch depend on."""
        return {
            **dataclasses.asdict(self.training),
            **dataclasses.asdict(self.numbers),
            "steps_per_epoch": self.steps_per_epoch,
        }

    def all_agree(self, answer: bool) -> bool:
        """Whether every process says yes."""
        if self.world == 1:
            return answer
        least = reduced([float(answer)], self.device, torch.distributed.ReduceOp.MIN)
        return least[0] == 1

    def run_epoch(self, index: int, validation: Validation | None) -> EpochRow:
        """Run one epoch: the training clips, then the validation clips."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        totals = self._train(index)
        loss, weight, correct, labelled, clips = totals.tolist()  # waits for the GPU
        trained = time.perf_counter()
        val_loss, val_accuracy = self._validate(validation)
        times = [trained - began, time.perf_counter() - trained]
        times += [self.loader.seconds_waiting, _peak_memory(self.device)]
        if self.world > 1:
            times = reduced(times, self.device, torch.distributed.ReduceOp.MAX)
        seconds, seconds_validating, waited, peak_memory = times
        row = EpochRow(
            epoch=index + 1,
            train_loss=loss / weight,
            train_accuracy=known(correct / labelled) if labelled else None,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self._rate((index + 1) * self.steps_per_epoch - 1),
            seconds=seconds,
            seconds_waiting_for_data=waited,
            seconds_validating=seconds_validating,
            steps=self.steps_per_epoch,
            clips_per_second=clips / seconds,
            peak_memory_bytes=int(peak_memory),
            precision=self.precision,
        )
        check_finite(row)
        return row

    def _train(self, index: int) -> Tensor:
        """Sums over the epoch of loss, weight, right answers, clips with a label, and all clips:
        float64 (5,).
        """
        # Dropout, afresh for each epoch: resuming needs no state of a generator.
        state = np.random.SeedSequence([self.training.seed, index, rank_here()])
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))
        self.wrapped.train()
        totals = torch.zeros(5, dtype=torch.float64, device=self.device)
        first = index * self.steps_per_epoch
        for step, batch in enumerate(self.loader.epoch(index), start=first):
            self._set_learning_rate(step)
            batchnorm.set_momentum(self.fresh_norms, step)
            totals += self._step(batch)
            if self.average is not None:
                self.average.update(self.network, step)
        if self.world > 1:
            torch.distributed.all_reduce(totals)
        return totals

    def _set_learning_rate(self, step: int) -> None:
        rate = self._rate(step)
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = rate * share

    def _rate(self, step: int) -> float:
        return learning_rate_at(step, steps_per_epoch=self.steps_per_epoch, training=self.training)

    def _step(self, batch: Batch) -> Tensor:
        """Learn from one global batch; sums over own rows as in ``_train``."""
        targets = batch.targets.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        parts = self._parts(batch.global_size, len(labels))
        if self.teacher is not None:
            said = self.teacher.logits(batch, parts, self.device, self.precision)
            targets = torch.cat([targets, said], dim=1)
        weight = self.objective.weights(targets).sum()
        global_weight = weight.clone()
        if self.world > 1:
            torch.distributed.all_reduce(global_weight)
        # DDP averages over processes: times their number it is the sum that the mean is made of.
        scale = self.world / global_weight
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(5, dtype=torch.float64, device=self.device)
        sums[1], sums[3], sums[4] = weight, (labels >= 0).sum(), len(labels)
        for index, part in enumerate(parts):
            inputs = self._inputs(batch, part)
            with self._synchronising(index == len(parts) - 1):
                with autocast(self.device, self.precision):
                    outputs = self.wrapped(inputs)
                loss = self.objective.loss_sum(outputs, targets[part])
                self._backward(loss * scale)
            sums[0] += loss.detach()
            sums[2] += self.objective.right(outputs.detach(), labels[part])
        self._update()
        return sums

    def _parts(self, global_size: int, own_size: int) -> list[slice]:
        """Slices of the own rows, none empty: as many in every process, whatever its share.

        Batch norms wait for each other, so all must go forward equally often.
        """
        count = min(self.training.accumulate, global_size // self.world)
        edges = [own_size * index // count for index in range(count + 1)]
        return [slice(begin, end) for begin, end in itertools.pairwise(edges)]

    def _inputs(self, batch: Batch, part: slice) -> Tensor:
        clips = batch.clips[part].to(self.device, non_blocking=True)
        flow = None if batch.flow is None else batch.flow[part].to(self.device, non_blocking=True)
        inputs = self.loader.preprocessing.to_input(clips, flow)
        if self.training.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        return inputs

    def _synchronising(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """A context that keeps gradients in this process until the last part, which sends them."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        keep: contextlib.AbstractContextManager[None] = self.wrapped.no_sync()
        return keep

    def _backward(self, loss: Tensor) -> None:
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()

    def _update(self) -> None:
        if self.numbers.clip_gradient_norm:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(
                self.network.parameters(), self.numbers.clip_gradient_norm
            )
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _validate(self, validation: Validation | None) -> tuple[float | None, float | None]:
        """Validation loss and accuracy, the same in every process, so that all stop together."""
        if validation is None:
            return None, None
        outputs = predict_shared(
            self.network if self.average is None else self.average.network,
            validation.read,
            len(validation.labels),
            # No gradients are kept, so what fits in training does here.
            batch_size=math.ceil(
                self.training.batch_size / (self.world * self.training.accumulate)
            ),
            preprocessing=self.loader.preprocessing,
            device=self.device,
            precision=self.precision,
        )
        labels = torch.from_numpy(validation.labels)
        judged = self.objective.judged(torch.from_numpy(outputs), labels)
        both = torch.stack(judged).to(self.device)
        if self.world > 1:
            # Two kinds of CPU may differ in the last digit, and one would stop without the other.
            torch.distributed.broadcast(both, src=0)
        val_loss, val_accuracy = both.tolist()
        return val_loss, known(val_accuracy)


def _classification(
    loader: TrainingLoader, training: Training, device: torch.device
) -> Classification:
    weights = None
    if training.class_weights:
        weights = balanced_weights(loader.labels, loader.num_classes).to(device)
    return Classification(label_smoothing=training.label_smoothing, class_weights=weights)


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(memory.peak_bytes() or 0)
