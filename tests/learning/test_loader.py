"""The loader: every row once, the same batches for any topology, no thread left behind."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.learning.augment import augment
from vidray.learning.hyperparameters import Augmentation
from vidray.learning.loader import (
    Batch,
    TrainingLoader,
    balanced_draws,
    epoch_batches,
    evaluation_batches,
    shard,
)
from vidray.models.preprocess import IMAGENET, Preprocessing, clips_flow

NUM_ROWS = 23
CLIPS = np.random.default_rng(0).integers(0, 256, (NUM_ROWS, 6, 20, 20, 3), dtype=np.uint8)
LABELS = np.arange(NUM_ROWS) % 3
PREPROCESSING = Preprocessing(num_frames=4, size_px=16, mean=IMAGENET[0], std=IMAGENET[1])


def read(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    return CLIPS[rows]


def loader(**values: Any) -> TrainingLoader:
    settings = {
        "read": read,
        "labels": LABELS,
        "num_classes": 3,
        "preprocessing": PREPROCESSING,
        "augmentation": Augmentation(),
        "batch_size": 8,
        "seed": 5,
        "threads": 2,
    }
    return TrainingLoader(**{**settings, **values})


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not loader_threads()


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("vidray-loader")]


# which rows


@given(
    num_rows=st.integers(0, 400),
    batch_size=st.integers(1, 70),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 50),
    world=st.integers(1, 9),
)
def test_every_row_once_whatever_the_topology(
    num_rows: int, batch_size: int, seed: int, epoch: int, world: int
) -> None:
    batches = epoch_batches(num_rows, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(row for rows in batches for row in rows.tolist()) == list(range(num_rows))
    assert len(batches) == -(-num_rows // batch_size)
    sizes = [len(rows) for rows in batches]
    if batches:
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
    for rows in batches:
        assert rows.dtype == np.int64
        shares = [shard(rows, rank, world) for rank in range(world)]
        assert sorted(np.concatenate(shares).tolist()) == sorted(rows.tolist())
        counts = [len(share) for share in shares]
        assert max(counts) - min(counts) <= 1


# balanced classes


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 50),
)
def test_every_class_is_drawn_equally_often(labels: list[int], seed: int, epoch: int) -> None:
    of_row = np.array(labels, np.int64)
    draws = balanced_draws(of_row, seed=seed, epoch=epoch)
    classes = sorted(set(labels))
    each = -(-len(labels) // len(classes))
    drawn = of_row[draws % len(labels)].tolist()
    assert [drawn.count(label) for label in classes] == [each] * len(classes)
    assert len(np.unique(draws)) == len(draws)  # Each draw of a row has a view of its own.
    for row in range(len(labels)):
        earlier = sorted((draws[draws % len(labels) == row] // len(labels)).tolist())
        assert earlier == list(range(len(earlier)))


def test_a_class_goes_through_all_its_clips_before_one_comes_again() -> None:
    labels = np.array([0] * 17 + [1] * 2 + [3] * 5)  # 8 draws of each class in an epoch
    for label in (0, 1, 3):
        rows = np.flatnonzero(labels == label)
        seen: list[int] = []
        for epoch in range(9):
            drawn = balanced_draws(labels, seed=1, epoch=epoch) % len(labels)
            seen += drawn[labels[drawn] == label].tolist()
        assert len(seen) == 72
        for begin in range(0, 72 - len(rows), len(rows)):
            assert sorted(seen[begin : begin + len(rows)]) == rows.tolist()
        assert seen[: len(rows)] != seen[len(rows) : 2 * len(rows)] or len(rows) == 2


@pytest.mark.parametrize("world", [2, 3])
def test_any_world_sees_the_same_balanced_batches(world: int) -> None:
    labels = np.array([0] * 18 + [1] * 3 + [2] * 2)
    alone = list(loader(labels=labels, balanced=True, mixup_alpha=0.3).epoch(4))
    assert sum(len(batch.labels) for batch in alone) == 24
    shares = [
        list(loader(labels=labels, balanced=True, mixup_alpha=0.3, rank=rank, world=world).epoch(4))
        for rank in range(world)
    ]
    for number, batch in enumerate(alone):
        for rank in range(world):
            own = shares[rank][number]
            assert torch.equal(own.clips, batch.clips[rank::world])
            assert torch.equal(own.targets, batch.targets[rank::world])
            assert torch.equal(own.labels, batch.labels[rank::world])


def test_a_clip_drawn_twice_is_seen_in_two_views() -> None:
    labels = np.array([0] * 22 + [1])
    (batch,) = loader(labels=labels, balanced=True, batch_size=24).epoch(0)
    rare = batch.clips[batch.labels == 1]
    assert len(rare) == 12
    assert len({clip.numpy().tobytes() for clip in rare}) == 12
    plain = loader(labels=labels, balanced=True, batch_size=24, augmentation=Augmentation.none())
    (batch,) = plain.epoch(0)
    expected = torch.from_numpy(PREPROCESSING.select(CLIPS[22:23]).copy())
    assert all(torch.equal(clip[None], expected) for clip in batch.clips[batch.labels == 1])


def test_unbalanced_batches_are_as_they_were() -> None:
    assert loader().steps_per_epoch == 3
    assert loader(balanced=True).draws_per_epoch == 24
    rows = [batch.tolist() for batch in loader().batches(2)]
    assert rows == [b.tolist() for b in epoch_batches(NUM_ROWS, batch_size=8, seed=5, epoch=2)]


def test_order_changes_with_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int, batch_size: int = 10) -> list[int]:
        batches = epoch_batches(100, batch_size=batch_size, seed=seed, epoch=epoch)
        return np.concatenate(batches).tolist()

    assert order(1, 2) == order(1, 2) == order(1, 2, batch_size=33)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_every_row_goes_first_as_often() -> None:
    firsts = [epoch_batches(5, batch_size=5, seed=0, epoch=k)[0][0] for k in range(1000)]
    counts = np.bincount(firsts, minlength=5)
    assert counts.min() > 150  # 200 expected, 4 standard deviations
    assert counts.max() < 250


def test_a_rank_must_be_of_the_world() -> None:
    with pytest.raises(ValueError, match="rank is 2 of world 2"):
        shard(np.arange(4), 2, 2)


# what is in a batch


def joined(shares: list[Batch]) -> Batch:
    """The batch that the shares of all ranks make: row i is of rank i % world."""
    world, size = len(shares), shares[0].global_size
    clips, labels, targets = (
        torch.stack([getattr(shares[i % world], name)[i // world] for i in range(size)])
        for name in ("clips", "labels", "targets")
    )
    assert sum(len(share.clips) for share in shares) == size
    return Batch(clips=clips, labels=labels, targets=targets, global_size=size)


def check_equal(one: Batch, other: Batch) -> None:
    assert torch.equal(one.clips, other.clips)
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.targets, other.targets)
    assert one.global_size == other.global_size


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("alphas", [{}, {"mixup_alpha": 0.4, "cutmix_alpha": 1.0}])
def test_any_world_sees_the_same_batches(world: int, alphas: dict[str, float]) -> None:
    alone = list(loader(**alphas).epoch(3))
    ranks = [
        list(loader(**alphas, rank=rank, world=world, threads=1 + rank, prefetch=1 + rank).epoch(3))
        for rank in range(world)
    ]
    assert len(alone) == 3
    for whole, *shares in zip(alone, *ranks, strict=True):
        check_equal(whole, joined(shares))


def test_batches_are_the_augmented_clips_of_their_rows() -> None:
    made = loader()
    rows = made.batches(1)
    for batch, of_batch in zip(made.epoch(1), rows, strict=True):
        assert batch.clips.dtype == torch.uint8
        assert batch.clips.shape == (len(of_batch), 4, 16, 16, 3)
        assert batch.flow is None
        assert batch.global_size == len(of_batch)
        assert batch.labels.tolist() == LABELS[of_batch].tolist()
        assert torch.equal(batch.targets, torch.nn.functional.one_hot(batch.labels, 3).float())
        assert batch.targets.dtype == torch.float32


def test_without_augmentation_clips_are_as_selected() -> None:
    made = loader(augmentation=Augmentation.none())
    for batch, rows in zip(made.epoch(0), made.batches(0), strict=True):
        np.testing.assert_array_equal(batch.clips.numpy(), PREPROCESSING.select(CLIPS[rows]))


def test_a_row_is_seen_differently_in_each_epoch() -> None:
    made = loader(batch_size=NUM_ROWS)
    views = []
    for epoch in range(3):
        (batch,), (rows,) = list(made.epoch(epoch)), made.batches(epoch)
        views.append(batch.clips[int(np.flatnonzero(rows == 7)[0])].numpy().tobytes())
    assert len(set(views)) == 3


def test_equal_clips_are_seen_differently() -> None:
    made = loader(read=lambda rows: CLIPS[np.zeros_like(rows)], batch_size=NUM_ROWS)
    (batch,) = made.epoch(0)
    assert len({clip.numpy().tobytes() for clip in batch.clips}) == NUM_ROWS


def test_epochs_can_begin_anywhere() -> None:
    made = loader()
    list(made.epoch(0))
    for one, other in zip(made.epoch(4), loader().epoch(4), strict=True):
        check_equal(one, other)


def test_mixed_targets_say_whose_pixels_they_are() -> None:
    # Row r is all gray, of value 10 r: a blend's value tells its parts.
    gray = np.full((NUM_ROWS, 6, 20, 20, 3), 0, np.uint8)
    gray += (10 * np.arange(NUM_ROWS, dtype=np.uint8))[:, None, None, None, None]
    made = loader(
        read=lambda rows: gray[rows],
        labels=np.arange(NUM_ROWS),
        num_classes=NUM_ROWS,
        augmentation=Augmentation.none(),
        mixup_alpha=1.0,
    )
    values = 10 * torch.arange(NUM_ROWS)
    for batch, rows in zip(made.epoch(0), made.batches(0), strict=True):
        expected = batch.targets @ values.float()
        assert (batch.clips.float().mean(dim=(1, 2, 3, 4)) - expected).abs().max() <= 0.51
        torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(len(rows)))
        for target, row in zip(batch.targets, rows.tolist(), strict=True):
            others = set(target.nonzero().flatten().tolist()) - {row}
            assert len(others) <= 1
            assert others <= set(rows.tolist())
    assert any((batch.targets.max(dim=1).values < 0.9).any() for batch in made.epoch(0))


def test_mixing_reads_a_clip_once() -> None:
    seen: list[int] = []

    def counted(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        seen.extend(rows.tolist())
        return CLIPS[rows]

    list(loader(read=counted, mixup_alpha=1.0).epoch(0))
    assert sorted(seen) == list(range(NUM_ROWS))


def test_a_batch_of_one_stays_unmixed() -> None:
    made = loader(labels=LABELS[:3], batch_size=1, mixup_alpha=1.0)
    assert all((batch.targets.max(dim=1).values == 1).all() for batch in made.epoch(0))


def test_flow_is_of_the_pixels_in_the_batch() -> None:
    preprocessing = Preprocessing(
        num_frames=4, size_px=16, mean=IMAGENET[0], std=IMAGENET[1], flow=True
    )
    for batch in loader(preprocessing=preprocessing, cutmix_alpha=1.0).epoch(0):
        assert batch.flow is not None
        assert batch.flow.dtype == torch.float32
        np.testing.assert_array_equal(batch.flow.numpy(), clips_flow(batch.clips.numpy()))


def test_the_view_of_a_row_is_augments() -> None:
    # The seed of a view is (purpose, seed, epoch, row); a change would change every training.
    made = loader(seed=9)
    (first, *_), (rows, *_) = list(made.epoch(2)), made.batches(2)
    expected = augment(
        CLIPS[rows[0]],
        out_frames=4,
        out_px=16,
        augmentation=Augmentation(),
        rng=np.random.default_rng([1, 9, 2, int(rows[0])]),
    )
    np.testing.assert_array_equal(first.clips[0].numpy(), expected)


# threads


@pytest.mark.slow
def test_waiting_is_counted_and_begins_anew() -> None:
    def slow(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        time.sleep(0.02)
        return CLIPS[rows]

    made = loader(read=slow, threads=1)
    list(made.epoch(0))
    assert made.seconds_waiting >= NUM_ROWS * 0.02
    made.read = read
    list(made.epoch(1))
    assert made.seconds_waiting < NUM_ROWS * 0.02


def test_batches_are_made_while_the_consumer_works() -> None:
    begun = threading.Semaphore(0)

    def counted(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        begun.release()
        return CLIPS[rows]

    batches = loader(read=counted, labels=LABELS[:16], batch_size=4, prefetch=2).epoch(0)
    next(batches)
    # Three batches of four are read though one has been asked for; the fourth is not.
    assert all(begun.acquire(timeout=10) for _ in range(12))
    assert not begun.acquire(timeout=0.2)
    batches.close()  # type: ignore[attr-defined]


def test_leaving_early_leaves_no_thread() -> None:
    for _ in loader().epoch(0):
        assert loader_threads()
        break
    assert not loader_threads()


def test_an_iterator_never_used_starts_no_thread() -> None:
    unused = loader().epoch(0)
    assert not loader_threads()
    del unused


@pytest.mark.parametrize("alphas", [{}, {"mixup_alpha": 1.0}])
def test_an_error_in_a_thread_is_raised_here(alphas: dict[str, float]) -> None:
    def broken(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        if 7 in rows:
            raise OSError("shard 3 is gone")
        return CLIPS[rows]

    with pytest.raises(OSError, match="shard 3 is gone"):
        list(loader(read=broken, **alphas).epoch(0))
    assert not loader_threads()


def test_many_threads_make_what_one_makes() -> None:
    for one, other in zip(
        loader(threads=1, prefetch=1, mixup_alpha=1.0).epoch(0),
        loader(threads=16, prefetch=9, mixup_alpha=1.0).epoch(0),
        strict=True,
    ):
        check_equal(one, other)


# what is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2"),
        ({"mixup_alpha": -1.0}, "mixup_alpha is -1"),
        ({"num_classes": 2}, "labels are 0 to 2"),
        ({"labels": np.empty(0, np.int64)}, "no clip to train on"),
        ({"batch_size": 4, "world": 4}, "fewer workers or a larger batch"),  # batches of 3 and 4
        ({"batch_size": 64, "world": 24}, "fewer workers"),
    ],
)
def test_impossible_loaders_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loader(**values)


# evaluation


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 1), (1, 5), (3, 4), (4, 100)])
def test_evaluation_keeps_order_and_rows(threads: int, batch_size: int) -> None:
    rows = np.array([3, 1, 22, 1, 0, 9, 15])
    seen = list(
        evaluation_batches(read, rows, PREPROCESSING, batch_size=batch_size, threads=threads)
    )
    assert np.concatenate([part for part, _ in seen]).tolist() == rows.tolist()
    assert all(len(part) == len(clips) <= batch_size for part, clips in seen)
    clips = torch.cat([clips for _, clips in seen])
    np.testing.assert_array_equal(clips.numpy(), PREPROCESSING.select(CLIPS[rows]))


def test_evaluation_of_a_read_only_file_as_it_is() -> None:
    # Nothing to select: the view of the file must become a tensor of its own.
    stored = CLIPS.copy()
    stored.setflags(write=False)
    asis = Preprocessing(num_frames=6, size_px=20, mean=IMAGENET[0], std=IMAGENET[1])
    seen = evaluation_batches(
        lambda rows: stored[rows[0] : rows[-1] + 1], np.arange(4), asis, batch_size=2
    )
    for rows, clips in seen:
        np.testing.assert_array_equal(clips.numpy(), stored[rows])
        clips.zero_()
    assert stored.any()


def test_evaluation_of_nothing() -> None:
    assert list(evaluation_batches(read, np.empty(0, np.int64), PREPROCESSING, batch_size=4)) == []


def test_evaluation_left_early_or_broken_leaves_no_thread() -> None:
    for _ in evaluation_batches(read, np.arange(20), PREPROCESSING, batch_size=2):
        break
    assert not loader_threads()

    def broken(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(evaluation_batches(broken, np.arange(20), PREPROCESSING, batch_size=2))
    with pytest.raises(UserError, match="batch_size=0"):
        evaluation_batches(read, np.arange(20), PREPROCESSING, batch_size=0)
