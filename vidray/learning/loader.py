"""Batches for training and judging, made by threads while the network is at work.

What a batch holds is decided by (seed, epoch, draw) alone, never by the number of workers or
threads: batch b of epoch k is one set of clips, augmented and mixed in one way, and each of
``world`` workers makes its share of it. So one worker and eight learn from the same batches, and
a resumed run goes on with those it would have had.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidray.errors import UserError
from vidray.learning.augment import augment, mix
from vidray.learning.hyperparameters import Augmentation
from vidray.models.arrays import Labels, Pixels, RowNumbers
from vidray.models.inference import Read
from vidray.models.preprocess import Preprocessing, clip_flow
from vidray.video.steady_opencv import steady_opencv

# What a generator is for: the same seed, epoch and draw must not give the same numbers twice.
_ORDER, _VIEW, _MIX, _PASS = range(4)

T = TypeVar("T")


class Batch(NamedTuple):
    """One worker's share of a batch."""

    clips: Tensor
    """``uint8 (n, T, H, W, 3)``, as ``Preprocessing.to_input`` takes them."""
    labels: Tensor
    """``int64 (n,)``: the classes of the clips, before mixing; -1 where there is none."""
    targets: Tensor
    """``float32 (n, K)``: one-hot, or what two mixed clips show; zeros where one has no label."""
    global_size: int
    """Clips in the whole batch, all workers' shares together."""
    flow: Tensor | None = None
    """``float32 (n, T, H, W, 2)`` where the preprocessing wants it: for ``to_input``."""
    for_teacher: tuple[Tensor, Tensor | None] | None = None
    """Clips and flow of the same views as a teacher takes them, where that is otherwise."""


def epoch_batches(num_rows: int, *, batch_size: int, seed: int, epoch: int) -> list[RowNumbers]:
    """The rows of each batch of an epoch: every row once, in an order of (seed, epoch).

    Sizes differ by 1 at the most: no row is left out for the last batch to be full, and no small
    last batch shakes the weights or the batch norm.

    Returns:
        ceil(num_rows / batch_size) arrays ``int64``, of ``batch_size`` or fewer.
    """
    if num_rows < 0 or batch_size < 1:
        raise UserError(f"num_rows={num_rows}, batch_size={batch_size}: 0 or more, and 1 or more")
    if num_rows == 0:
        return []
    order = _rng(_ORDER, seed, epoch, 0).permutation(num_rows).astype(np.int64)
    return np.array_split(order, math.ceil(num_rows / batch_size))


def balanced_draws(labels: Labels, *, seed: int, epoch: int) -> RowNumbers:
    """The draws of an epoch in which every class is drawn equally often, class by class.

    Each class there are clips of is drawn N / K times, rounded up. It goes through its clips pass
    by pass, each in an order of (seed, pass), and an epoch goes on where the one before ended: a
    rare class shows its clips several times, a frequent one shows all before it shows one again.

    Args:
        labels: ``int64 (N,)``.

    Returns:
        ``int64 (K * ceil(N / K),)``. Draw d is of row d % N; d // N counts earlier draws of the
        row in this epoch, so that each can have a view of its own.
    """
    classes = np.unique(labels)
    each = math.ceil(len(labels) / len(classes))
    drawn = []
    for label in classes:
        rows = np.flatnonzero(labels == label)
        first, last = epoch * each // len(rows), ((epoch + 1) * each - 1) // len(rows)
        passes = [
            _rng(_PASS, seed, number, int(rows[0])).permutation(rows)
            for number in range(first, last + 1)
        ]
        begin = epoch * each - first * len(rows)
        drawn.append(np.concatenate(passes)[begin : begin + each])
    rows = np.concatenate(drawn).astype(np.int64)
    return rows + len(labels) * _times_before(rows)


def _times_before(rows: RowNumbers) -> RowNumbers:
    """How often each of ``rows`` stands before itself: ``[5, 7, 5, 5]`` -> ``[0, 0, 1, 2]``."""
    order = np.argsort(rows, kind="stable")
    values = rows[order]
    starts = np.searchsorted(values, values)
    times = np.empty_like(rows)
    times[order] = np.arange(len(rows)) - starts
    return times


def shard(rows: RowNumbers, rank: int, world: int) -> RowNumbers:
    """The part of worker ``rank`` of ``world``: sizes differ by 1 at the most."""
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank} of world {world}: from 0 to world - 1")
    return rows[rank::world]


