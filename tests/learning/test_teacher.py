"""A teacher's loss against torch's own, its view against the student's, and a training resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray.learning import loop
from vidray.learning.epochs import EpochRow, Validation
from vidray.learning.exits import of_every_exit
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import Batch, TrainingLoader
from vidray.learning.losses import Classification
from vidray.learning.teacher import Distilled, Teacher, answer_of_network, divergence
from vidray.models.networks.exits import ExitNetwork
from vidray.models.preprocess import Preprocessing, clips_flow

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(num_frames=2, size_px=8, mean=(0.5,) * 3, std=(0.25,) * 3)
CLASSES = 3
TRAINING = Training(
    epochs=4, batch_size=5, learning_rate=0.02, warmup_epochs=0.5, precision="float32"
)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1], np.int64)
WITHOUT = np.full(6, -1, np.int64)


# --- the loss ----------------------------------------------------------------------------------


def logits(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed))


def targets(labels: list[int], teacher: Tensor) -> Tensor:
    """One-hot rows, zeros for -1, beside the teacher's logits."""
    hard = torch.stack([torch.eye(CLASSES)[k] if k >= 0 else torch.zeros(CLASSES) for k in labels])
    return torch.cat([hard, teacher], dim=1)


def distilled(**settings: Any) -> Distilled:
    plain = {"temperature": 2.0, "share": 0.7, "label_smoothing": 0.0, "class_weights": None}
    return Distilled(**{**plain, **settings})


def test_the_divergence_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * np.log(3.0), 0.0]])
    # At temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2.
    by_hand = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert divergence(student, teacher, 2.0).tolist() == pytest.approx([by_hand])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_is_torchs(temperature: float) -> None:
    student, teacher = logits(6, 0), logits(6, 1)
    expected = temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.softmax(teacher / temperature, dim=1),
        reduction="batchmean",
    )
    torch.testing.assert_close(divergence(student, teacher, temperature).mean(), expected)


def test_the_gradient_keeps_its_size_at_a_high_temperature() -> None:
    """Hinton et al. 2015, (4): it tends to that of half the squared distance of centred logits."""
    student, teacher = logits(4, 0).requires_grad_(), logits(4, 1)
    (found,) = torch.autograd.grad(divergence(student, teacher, 1000.0).sum(), student)
    apart = (student - teacher) - (student - teacher).mean(dim=1, keepdim=True)
    torch.testing.assert_close(found, apart.detach() / CLASSES, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0])])
def test_share_0_is_the_cross_entropy_and_its_gradient(
    smoothing: float, weights: Tensor | None
) -> None:
    student, both = logits(4, 0).requires_grad_(), targets([0, 2, 1, 1], logits(4, 1))
    plain = Classification(label_smoothing=smoothing, class_weights=weights)
    taught = distilled(share=0.0, label_smoothing=smoothing, class_weights=weights)
    one = plain.loss_sum(student, both[:, :CLASSES])
    other = taught.loss_sum(student, both)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(plain.weights(both[:, :CLASSES]), taught.weights(both))
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (one, other)]
    torch.testing.assert_close(*gradients)


def test_a_clip_without_a_label_has_the_teachers_part_alone() -> None:
    student, teacher = logits(3, 0), logits(3, 1)
    for share in (0.3, 1.0):
        found = distilled(share=share, label_smoothing=0.1).loss_sum(
            student, targets([-1, 1, -1], teacher)
        )
        apart = divergence(student, teacher, 2.0)
        hard = F.cross_entropy(student[1:2], torch.tensor([1]), label_smoothing=0.1)
        expected = apart[0] + apart[2] + share * apart[1] + (1 - share) * hard
        torch.testing.assert_close(found, expected)


