"""Deep models on Ray Train: workers, checkpoints, restarts. The loop itself (``loop``) has no Ray.

    driver: TorchTrainer ──> worker 0..N-1: Clips -> TrainingLoader -> loop.fit
                 ▲                          │ after each epoch from worker 0: a checkpoint,
                 └── best weights, rows <───┘ and the rows so far; the answer is whether to go on

A checkpoint folder holds ``last/`` (all that is needed to go on, see ``checkpoints``) and
``best.safetensors``. One is kept. After the death of a worker Ray starts them again from it; after
the death of the driver the same call does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import safetensors.torch
import torch
from numpy.typing import NDArray

from vidray import checkpoints, loop, models, pipeline
from vidray.augment import Augmentation
from vidray.errors import UserError
from vidray.loader import TrainingLoader
from vidray.loop import EpochRow, Save, Training
from vidray.models.build import set_trained
from vidray.models.checkpointing import checkpoint_blocks
from vidray.preprocess import Preprocessing
from vidray.shards import Clips

_LAST, _BEST = "last", "best.safetensors"

OnRows = Callable[[list[dict[str, Any]]], bool | None]


@dataclass(frozen=True, kw_only=True)
class DeepJob:
    """Everything that decides the weights of a deep model.

    Args:
        data: run folder of clips.
        class_names: in the order of the network's outputs.
        network: keyword arguments of ``models.build_model``, the weights left out.
        weights: ``none``, ``default`` or a safetensors file: where training starts from.
        trained: ``all``, ``head`` or ``last_N_blocks``.
        splits: video_id -> split, instead of the split column of ``data``: for folds and subsets.
    """

    data: str
    class_names: tuple[str, ...]
    network: Mapping[str, Any]
    weights: str
    trained: str
    training: Training
    augmentation: Augmentation
    preprocessing: Preprocessing
    splits: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """For Ray's workers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeepJob:
        """The job that ``to_json`` was taken of."""
        parts = {
            "class_names": tuple(values["class_names"]),
            "training": Training(**values["training"]),
            "augmentation": Augmentation(**values["augmentation"]),
            "preprocessing": Preprocessing.from_json(values["preprocessing"]),
        }
        return cls(**{**values, **parts})


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who trains.

    Args:
        workers: training processes; the weights do not depend on their number.
        min_workers: go on with as few after a node is lost; None waits for all of them.
        use_gpu: one GPU each; None takes them where the cluster has enough.
        max_failures: how often workers are started again after one died.
        most_cpus: of one worker; None takes its share of the cluster.
    """

    workers: int = 1
    min_workers: int | None = None
    use_gpu: bool | None = None
    max_failures: int = 3
    most_cpus: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers is {self.workers}: it must be 1 or more")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            rule = f"from 1 to workers, which is {self.workers}"
            raise UserError(f"min_workers is {self.min_workers}: it must be {rule}")


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the best epoch's state dict, and a row per epoch."""

    state: dict[str, torch.Tensor]
    rows: list[EpochRow]


