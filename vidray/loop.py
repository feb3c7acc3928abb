"""The training loop: PyTorch alone, in one process or in each of several under torch.distributed.

A step learns from one global batch, of which every process has its share. The gradient is that of
the mean over the global batch whatever the shares, so one worker and many train the same network:

    share -> micro-batches -> forward, loss summed over own rows -> backward, averaged by DDP
          -> clipped -> optimizer at ``learning_rate_at(step)``

The loop keeps no state but the network, the optimizer and the rows of the epochs so far; all else
is a function of the step or of (seed, epoch, rank). So a training goes on from a checkpoint of an
epoch as if it had not stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from vidray import batchnorm, checkpoints
from vidray.errors import UserError
from vidray.loader import Batch, Read, TrainingLoader, evaluation_batches
from vidray.optimizer import OptimizerKind, Schedule, learning_rate_at, make_optimizer
from vidray.preprocess import Preprocessing

Precision = Literal["float32", "bfloat16", "float16"]
Quantity = Literal["loss", "accuracy"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a deep model is trained."""

    epochs: int = 30
    """Times every training clip is seen."""
    batch_size: int = 16
    """Clips a step learns from, on all workers together."""
    learning_rate: float = 1e-3
    """Of the steps after the warm-up; the schedule lowers it."""
    optimizer: OptimizerKind = "adamw"
    """adamw, adam (weight decay as a part of the gradient) or sgd (momentum 0.9)."""
    weight_decay: float = 0.05
    """Pulls the matrices and kernels of layers towards 0; biases, norms, class tokens and tables of
    positions are left alone."""
    schedule: Schedule = "cosine"
    """cosine (to 0), step (a tenth after 1/2 and again after 3/4 of the steps) or constant."""
    warmup_epochs: float = 1.0
    """Epochs over which the learning rate rises evenly; half of the training at the most."""
    label_smoothing: float = 0.1
    """Share of each target spread evenly over all classes."""
    accumulate: int = 1
    """Parts a worker's share of a batch is cut into: less memory, the same gradient. Not for a
    network that trains batch norm, whose statistics are of the whole batch."""
    precision: Precision = "float32"
    """bfloat16 or float16 (GPU only): less memory and time; weights stay float32."""
    checkpointing: bool = False
    """Compute activations again in the backward pass and not keep them: less memory, more time."""
    patience: int = 0
    """Stop after this many epochs without a better validation; 0 never stops early."""
    stop_on: Quantity = "loss"
    """What must get better: the validation's loss or accuracy."""
    keep: Quantity = "accuracy"
    """By what the epoch whose weights are kept is chosen; of equal accuracy the lower loss."""
    class_weights: bool = False
    """Every class counts the same in the loss, however few clips it has."""
    clip_gradient_norm: float = 0.0
    """Longest gradient a step follows; 0 is no limit."""
    mixup_alpha: float = 0.0
    """Blend pairs of clips, the share from Beta(alpha, alpha); 0 is off."""
    cutmix_alpha: float = 0.0
    """Paste a box of another clip, its share of the area from Beta(alpha, alpha); 0 is off."""
    channels_last: bool = False
    """Keep channels last in memory: faster convolutions on some devices."""
    seed: int = 0
    """Decides order, augmentation and dropout."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("patience", 0)):
            _check(name, getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 or more, and below 2**32")
        rate = self.learning_rate
        _check("learning_rate", rate, 0 < rate < math.inf, "above 0")
        for name in (
            "weight_decay",
            "warmup_epochs",
            "clip_gradient_norm",
            "mixup_alpha",
            "cutmix_alpha",
        ):
            value = getattr(self, name)
            _check(name, value, 0 <= value < math.inf, "0 or more")
        smoothing = self.label_smoothing
        _check("label_smoothing", smoothing, 0 <= smoothing < 1, "0 or more and below 1")
        _check(
            "accumulate", self.accumulate, self.accumulate <= self.batch_size, "batch_size or less"
        )
        for name, kind in (
            ("optimizer", OptimizerKind),
            ("schedule", Schedule),
            ("precision", Precision),
            ("stop_on", Quantity),
            ("keep", Quantity),
        ):
            value = getattr(self, name)
            _check(name, value, value in get_args(kind), f"one of {', '.join(get_args(kind))}")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Clips to judge each epoch by, the same on all workers; each predicts its part of them."""

    read: Read
    """Rows, from 0, to stored clips."""
    labels: NDArray[np.int64]
    """(N,), N >= 1: the class of each row."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """What one epoch did; a line of the training curve. The same on all workers."""

    epoch: int
    """1 for the first."""
    train_loss: float
    """Mean over the clips as they were seen: augmented, smoothed, weighted."""
    train_accuracy: float
    """Of the same clips, before each step."""
    val_loss: float | None
    """Mean cross-entropy of the validation clips, neither smoothed nor weighted."""
    val_accuracy: float | None
    learning_rate: float
    """Of the last step."""
    seconds: float
    """Spent training, waiting included, of the slowest worker."""
    seconds_waiting_for_data: float
    """The part of ``seconds`` in which there was no batch yet, of the worker that waited most."""
    seconds_validating: float
    steps: int
    clips_per_second: float
    """Of all workers together, while training."""
    peak_memory_bytes: int
    """Of the worker that took most: GPU memory of the epoch, on the CPU all of the process's."""


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
) -> list[EpochRow]:
    """Train ``network`` in place; called in every process of a torch.distributed group, or alone.

    Args:
        network: the same in all processes; ``float (N, C, T, H, W)`` -> logits ``(N, K)``. What has
            ``requires_grad`` is trained. Its batch norms become synchronised ones.
        loader: this process's share of every batch, made by the same settings as ``training``.
        training: settings, the same in all processes.
        device: of this process.
        on_epoch: called after each epoch in all processes, with the rows so far and a function that
            saves a checkpoint into a new folder (from one process: it waits for no other). Where
            it returns False in any process, the training ends for all.
        validation: clips to judge by; None to train without.
        start: folder of a checkpoint to go on from.

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
    loop = _Loop(network, loader, training, device)
    rows = loop.resume(start) if start is not None else []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while len(rows) < training.epochs and not should_stop(rows, training):
            rows.append(loop.run_epoch(len(rows), validation))
            save = functools.partial(loop.save, rows=tuple(rows))
            if not loop.all_agree(on_epoch(tuple(rows), save) is not False):
                break
    return rows


def best_epoch(rows: Sequence[EpochRow], training: Training) -> int:
    """Index into ``rows`` of the one to keep: best by ``training.keep``, of equals the earliest.

    Without validation it is the last: nothing says that another was better.
    """
    if not rows or rows[-1].val_loss is None:
        return len(rows) - 1
    return _best(rows, training.keep)


def should_stop(rows: Sequence[EpochRow], training: Training) -> bool:
    """Whether ``patience`` epochs have gone by without a better one."""
    if not training.patience or not rows:
        return False
    return len(rows) - 1 - _best(rows, training.stop_on) >= training.patience


def _best(rows: Sequence[EpochRow], quantity: Quantity) -> int:
    def worth(index: int) -> tuple[float, float]:
        loss, accuracy = rows[index].val_loss, rows[index].val_accuracy
        assert loss is not None
        assert accuracy is not None
        return (accuracy, -loss) if quantity == "accuracy" else (-loss, 0.0)

    return max(range(len(rows)), key=worth)  # the first of equals


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """``float32 (K,)``: what a clip of each class counts so that classes count alike.

    N / (K * count), as scikit-learn's "balanced", K the classes there are clips of; 0 for others.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.zeros(num_classes, np.float32)
    present = counts > 0
    weights[present] = len(labels) / (present.sum() * counts[present])
    return torch.from_numpy(weights)


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