@dataclass(kw_only=True)
class TrainingLoader:
    """Augmented batches of labelled clips, epoch by epoch."""

    read: Read
    """Gives the stored clips; safe to call from several threads."""
    labels: Labels
    """``int64 (num_rows,)``: class of each row that ``read`` knows; -1 for one without a label,
    which is for a teacher."""
    num_classes: int
    """K, the length of a target."""
    preprocessing: Preprocessing
    """Frames and size of a clip, and whether its flow is wanted."""
    augmentation: Augmentation
    """Limits of the random changes of a clip."""
    batch_size: int
    """Clips in a batch, over all workers: the greatest number, see ``epoch_batches``."""
    seed: int
    """0 or more. Decides every batch, with the epoch."""
    rank: int = 0
    """Rank of this worker."""
    world: int = 1
    """Number of workers."""
    mixup_alpha: float = 0.0
    """0 is off; see ``augment.mix``. A clip's partner is of the same batch, any worker's."""
    cutmix_alpha: float = 0.0
    """0 is off."""
    balanced: bool = False
    """Draw every class equally often, see ``balanced_draws``."""
    teacher: Preprocessing | None = None
    """Frames and size of a clip for a teacher, which sees the same views; None without one."""
    threads: int = 4
    """Threads that make batches."""
    prefetch: int = 2
    """Batches made ahead of the one in use."""
    seconds_waiting: float = field(default=0.0, init=False)
    """Seconds that the consumer has waited for batches of this epoch, the first one included."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "prefetch", "world", "num_classes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: 1 or more")
        for name in ("seed", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: 0 or more")
        if not 0 <= self.rank < self.world:
            raise UserError(f"rank is {self.rank} of {self.world} workers: from 0 to world - 1")
        self._check_labels()
        self._check_shares()

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Share of this worker in each batch of the epoch, in order.

        Threads live from the first batch asked for until the last one, or until the iterator is
        closed or forgotten. An error in one of them is raised here.
        """
        self.seconds_waiting = 0.0
        starts = (partial(self._start, epoch=epoch, rows=rows) for rows in self.batches(epoch))
        with contextlib.closing(_ahead(starts, self.threads, self.prefetch)) as batches:
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                self.seconds_waiting += time.perf_counter() - began
                if batch is None:
                    return
                yield batch

    @property
    def draws_per_epoch(self) -> int:
        """Clips of an epoch, of all workers together."""
        if not self.balanced:
            return len(self.labels)
        classes = len(np.unique(self.labels))
        return classes * math.ceil(len(self.labels) / classes)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.draws_per_epoch / self.batch_size)

    def batches(self, epoch: int) -> list[RowNumbers]:
        """The draws of each batch of the epoch, of all workers; rows, where each is drawn once."""
        parts = epoch_batches(
            self.draws_per_epoch, batch_size=self.batch_size, seed=self.seed, epoch=epoch
        )
        if not self.balanced:
            return parts
        draws = balanced_draws(self.labels, seed=self.seed, epoch=epoch)
        return [draws[part] for part in parts]

    def _start(self, pool: Executor, *, epoch: int, rows: RowNumbers) -> Callable[[], Batch]:
        """Begin to make this worker's share of a batch; what is returned waits for it.

        Args:
            pool: where the work is done.
            epoch: decides the views, with the draws.
            rows: ``int64``, the draws of the whole batch.
        """
        mine = shard(rows, self.rank, self.world)
        mixes = self.mixup_alpha > 0 or self.cutmix_alpha > 0
        # The batch is in random order: the one before is a random partner, and never itself.
        partners = shard(np.roll(rows, 1), self.rank, self.world) if mixes else mine
        # A clip may be a partner too: each is read and augmented once. A pool takes its tasks in
        # order, so a task that waits for a view waits for one that has begun, never for ever.
        wanted = np.union1d(mine, partners)
        views = {row: pool.submit(self._views, epoch, row) for row in wanted.tolist()}
        batch = self._empty(mine, len(rows))
        tasks = [
            pool.submit(
                self._fill, batch, slot, epoch, (row, views[row]), (other, views.get(other))
            )
            for slot, (row, other) in enumerate(zip(mine.tolist(), partners.tolist(), strict=True))
        ]

        def finish() -> Batch:
            for task in tasks:
                task.result()
            return batch

        return finish

    def _empty(self, rows: RowNumbers, global_size: int) -> Batch:
        own, *others = (_empty_clips(len(rows), network) for network in self._networks)
        return Batch(
            clips=own[0],
            labels=torch.from_numpy(self.labels[rows % len(self.labels)]),
            targets=torch.empty(len(rows), self.num_classes),
            global_size=global_size,
            flow=own[1],
            for_teacher=others[0] if others else None,
        )

    @property
    def _networks(self) -> list[Preprocessing]:
        """The networks that see each view: the one that learns, and a teacher fed otherwise."""
        own, teacher = self.preprocessing, self.teacher or self.preprocessing
        # What is cut of a clip is the view's, so the same for both.
        alike = (own.clip_shape, own.stride) == (teacher.clip_shape, teacher.stride)
        return [own] if alike and own.flow >= teacher.flow else [own, teacher]

    def _views(self, epoch: int, draw: int) -> list[Pixels]:
        """The augmented clip of a draw for each network, ``uint8 (T, H, W, 3)``: one view."""
        clip = self.read(np.array([draw % len(self.labels)]))[0]
        return [
            augment(
                clip,
                out_frames=network.num_frames,
                out_px=network.size_px,
                augmentation=self.augmentation,
                stride=network.stride,
                cut=self.preprocessing.cut,
                cut_px=self.preprocessing.size_px,
                rng=_rng(_VIEW, self.seed, epoch, draw),
            )
            for network in self._networks
        ]

    def _fill(
        self,
        batch: Batch,
        slot: int,
        epoch: int,
        own: tuple[int, Future[list[Pixels]]],
        other: tuple[int, Future[list[Pixels]] | None],
    ) -> None:
        """Write one clip of a batch, mixed with the other where there is one."""
        row, view = own
        partner, partner_view = other
        clips, target = view.result(), self._one_hot(row)
        if partner_view is not None and partner != row:
            partner_target = self._one_hot(partner)
            # For a teacher with the same draws once more: the same share, the same box.
            mixed = [
                mix(
                    clip, with_clip, target, partner_target, rng=_rng(_MIX, self.seed, epoch, row),
                    mixup_alpha=self.mixup_alpha, cutmix_alpha=self.cutmix_alpha,
                )
                for clip, with_clip in zip(clips, partner_view.result(), strict=True)
            ]  # fmt: skip
            # A mix with a clip without a label has none: of a part of it only a teacher can tell.
            is_known = target.any() and partner_target.any()
            clips, target = [clip for clip, _ in mixed], mixed[0][1] * np.float32(is_known)
        batch.targets[slot].numpy()[:] = target
        places = [(batch.clips, batch.flow), batch.for_teacher]
        for clip, place in zip(clips, places, strict=False):
            assert place is not None
            place[0][slot].numpy()[:] = clip
            if place[1] is not None:
                place[1][slot].numpy()[:] = clip_flow(clip)

    def _one_hot(self, draw: int) -> NDArray[np.float32]:
        target = np.zeros(self.num_classes, np.float32)
        if (label := self.labels[draw % len(self.labels)]) >= 0:
            target[label] = 1
        return target

    def _check_labels(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != np.int64:
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}: give int64 (n,)")
        if len(self.labels) == 0:
            raise UserError("there is no clip to train on: check the split and its labels")
        least = 0 if self.teacher is None else -1
        if self.labels.min() < least or self.labels.max() >= self.num_classes:
            raise UserError(
                f"labels are {self.labels.min()} to {self.labels.max()}: "
                f"of {self.num_classes} classes, from 0 to {self.num_classes - 1}"
            )

    def _check_shares(self) -> None:
        """Refuse batches in which a worker would have no clip: it has no gradient, and may hang."""
        rows = self.draws_per_epoch
        least = rows // self.steps_per_epoch
        if least < self.world:
            raise UserError(
                f"{rows} clips in batches of {self.batch_size} make batches of {least}, and "
                f"{self.world} workers need a clip each: take fewer workers or a larger batch"
            )