def test_class_weights_count_a_clip_by_its_label_or_else_by_the_teachers_answer() -> None:
    weights, teacher, student = torch.tensor([0.5, 1.0, 4.0]), logits(2, 1), logits(2, 0)
    taught = distilled(class_weights=weights)
    both = targets([2, -1], teacher)
    said = float(teacher[1].softmax(dim=0) @ weights)
    assert taught.weights(both).tolist() == pytest.approx([4.0, said])
    apart = divergence(student, teacher, 2.0)
    hard = 4.0 * F.cross_entropy(student[:1], torch.tensor([2]))
    expected = 0.3 * hard + 0.7 * 4.0 * apart[0] + said * apart[1]
    torch.testing.assert_close(taught.loss_sum(student, both), expected)


# --- what a teacher is given -------------------------------------------------------------------


def read(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Smooth clips of 6 frames of 24 px, which may be seen at any size: the class is the hue."""
    clips = np.empty((len(rows), 6, 24, 24, 3), np.uint8)
    x, y = np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 24))
    for clip, row in zip(clips, rows.tolist(), strict=True):
        draw = np.random.default_rng(row)
        for frame in range(6):
            level = 100 + 60 * np.sin(draw.uniform(0, 6, 1) + 3 * x + 2 * y + frame / 3)
            clip[frame] = level[..., None]
        clip[..., row % CLASSES] //= 2
    return clips


def loader(**settings: Any) -> TrainingLoader:
    values = {
        "read": read, "labels": LABELS, "num_classes": CLASSES, "preprocessing": PREPROCESSING,
        "augmentation": Augmentation(), "batch_size": 5, "seed": 3, "threads": 1,
    }  # fmt: skip
    return TrainingLoader(**{**values, **settings})


def teacher_of(
    network: nn.Module,
    preprocessing: Preprocessing = PREPROCESSING,
    order: tuple[int, ...] = (0, 1, 2),
) -> Teacher:
    return Teacher(answer_of_network(network, preprocessing), preprocessing, np.array(order))


MIXES = [{}, {"mixup_alpha": 0.5}, {"cutmix_alpha": 0.5}]


@pytest.mark.parametrize("mixes", MIXES)
def test_a_teacher_of_the_students_size_is_given_its_very_pixels(mixes: dict[str, float]) -> None:
    other = replace(PREPROCESSING, mean=(0.4,) * 3)
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs.mean(dim=(2, 3, 4))

    teacher = Teacher(answer_of_network(Watching(), other), other, np.arange(CLASSES))
    for batch in loader(teacher=other, **mixes).epoch(0):
        assert batch.for_teacher is None
        teacher.logits(batch, [slice(0, 2), slice(2, None)], CPU, "float32")
        # Fed as it was trained: with its own colours.
        torch.testing.assert_close(torch.cat(seen), other.to_input(batch.clips))
        seen.clear()


@pytest.mark.parametrize("mixes", MIXES)
@pytest.mark.parametrize("cut", [False, True])
def test_a_teacher_of_another_size_is_given_the_same_view(
    mixes: dict[str, float], cut: bool
) -> None:
    """At twice the student's size and rate: what it sees is the student's view when halved."""
    own = replace(PREPROCESSING, num_frames=3, cut=cut)
    large = replace(own, num_frames=6, size_px=16, cut=False)
    mild = Augmentation(temporal_jitter=0.0, scale=(0.3, 0.6))  # Of a whole clip it sees a part.
    for batch in loader(preprocessing=own, teacher=large, augmentation=mild, **mixes).epoch(2):
        assert batch.for_teacher is not None
        clips = batch.for_teacher[0].float()
        assert clips.shape[1:] == (6, 16, 16, 3)
        halved = F.avg_pool3d(clips.permute(0, 4, 1, 2, 3), (1, 2, 2))[:, :, 1::2]
        apart = (halved.permute(0, 2, 3, 4, 1) - batch.clips.float()).abs().mean(dim=(1, 2, 3, 4))
        # The edges of a box are whole pixels of either size.
        assert float(apart.max()) < (12 if "cutmix_alpha" in mixes else 4)
        others = (halved.permute(0, 2, 3, 4, 1) - batch.clips.roll(1, 0).float()).abs().mean()
        assert float(others) > 3 * float(apart.mean())


@pytest.mark.parametrize(("own", "others"), [(True, False), (False, True), (True, True)])
def test_flow_is_given_to_whom_takes_it(own: bool, others: bool) -> None:
    """Of the very pixels that both see; computed by the loader."""
    student = replace(PREPROCESSING, size_px=16, flow=own)
    taught_by = replace(student, flow=others)
    given: list[Tensor | None] = []

    def answer(clips: Tensor, flow: Tensor | None, *_: object) -> Tensor:
        given.append(flow)
        assert torch.equal(clips, batch.clips)
        return torch.zeros(len(clips), CLASSES)

    made = loader(preprocessing=student, teacher=taught_by)
    batch = next(iter(made.epoch(0)))
    Teacher(answer, taught_by, np.arange(CLASSES)).logits(batch, [slice(None)], CPU, "float32")
    expected = clips_flow(batch.clips.numpy())
    for flow, is_there in ((batch.flow, own), (given[0], others)):
        assert (flow is not None) == is_there
        assert flow is None or (flow.numpy() == expected).all()


def test_every_exit_learns_from_the_teacher() -> None:
    """A network with one early exit at weight 1: the mean of both heads' losses."""
    network = ExitNetwork.__new__(ExitNetwork)
    nn.Module.__init__(network)
    network.exits, network.loss_weight = nn.ModuleList([nn.Identity()]), 1.0
    objective, both = distilled(), targets([0, -1], logits(2, 1))
    heads = [logits(2, seed) for seed in (2, 3)]
    found = of_every_exit(network, objective).loss_sum(torch.stack(heads, dim=1), both)
    torch.testing.assert_close(found, sum(objective.loss_sum(h, both) for h in heads) / 2)


def test_a_student_sees_the_same_views_with_and_without_a_teacher() -> None:
    large = replace(PREPROCESSING, num_frames=4, size_px=16)
    for one, other in zip(loader().epoch(1), loader(teacher=large).epoch(1), strict=True):
        assert torch.equal(one.clips, other.clips)
        assert torch.equal(one.targets, other.targets)


def test_answers_come_in_the_students_order_of_classes() -> None:
    class Fixed(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tensor([[1.0, 2.0, 3.0]]).repeat(len(inputs), 1)

    teacher = teacher_of(Fixed(), order=(2, 0, 1))
    batch = next(iter(loader().epoch(0)))
    found = teacher.logits(batch, [slice(None)], CPU, "float32")
    assert found.tolist() == [[3.0, 1.0, 2.0]] * len(batch.labels)


@pytest.mark.parametrize("mixes", MIXES)
def test_a_mix_with_a_clip_without_a_label_has_none(mixes: dict[str, float]) -> None:
    labels = np.concatenate([LABELS, WITHOUT])
    made = loader(labels=labels, teacher=PREPROCESSING, **mixes)
    for rows, batch in zip(made.batches(0), made.epoch(0), strict=True):
        known = labels[rows] >= 0
        if mixes:
            known &= labels[np.roll(rows, 1)] >= 0
        sums = batch.targets.sum(dim=1)
        np.testing.assert_allclose(sums, known.astype(float), atol=1e-6)
        assert batch.labels.tolist() == labels[rows].tolist()


# --- a training --------------------------------------------------------------------------------


def make_network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(3, 4, (1, 3, 3)),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )


def fit(
    labels: NDArray[np.int64],
    *,
    training: Training = TRAINING,
    start: Path | None = None,
    save_to: Path | None = None,
    share: float = 0.9,
    **settings: Any,
) -> tuple[nn.Module, list[EpochRow]]:
    """Teach a small network by another one, of larger pictures."""
    teacher = teacher_of(make_network(7), replace(PREPROCESSING, size_px=12), order=(1, 0, 2))
    made = loader(
        labels=labels, teacher=teacher.preprocessing, batch_size=training.batch_size,
        mixup_alpha=training.mixup_alpha, **settings,
    )  # fmt: skip

    def on_epoch(rows: Any, save: loop.Save) -> None:
        if save_to is not None:
            save(save_to / str(len(rows)))

    network = make_network(0)
    rows = loop.fit(
        network, made, training=training, device=CPU, on_epoch=on_epoch, start=start,
        validation=Validation(read=read, labels=LABELS), teacher=teacher,
        objective=distilled(share=share),
    )  # fmt: skip
    return network, rows


def assert_same(one: nn.Module, other: nn.Module, *, is_same: bool = True) -> None:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) == is_same


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_interrupted_it_ends_as_if_it_had_not_been(tmp_path: Path, alpha: float) -> None:
    labels, training = np.concatenate([LABELS, WITHOUT]), replace(TRAINING, mixup_alpha=alpha)
    straight, expected = fit(labels, training=training, save_to=tmp_path)
    torch.manual_seed(99)
    resumed, rows = fit(labels, training=training, start=tmp_path / "2")
    assert_same(straight, resumed)
    figures = [[(r.train_loss, r.val_loss) for r in some] for some in (rows, expected)]
    assert figures[0] == figures[1]