def loss_sum(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy summed over rows; divide it by the sum of ``row_weights`` for the mean.

    For targets of one class that mean is ``torch.nn.functional.cross_entropy``'s.

    Args:
        logits: ``float (N, K)``.
        targets: ``float32 (N, K)``, probabilities.
        label_smoothing: share of each target spread evenly over the classes.
        class_weights: ``float32 (K,)``.

    Returns:
        float32, one number.
    """
    smoothed = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    if class_weights is not None:
        smoothed = smoothed * class_weights
    return -(smoothed * logits.float().log_softmax(dim=1)).sum()


def row_weights(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """``float32 (N,)``: how much each row counts, 1 without class weights."""
    return targets.sum(dim=1) if class_weights is None else targets @ class_weights


def predict_logits(
    network: nn.Module,
    batches: Iterable[NDArray[np.uint8]],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """The network's logits in evaluation mode; its modes are left as they were.

    Args:
        network: on ``device``.
        batches: stored clips, ``uint8 (n, T, H, W, 3)`` each.
        preprocessing: the network's own.
        device: where to compute.
        precision: of the forward pass.

    Returns:
        ``float32 (N, K)``, in the order of ``batches``; (0, 0) where there are none.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    logits = []
    try:
        # PyTorch keeps weights in their lower precision for all threads: one that works on another
        # stream of the GPU would read them before they are written (NaN, or another label).
        with torch.no_grad(), _autocast(device, precision, keeps_weights=False):
            for clips in batches:
                # torch wants an array it may write to; a view of a file is not one.
                pixels = np.require(preprocessing.select(clips), requirements=["C", "W"])
                inputs = preprocessing.to_input(_moved(torch.from_numpy(pixels), device))
                logits.append(network(inputs).float())
    finally:
        for module, mode in modes:
            module.training = mode
    if not logits:
        return np.empty((0, 0), np.float32)
    joined: NDArray[np.float32] = torch.cat(logits).cpu().numpy()
    return joined


def _moved(pixels: Tensor, device: torch.device) -> Tensor:
    """Bytes to a GPU from memory that it reads itself, while it computes something else."""
    if device.type != "cuda":
        return pixels.to(device)
    return pixels.pin_memory().to(device, non_blocking=True)


def predict_shared(
    network: nn.Module,
    read: Read,
    num_rows: int,
    *,
    batch_size: int,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """``predict_logits`` of rows 0 to ``num_rows`` - 1, each by one process: every one has all.

    Args:
        network: on ``device``, the same in all processes, not wrapped in DDP.
        read: rows -> stored clips, any size.
        num_rows: N, also fewer than there are processes.
        batch_size: rows of one forward pass.
        preprocessing, device, precision: as in ``predict_logits``.

    Returns:
        ``float32 (N, K)``.
    """
    rank, world = _rank(), batchnorm.world_size()
    rows = np.arange(rank, num_rows, world)
    batches = evaluation_batches(read, rows, preprocessing, batch_size=batch_size)
    own = predict_logits(
        network,
        (clips.numpy() for _, clips in batches),
        preprocessing=preprocessing,
        device=device,
        precision=precision,
    )
    if world == 1:
        return own
    # A process without rows does not know K yet.
    num_classes = int(_reduced([float(own.shape[1])], device, torch.distributed.ReduceOp.MAX)[0])
    logits = torch.zeros(num_rows, num_classes, device=device)
    if len(rows):
        logits[rank::world] = torch.from_numpy(own).to(device)
    # Each row is one process's and zero everywhere else: the sum puts them together.
    torch.distributed.all_reduce(logits)
    joined: NDArray[np.float32] = logits.cpu().numpy()
    return joined


class _Loop:
    """The network as it is trained, and what trains it."""

    def __init__(
        self,
        network: nn.Module,
        loader: TrainingLoader,
        training: Training,
        device: torch.device,
    ) -> None:
        self.loader = loader
        self.training = training
        self.device = device
        self.world = batchnorm.world_size()
        self.steps_per_epoch = math.ceil(len(loader.labels) / loader.batch_size)
        self.class_weights: Tensor | None = None
        if training.class_weights:
            self.class_weights = balanced_weights(loader.labels, loader.num_classes).to(device)
        self.network = batchnorm.synchronise(network.to(device))
        if training.channels_last:
            to_channels_last(self.network)
        self.optimizer = make_optimizer(self.network, training)
        self.scaler = GradScaler(device.type) if training.precision == "float16" else None
        self.wrapped = self.network
        if self.world > 1:
            self.wrapped = DistributedDataParallel(
                self.network,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # Synchronised batch norms have the same ones everywhere.
                gradient_as_bucket_view=True,  # One copy of the gradients, not two.
            )

    def resume(self, folder: Path) -> list[EpochRow]:
        """Go back to a checkpoint; the rows of the epochs before it."""
        progress = checkpoints.load(folder, self.network, self.optimizer, scaler=self.scaler)
        before, now = progress["settings"], self._settings()
        changed = [
            f"{name}: {before.get(name)} -> {value}"
            for name, value in now.items()
            if before.get(name) != value
        ]
        if changed:
            raise UserError(
                f"the checkpoint {folder} is of other settings ({'; '.join(changed)}): resume with "
                "the same, or start afresh in another folder"
            )
        return [EpochRow(**row) for row in progress["epochs"]]

    def save(self, folder: Path, rows: Sequence[EpochRow]) -> None:
        """A checkpoint after the last of ``rows``."""
        progress = {
            "settings": self._settings(),
            "epochs": [dataclasses.asdict(row) for row in rows],
        }
        checkpoints.save(folder, self.network, self.optimizer, progress, scaler=self.scaler)

    def _settings(self) -> dict[str, Any]:
        """What the weights after an epoch depend on."""
        return {**dataclasses.asdict(self.training), "steps_per_epoch": self.steps_per_epoch}

    def all_agree(self, answer: bool) -> bool:
        """Whether every process says yes."""
        if self.world == 1:
            return answer
        least = _reduced([float(answer)], self.device, torch.distributed.ReduceOp.MIN)
        return least[0] == 1

    def run_epoch(self, index: int, validation: Validation | None) -> EpochRow:
        """One pass over the training clips, and over the validation clips."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        totals = self._train(index)
        loss, weight, correct, clips = totals.tolist()  # waits for the GPU
        trained = time.perf_counter()
        val_loss, val_accuracy = self._validate(validation)
        times = [trained - began, time.perf_counter() - trained]
        times += [self.loader.seconds_waiting, _peak_memory(self.device)]
        if self.world > 1:
            times = _reduced(times, self.device, torch.distributed.ReduceOp.MAX)
        seconds, seconds_validating, waited, peak_memory = times
        row = EpochRow(
            epoch=index + 1,
            train_loss=loss / weight,
            train_accuracy=correct / clips,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=seconds,
            seconds_waiting_for_data=waited,
            seconds_validating=seconds_validating,
            steps=self.steps_per_epoch,
            clips_per_second=clips / seconds,
            peak_memory_bytes=int(peak_memory),
        )
        _check_finite(row)
        return row

    def _train(self, index: int) -> Tensor:
        """Sums over the epoch of loss, weight, right answers and clips: float64 (4,)."""
        # Dropout, afresh for each epoch: resuming needs no state of a generator.
        state = np.random.SeedSequence([self.training.seed, index, _rank()])
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))
        self.wrapped.train()
        totals = torch.zeros(4, dtype=torch.float64, device=self.device)
        first = index * self.steps_per_epoch
        for step, batch in enumerate(self.loader.epoch(index), start=first):
            self._set_learning_rate(step)
            totals += self._step(batch)
        if self.world > 1:
            torch.distributed.all_reduce(totals)
        return totals

    def _set_learning_rate(self, step: int) -> None:
        rate = learning_rate_at(step, steps_per_epoch=self.steps_per_epoch, training=self.training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, batch: Batch) -> Tensor:
        """Learn from one global batch; sums over own rows as in ``_train``."""
        targets = batch.targets.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        weight = row_weights(targets, self.class_weights).sum()
        global_weight = weight.clone()
        if self.world > 1:
            torch.distributed.all_reduce(global_weight)
        # DDP averages over processes: times their number it is the sum that the mean is made of.
        scale = self.world / global_weight
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        sums[1], sums[3] = weight, len(labels)
        parts = self._parts(batch.global_size, len(labels))
        for index, part in enumerate(parts):
            inputs = self._inputs(batch, part)
            with self._synchronising(index == len(parts) - 1):
                with _autocast(self.device, self.training.precision):
                    logits = self.wrapped(inputs)
                loss = loss_sum(
                    logits,
                    targets[part],
                    label_smoothing=self.training.label_smoothing,
                    class_weights=self.class_weights,
                )
                self._backward(loss * scale)
            sums[0] += loss.detach()
            sums[2] += (logits.detach().argmax(dim=1) == labels[part]).sum()
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
        """Gradients of all but the last part stay in this process; they are sent together."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        keep: contextlib.AbstractContextManager[None] = self.wrapped.no_sync()
        return keep

    def _backward(self, loss: Tensor) -> None:
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()

    def _update(self) -> None:
        if self.training.clip_gradient_norm:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(
                self.network.parameters(), self.training.clip_gradient_norm
            )
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _validate(self, validation: Validation | None) -> tuple[float | None, float | None]:
        """Loss and accuracy, the same numbers in every process, so that all stop together."""
        if validation is None:
            return None, None
        logits = predict_shared(
            self.network,
            validation.read,
            len(validation.labels),
            # No gradients are kept, so what fits in training does here.
            batch_size=math.ceil(
                self.training.batch_size / (self.world * self.training.accumulate)
            ),
            preprocessing=self.loader.preprocessing,
            device=self.device,
            precision=self.training.precision,
        )
        labels = torch.from_numpy(validation.labels)
        loss = F.cross_entropy(torch.from_numpy(logits).double(), labels)
        accuracy = (torch.from_numpy(logits).argmax(dim=1) == labels).double().mean()
        both = torch.stack([loss, accuracy]).to(self.device)
        if self.world > 1:
            # Two kinds of CPU may differ in the last digit, and one would stop without the other.
            torch.distributed.broadcast(both, src=0)
        val_loss, val_accuracy = both.tolist()
        return val_loss, val_accuracy


def _check(name: str, value: object, fits: bool, rule: str) -> None:
    if not fits:
        raise UserError(f"{name} is {value}: it must be {rule}")


def _check_finite(row: EpochRow) -> None:
    for name, loss in (("training", row.train_loss), ("validation", row.val_loss)):
        if loss is not None and not math.isfinite(loss):
            raise UserError(
                f"the {name} loss of epoch {row.epoch} is {loss}: pass a lower learning_rate, "
                "or clip_gradient_norm 1, or precision bfloat16 instead of float16"
            )


def _autocast(
    device: torch.device, precision: Precision, *, keeps_weights: bool = True
) -> torch.autocast:
    dtype = _DTYPES.get(precision)
    return torch.autocast(
        device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=keeps_weights
    )


def to_channels_last(network: nn.Module) -> None:
    """The kernels of 2D and 3D convolutions; ``Module.to`` can only do one of the two."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if sys.platform == "darwin":
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # Linux's ru_maxrss begins with the memory of the process that started this one.
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return float(peak) * 1024


def _rank() -> int:
    return torch.distributed.get_rank() if batchnorm.world_size() > 1 else 0


def _reduced(values: list[float], device: torch.device, how: Any) -> list[float]:
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(shared, op=how)
    reduced: list[float] = shared.tolist()
    return reduced
