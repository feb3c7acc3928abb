"""Deep models on Ray Train: workers, checkpoints, restarts. The loop itself (``loop``) has no Ray.

    driver: TorchTrainer ──> worker 0..N-1: Clips -> TrainingLoader -> loop.fit
                 ▲                          │ after each epoch from worker 0: a checkpoint,
                 └── best weights, rows <───┘ and the rows so far; the answer is whether to go on

A checkpoint folder holds ``last/`` (all that is needed to go on, see ``checkpoints``) and
``best.safetensors``. One is kept. After the death of a worker Ray starts them again from it; after
the death of the driver the same call does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import safetensors.torch
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vidray.distributed import capacity
from vidray.distributed.mailbox import Mailbox
from vidray.errors import UserError
from vidray.learning import checkpoints, loop
from vidray.learning.deep_job import (
    DeepJob,
    Trained,
    make_network,
    rows_of,
)
from vidray.learning.epochs import (
    EpochRow,
    OnRows,
    Validation,
    best_epoch,
)
from vidray.learning.hyperparameters import Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.loop import (
    Save,
)
from vidray.learning.losses import Objective, Reconstruction
from vidray.learning.optimizer import rate_shares
from vidray.learning.teacher import Distilled, Teacher, with_unlabelled
from vidray.learning.train_config import Workers
from vidray.tables.shards import Clips

_LAST, _BEST = "last", "best.safetensors"
# 912 clips/s with 4 threads, 681 with 16: they wait for each other (docs/gpu.md).
_MOST_LOADER_THREADS = 4

# What worker 0 says to the driver: rows, or an error. The answer is whether to go on.
Tell = Callable[[dict[str, Any]], bool]


def train(
    job: DeepJob,
    *,
    folder: str,
    workers: Workers,
    on_rows: OnRows,
) -> Trained:
    """Train to the end, or go on to it from where ``folder`` stopped.

    Args:
        folder: for checkpoints, local or in a bucket; nothing of another training may be in it.
        on_rows: called after each epoch with the rows so far (``EpochRow`` as dicts), also those
            of before a restart; ends the training where it returns False.

    Raises:
        UserError: the cluster has not what is asked for, or the training cannot go on.
    """
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    if workers.in_process:
        return _train_here(job, on_rows)
    # Ray Train takes a worker's checkpoint when it looks, and the worker waits: 2 s an epoch as Ray
    # has it. Four epochs of 0.5 s came to 20 s in all, starting Ray Train included, and not to 28.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    capacity.connect()
    # On the node of the driver, whose death it need not outlive; another's would end the training.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox: Any = ray.remote(num_cpus=0)(Mailbox).options(scheduling_strategy=here).remote()
    errors: list[Exception] = []
    stop = threading.Event()
    listener = threading.Thread(target=_listen, args=(mailbox, on_rows, errors, stop))
    listener.start()
    trainer = ray.train.torch.TorchTrainer(
        _learn,
        train_loop_config={"job": job.to_json(), "mailbox": mailbox},
        scaling_config=_scaling(workers),
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=folder,
            failure_config=ray.train.FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    failure: Exception | None = None
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        failure = error
    finally:
        stop.set()
        listener.join()
        ray.kill(mailbox)
    if errors:
        raise errors[0]
    if failure is not None:
        raise failure
    if result.checkpoint is None:
        raise RuntimeError("the training ended without a checkpoint")
    with result.checkpoint.as_directory() as local:
        state = safetensors.torch.load_file(Path(local) / _BEST)
        return Trained(state, _saved_rows(Path(local) / _LAST))


def _saved_rows(folder: Path) -> list[EpochRow]:
    header = json.loads((folder / checkpoints.HEADER).read_text())
    return [EpochRow(**row) for row in header["progress"]["epochs"]]


def _train_here(job: DeepJob, on_rows: OnRows) -> Trained:
    """Train in this process: it starts and ends 40 s faster than Ray Train's workers."""
    rows: list[dict[str, Any]] = []

    def tell(message: dict[str, Any]) -> bool:
        rows[:] = message["rows"]
        return on_rows(message["rows"]) is not False

    # Ray hides the GPUs that are not this process's, but not where there are none of its own.
    has_gpu = torch.cuda.is_available() and (not ray.is_initialized() or bool(ray.get_gpu_ids()))
    device = torch.device("cuda" if has_gpu else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        _fit(job, _Worker(0, 1, device), tell, Path(scratch))
        state = safetensors.torch.load_file(Path(scratch) / _BEST)
    return Trained(state, [EpochRow(**row) for row in rows])


def _listen(mailbox: Any, on_rows: OnRows, errors: list[Exception], stop: threading.Event) -> None:
    """Receive the workers' messages, in a thread of the driver, until the training is over."""
    while True:
        said = ray.get(mailbox.listen.remote())
        if said is None:
            if stop.is_set():
                return
            continue
        go_on = False
        if "error" in said:
            errors.append(UserError(said["error"]))
        else:
            try:
                go_on = on_rows(said["rows"]) is not False
            except Exception as error:  # noqa: BLE001  Raised again by the thread that waits.
                errors.append(error)
        ray.get(mailbox.answer.remote(go_on))


def _scaling(workers: Workers) -> ray.train.ScalingConfig:
    total = ray.cluster_resources()
    gpus, cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
    use_gpu = gpus >= workers.workers if workers.gpu is None else workers.gpu
    least = workers.min_workers or workers.workers
    if use_gpu and gpus < least:
        raise UserError(f"{least} workers need a GPU each and the cluster has {gpus}")
    if cpus < least:
        raise UserError(f"{least} workers need a CPU each and the cluster has {cpus}")
    cpus_each = _cpus_each(workers.workers, use_gpu=use_gpu)
    number = (workers.min_workers, workers.workers) if workers.min_workers else workers.workers
    return ray.train.ScalingConfig(
        num_workers=number,  # type: ignore[arg-type]  # A pair is elastic; Ray's types are older.
        use_gpu=use_gpu,
        resources_per_worker={
            "CPU": min(cpus_each, workers.most_cpus or cpus_each),
            "GPU": int(use_gpu),
        },
    )


def resources_of_one(workers: Workers) -> dict[str, float]:
    """CPU and GPU of each of ``workers``; raises UserError where the cluster has not so many."""
    each: Any = _scaling(workers).resources_per_worker
    return {kind: float(each[kind]) for kind in ("CPU", "GPU")}


def trainings_at_once(workers: Workers) -> int:
    """The number of such trainings that the cluster holds at once.

    Raises:
        UserError: not one.
    """
    return capacity.places(resources_of_one(workers)) // workers.workers


def _cpus_each(workers: int, *, use_gpu: bool) -> int:
    """The most CPUs that each of ``workers`` can have on one node."""
    most = max(int(node.get("CPU", 0)) for node in capacity.nodes())
    for cpus in range(most, 1, -1):
        if capacity.places({"CPU": cpus, "GPU": int(use_gpu)}) >= workers:
            return cpus
    return 1


def _learn(config: Mapping[str, Any]) -> None:
    """Train, in each training worker."""
    job = DeepJob.from_json(config["job"])

    def tell(message: dict[str, Any]) -> bool:
        go_on: bool = ray.get(config["mailbox"].tell.remote(message))
        return go_on

    context = ray.train.get_context()
    worker = _Worker(
        context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device(),
        keep=_report,
    )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as scratch, _checkpoint(Path(scratch)) as start:
            _fit(job, worker, tell, Path(scratch), start)
    except UserError as error:
        # Trying again would end the same way: the user hears of it instead of Ray.
        tell({"error": str(error)})


def _report(row: EpochRow, checkpoint: Path | None) -> None:
    """Report to Ray Train: every worker each epoch, worker 0 with a checkpoint."""
    kept = None if checkpoint is None else ray.train.Checkpoint.from_directory(checkpoint)
    ray.train.report(dataclasses.asdict(row), checkpoint=kept)


@dataclass(frozen=True)
class _Worker:
    """A training process; ``keep`` gets each epoch's row and its checkpoint."""

    rank: int
    world: int
    device: torch.device
    keep: Callable[[EpochRow, Path | None], None] | None = None


def _fit(
    job: DeepJob, worker: _Worker, tell: Tell, scratch: Path, start: Path | None = None
) -> None:
    clips = Clips(job.data)
    train_rows, labels = rows_of(job, clips, "train")
    val_rows, val_labels = rows_of(job, clips, "val")
    training, teacher = job.training, None
    objective: Objective | None = None
    if job.distillation is not None:
        teacher = Teacher.of(job.distillation, job.class_names, worker.device)
    read, labels = with_unlabelled(job.distillation, clips, train_rows, labels)
    loader = TrainingLoader(
        read=read,
        labels=labels,
        num_classes=max(1, len(job.class_names)),
        preprocessing=job.preprocessing,
        augmentation=job.augmentation,
        batch_size=training.batch_size,
        seed=training.seed,
        rank=worker.rank,
        world=worker.world,
        mixup_alpha=training.mixup_alpha,
        cutmix_alpha=training.cutmix_alpha,
        balanced=training.balanced_sampling,
        teacher=None if teacher is None else teacher.preprocessing,
        threads=min(torch.get_num_threads(), _MOST_LOADER_THREADS),
    )
    if job.distillation is not None:
        objective = Distilled.of(job.distillation, job.training, loader, worker.device)
    elif job.mask_ratio is not None:
        objective = Reconstruction()
    validation = Validation(read=lambda rows: clips.read(val_rows[rows]), labels=val_labels)
    built = make_network(job, fresh=start is None)
    loop.fit(
        built.network,
        loader,
        training=training,
        device=worker.device,
        on_epoch=_Reporter(worker, tell, scratch, training),
        validation=validation if len(val_labels) else None,
        start=start,
        shares=rate_shares(built, training),
        is_fresh=job.is_fresh,
        objective=objective,
        teacher=teacher,
    )


@contextlib.contextmanager
def _checkpoint(scratch: Path) -> Iterator[Path | None]:
    """The last checkpoint of this training, if there is one; its best weights go to ``scratch``."""
    found = ray.train.get_checkpoint()
    if found is None:
        yield None
        return
    with found.as_directory() as folder:
        shutil.copyfile(Path(folder) / _BEST, scratch / _BEST)
        yield Path(folder) / _LAST


class _Reporter:
    """After each epoch keeps worker 0's checkpoint and sends the rows to the driver."""

    def __init__(self, worker: _Worker, tell: Tell, scratch: Path, training: Training) -> None:
        self._worker, self._tell, self._scratch = worker, tell, scratch
        self._training = training

    def __call__(self, rows: Sequence[EpochRow], save: Save) -> bool:
        if self._worker.rank:
            assert self._worker.keep is not None
            self._worker.keep(rows[-1], None)
            return True  # Worker 0 asks the driver for all.
        is_best = best_epoch(rows, self._training) == len(rows) - 1
        if self._worker.keep is not None or is_best:
            self._save(rows[-1], save, is_best=is_best)
        return self._tell({"rows": [dataclasses.asdict(row) for row in rows]})

    def _save(self, row: EpochRow, save: Save, *, is_best: bool) -> None:
        best = self._scratch / _BEST
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            last = Path(folder) / _LAST
            save(last)
            if is_best:
                shutil.copyfile(checkpoints.judged_weights(last), best)
            if self._worker.keep is not None:
                shutil.copyfile(best, Path(folder) / _BEST)
                self._worker.keep(row, Path(folder))