def evaluation_batches(
    read: Read, rows: RowNumbers, preprocessing: Preprocessing, *, batch_size: int, threads: int = 4
) -> Iterator[tuple[RowNumbers, Tensor]]:
    """Clips as they are, in the order of ``rows``, each as often as it stands there.

    Args:
        read: gives the stored clips; safe to call from several threads.
        rows: ``int64 (n,)``.
        preprocessing: frames and size of a clip.
        batch_size: clips in a batch; the last one may have fewer.
        threads: threads that make batches, and batches made ahead.

    Yields:
        Rows ``int64 (b,)`` and their clips ``uint8 (b, T, H, W, 3)``.
    """
    if batch_size < 1 or threads < 1:
        raise UserError(f"batch_size={batch_size}, threads={threads}: 1 or more of each")

    def select(part: RowNumbers) -> tuple[RowNumbers, Tensor]:
        # torch wants an array it may write to; a view of a file is not one.
        clips = np.require(preprocessing.select(read(part)), requirements=["C", "W"])
        return part, torch.from_numpy(clips)

    def start(part: RowNumbers, pool: Executor) -> Callable[[], tuple[RowNumbers, Tensor]]:
        return pool.submit(select, part).result

    parts = (rows[begin : begin + batch_size] for begin in range(0, len(rows), batch_size))
    return _ahead((partial(start, part) for part in parts), threads, threads)


def _empty_clips(num_rows: int, network: Preprocessing) -> tuple[Tensor, Tensor | None]:
    """Room for the clips of a network, and for their flow where it wants that."""
    shape = (num_rows, *network.clip_shape)
    flow = torch.empty((*shape[:-1], 2)) if network.flow else None
    return torch.empty(shape, dtype=torch.uint8), flow


def _ahead(
    starts: Iterable[Callable[[Executor], Callable[[], T]]], threads: int, prefetch: int
) -> Generator[T, None, None]:
    """Begin each piece of work ``prefetch`` pieces before it is wanted; yield them in order.

    Leaving early, by an error too, drops what has not begun and waits for what has.
    """
    pool = ThreadPoolExecutor(threads, "vidray-loader", initializer=steady_opencv)
    try:
        under_way: deque[Callable[[], T]] = deque()
        for start in starts:
            under_way.append(start(pool))
            if len(under_way) > prefetch:
                yield under_way.popleft()()
        while under_way:
            yield under_way.popleft()()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _rng(purpose: int, seed: int, epoch: int, draw: int) -> np.random.Generator:
    return np.random.default_rng([purpose, seed, epoch, draw])