def labelled_rows(
    clips: Clips,
    split: str,
    class_names: Sequence[str],
    splits: Mapping[str, str] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``clips`` in ``split``, and the class of each: ``int64 (N,)`` twice.

    Args:
        splits: see ``DeepJob``.

    Raises:
        UserError: a label of the split is not among ``class_names``.
    """
    of_row = clips.table["split"].to_pylist()
    if splits is not None:
        of_row = [splits.get(video) for video in clips.table["video_id"].to_pylist()]
    rows = np.flatnonzero(np.array(of_row, object) == split)
    number = {name: k for k, name in enumerate(class_names)}
    labels = [clips.table["label"][row].as_py() for row in rows.tolist()]
    if unknown := sorted(set(labels) - set(number)):
        raise UserError(f"split {split} has label {unknown[0]}, which split train has not")
    return rows, np.array([number[label] for label in labels], np.int64)


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
    pipeline.connect()
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    mailbox: Any = ray.remote(num_cpus=0)(_Mailbox).remote()
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


class _Mailbox:
    """An actor between worker 0 and the driver: what one tells the other, and the answer."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[bool] = asyncio.Queue()

    async def tell(self, message: dict[str, Any]) -> bool:
        """Returns the driver's answer: whether to go on."""
        await self._told.put(message)
        return await self._answers.get()

    async def listen(self) -> dict[str, Any] | None:
        """A message, or None after half a second without one."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._told.get(), 0.5)
        return None

    async def answer(self, go_on: bool) -> None:
        """To the message listened to last."""
        await self._answers.put(go_on)


def _listen(mailbox: Any, on_rows: OnRows, errors: list[Exception], stop: threading.Event) -> None:
    """In a thread of the driver: what workers say, until the training is over."""
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
    use_gpu = gpus >= workers.workers if workers.use_gpu is None else workers.use_gpu
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


def trainings_at_once(workers: Workers) -> int:
    """Trainings of so many workers that the cluster holds; 0 where one alone does not fit."""
    try:
        each: dict[str, float] = _scaling(workers).resources_per_worker  # type: ignore[assignment]
    except UserError:
        return 0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = (
        min(int(node.get(kind, 0) // number) for kind, number in each.items() if number)
        for node in nodes
    )
    return sum(places) // workers.workers


def _cpus_each(workers: int, *, use_gpu: bool) -> int:
    """The most CPUs that each of ``workers`` can have: none has those of two nodes."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for cpus in range(max(int(node.get("CPU", 0)) for node in nodes), 1, -1):
        places = (
            min(int(node.get("CPU", 0)) // cpus, int(node.get("GPU", 0)) if use_gpu else workers)
            for node in nodes
        )
        if sum(places) >= workers:
            return cpus
    return 1


def _learn(config: Mapping[str, Any]) -> None:
    """Runs in each training worker."""
    job = DeepJob.from_json(config["job"])
    try:
        _fit(job, config["mailbox"])
    except UserError as error:
        # Trying again would end the same way: told to the person instead of to Ray.
        ray.get(config["mailbox"].tell.remote({"error": str(error)}))


def _fit(job: DeepJob, mailbox: Any) -> None:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    clips = Clips(job.data)
    train_rows, labels = labelled_rows(clips, "train", job.class_names, job.splits)
    val_rows, val_labels = labelled_rows(clips, "val", job.class_names, job.splits)
    training = job.training
    loader = TrainingLoader(
        read=lambda rows: clips.read(train_rows[rows]),
        labels=labels,
        num_classes=len(job.class_names),
        preprocessing=job.preprocessing,
        augmentation=job.augmentation,
        batch_size=training.batch_size,
        seed=training.seed,
        rank=rank,
        world=world,
        mixup_alpha=training.mixup_alpha,
        cutmix_alpha=training.cutmix_alpha,
        threads=torch.get_num_threads(),
    )
    validation = loop.Validation(read=lambda rows: clips.read(val_rows[rows]), labels=val_labels)
    with tempfile.TemporaryDirectory() as scratch, _checkpoint(Path(scratch)) as start:
        loop.fit(
            make_network(job, fresh=start is None),
            loader,
            training=training,
            device=device,
            on_epoch=_Reporter(rank, mailbox, Path(scratch), training),
            validation=validation if len(val_labels) else None,
            start=start,
        )


def make_network(job: DeepJob, *, fresh: bool) -> torch.nn.Module:
    """The network as training starts, the same in every worker; not ``fresh`` loads no weights."""
    torch.manual_seed(job.training.seed)
    weights = job.weights if fresh else None
    built = models.build(**job.network, weights=weights)
    set_trained(built, job.trained)
    if job.training.checkpointing:
        checkpoint_blocks(built.network, built.blocks)
    return built.network


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
    """After each epoch: from worker 0 a checkpoint to Ray, and the rows to the driver."""

    def __init__(self, rank: int, mailbox: Any, scratch: Path, training: Training) -> None:
        self._rank, self._mailbox, self._scratch = rank, mailbox, scratch
        self._training = training

    def __call__(self, rows: Sequence[EpochRow], save: Save) -> bool:
        row = dataclasses.asdict(rows[-1])
        if self._rank:
            ray.train.report(row)
            return True  # Worker 0 is asked, and tells all.
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            last = Path(folder) / _LAST
            save(last)
            if loop.best_epoch(rows, self._training) == len(rows) - 1:
                shutil.copyfile(last / checkpoints.NETWORK, self._scratch / _BEST)
            shutil.copyfile(self._scratch / _BEST, Path(folder) / _BEST)
            ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(folder))
        told = {"rows": [dataclasses.asdict(row) for row in rows]}
        go_on: bool = ray.get(self._mailbox.tell.remote(told))
        return go_on