def test_clips_without_labels_and_the_share_change_what_is_learnt() -> None:
    alone, _ = fit(LABELS)
    assert_same(alone, fit(np.concatenate([LABELS, WITHOUT]))[0], is_same=False)
    assert_same(alone, fit(LABELS, share=0.5)[0], is_same=False)
    assert_same(alone, fit(LABELS)[0])


def test_the_teacher_does_not_learn_and_accuracy_counts_labelled_clips_alone() -> None:
    network = make_network(7)
    teacher = teacher_of(network)
    before = [p.clone() for p in network.state_dict().values()]

    class Sure(nn.Module):
        """Says class 0 of every clip."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(()))

        def forward(self, inputs: Tensor) -> Tensor:
            fixed = torch.tensor([[9.0, 0.0, 0.0]]).repeat(len(inputs), 1)
            return fixed + self.bias

    labels = np.concatenate([LABELS, WITHOUT])
    (row,) = loop.fit(
        Sure(), loader(labels=labels, teacher=PREPROCESSING), device=CPU,
        training=replace(TRAINING, epochs=1), on_epoch=lambda rows, save: None,
        teacher=teacher, objective=distilled(),
    )  # fmt: skip
    assert row.train_accuracy == pytest.approx((LABELS == 0).mean())
    after = list(network.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_student_comes_to_say_what_its_teacher_says() -> None:
    """Without a single label: share 1, and clips that only the teacher answers for."""
    teacher = teacher_of(make_network(7))
    clips = read(np.arange(len(WITHOUT)))
    batch = Batch(torch.from_numpy(PREPROCESSING.select(clips)), *[torch.empty(0)] * 2, 6)
    said = teacher.logits(batch, [slice(None)], CPU, "float32")
    network = make_network(0)
    training = replace(TRAINING, epochs=60, learning_rate=0.05, batch_size=6)
    loop.fit(
        network, loader(labels=WITHOUT, teacher=PREPROCESSING, batch_size=6,
                        augmentation=Augmentation.none()),
        training=training, device=CPU, on_epoch=lambda rows, save: None,
        teacher=teacher, objective=distilled(share=1.0), is_fresh=True,
    )  # fmt: skip
    network.eval()
    inputs = PREPROCESSING.to_input(batch.clips)
    with torch.no_grad():
        found, untaught = network(inputs), make_network(0).eval()(inputs)
    apart = [float(divergence(one, said, 1.0).mean()) for one in (found, untaught)]
    assert apart[0] < 0.1 * apart[1], apart
