"""VideoMAE's pre-training: its loss against ``transformers``' own, what is hidden, what is kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.command_lines import exit_code
from vidray.errors import UserError
from vidray.evaluation import pretraining as folders
from vidray.learning import defaults, loop
from vidray.learning.deep_job import DeepJob, make_network, rows_of
from vidray.learning.epochs import EpochRow, Validation
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.losses import Reconstruction
from vidray.models import processors
from vidray.models.networks.build import build
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.models.transformers_config import VideoMAE

transformers = pytest.importorskip("transformers")

CONFIG = VideoMAE(
    image_size=32, num_frames=4, patch_size=8, hidden_size=24, num_hidden_layers=2,
    num_attention_heads=2, intermediate_size=48, decoder_hidden_size=12,
    decoder_num_attention_heads=2, decoder_num_hidden_layers=1, decoder_intermediate_size=24,
    initializer_range=0.2,
)  # fmt: skip
PLACES, TUBES = 16, 2


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def job_of(epochs: int = 2, mask_ratio: float = 0.9, weights: str = "none") -> DeepJob:
    mean, std = KINETICS
    training = Training(
        epochs=epochs, batch_size=4, learning_rate=5e-3, keep="loss", stop_on="loss"
    )
    return DeepJob(
        data="", class_names=(), weights=weights, trained="all", augmentation=Augmentation.none(),
        network={
            "name": "hf:tiny", "frames": 4, "size_px": 32,
            "config": json.loads(json.dumps(CONFIG.as_json())),
        },
        training=defaults.resolved(training, defaults.Facts(is_transformer=True)),
        preprocessing=Preprocessing(num_frames=4, size_px=32, mean=mean, std=std),
        mask_ratio=mask_ratio,
    )  # fmt: skip


def fitted(
    job: DeepJob, *, start: Path | None = None, saved: Path | None = None, stop: int = 0
) -> tuple[list[EpochRow], Any]:
    """Rows and network of a pre-training of 12 clips, 4 others to validate."""
    clips = np.random.default_rng(0).integers(0, 255, (16, 4, 4, 4, 3), np.uint8)
    clips = clips.repeat(8, axis=2).repeat(8, axis=3)  # Squares of one colour: they can be learnt.
    built = make_network(job, fresh=start is None)
    loader = TrainingLoader(
        read=lambda rows: clips[rows], labels=np.zeros(12, np.int64), num_classes=1,
        preprocessing=job.preprocessing, augmentation=job.augmentation, batch_size=4, seed=0,
        threads=1,
    )  # fmt: skip

    def on_epoch(rows: Sequence[EpochRow], save: loop.Save) -> bool:
        if saved is not None and len(rows) == stop:
            save(saved)
        return len(rows) != stop

    rows = loop.fit(
        built.network, loader, training=job.training, device=torch.device("cpu"),
        on_epoch=on_epoch, start=start, objective=Reconstruction(),
        validation=Validation(read=lambda rows: clips[12 + rows], labels=np.zeros(4, np.int64)),
    )  # fmt: skip
    return rows, built.network


def test_the_loss_is_that_of_transformers() -> None:
    network: Any = make_network(job_of(), fresh=True).network.eval()
    theirs = transformers.VideoMAEForPreTraining(network.model.config).eval()
    theirs.load_state_dict(network.model.state_dict())
    clips = torch.randn(3, 3, 4, 32, 32)
    errors = network(clips)
    hidden = network._hidden(3, clips.device)
    wanted = theirs(clips.transpose(1, 2), bool_masked_pos=hidden).loss
    assert errors.shape == (3, 1)
    torch.testing.assert_close(errors.mean(), wanted)
    assert wanted > 0.5


@pytest.mark.parametrize(("ratio", "count"), [(0.9, 14), (0.5, 8), (0.01, 1), (0.999, 15)])
def test_tubes_of_the_same_places_are_hidden(ratio: float, count: int) -> None:
    network: Any = make_network(job_of(mask_ratio=ratio), fresh=True).network
    device = torch.device("cpu")
    first, second = network._hidden(8, device), network._hidden(8, device)
    for hidden in (first, second):
        tubes = hidden.unflatten(1, (TUBES, PLACES))
        assert (tubes.sum(dim=2) == count).all()
        assert torch.equal(tubes[:, 0], tubes[:, 1])
    assert not torch.equal(first, second)
    assert len({tuple(row.tolist()) for row in first}) > 1
    # Validation is the same each time.
    network.eval()
    assert torch.equal(network._hidden(8, device), network._hidden(8, device))


def test_training_reaches_every_parameter() -> None:
    network: Any = make_network(job_of(), fresh=True).network
    network(torch.randn(2, 3, 4, 32, 32)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_loss_falls_and_nothing_is_classified() -> None:
    rows, _ = fitted(job_of(epochs=12))
    assert rows[-1].train_loss < 0.97 * rows[0].train_loss
    assert rows[-1].val_loss is not None
    assert {(row.train_accuracy, row.val_accuracy) for row in rows} == {(None, None)}


@pytest.mark.slow
def test_what_is_hidden_is_told_from_what_is_seen() -> None:
    """Clips of one colour each: who does not look at what is seen errs by the colours' variance."""
    job = job_of(mask_ratio=0.75)
    job.network["config"] |= {"norm_pix_loss": False, "initializer_range": 0.1}
    network: Any = make_network(job, fresh=True).network
    mean, std = (torch.tensor(each).view(3, 1, 1, 1) for each in KINETICS)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(300):
        colours = torch.rand(16, 3, 1, 1, 1, generator=generator)
        loss = network(((colours - mean) / std).expand(-1, -1, 4, 32, 32)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # Colours are uniform in 0 to 1: a variance of 1/12.
    assert np.mean(losses[-20:]) < 0.25 / 12


def test_it_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole, network = fitted(job_of(epochs=4))
    fitted(job_of(epochs=4), saved=tmp_path / "last", stop=2)
    rows, resumed = fitted(job_of(epochs=4), start=tmp_path / "last")
    assert [row.train_loss for row in rows] == [row.train_loss for row in whole]
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in resumed.state_dict().items())


@torch.no_grad()
def test_the_folder_is_one_of_transformers_and_begins_models(tmp_path: Path) -> None:
    job = job_of()
    network: Any = make_network(job, fresh=True).network.eval()
    folders.save(str(tmp_path), job, network.state_dict())
    theirs, found = transformers.VideoMAEForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    clips = torch.randn(2, 3, 4, 32, 32)
    hidden = network._hidden(2, clips.device)
    loss = theirs.eval()(clips.transpose(1, 2), bool_masked_pos=hidden).loss
    torch.testing.assert_close(loss, network(clips).mean())
    # A classifier starts from its encoder, here as a model of another name with the same sizes.
    config = {**CONFIG.as_json(), "image_size": 64}
    built = build("hf:other", num_classes=3, weights=str(tmp_path), config=config, size_px=32)
    assert "not those of decoder, encoder_to_decoder, mask_token, videomae.layernorm" in str(
        built.loaded
    )
    ours = built.network.state_dict()
    encoder = {k: v for k, v in theirs.state_dict().items() if ".layernorm." not in k}
    taken = [k for k in encoder if k.startswith("videomae.")]
    assert len(taken) == 32
    assert all(torch.equal(ours[name], encoder[name]) for name in taken)
    # It says what its clips are fed as.
    recipe = processors.of_folder(str(tmp_path))
    assert (recipe.frames, recipe.crop_px) == (4, 32)
    assert recipe.mean == pytest.approx(KINETICS[0])
    # And a pre-training goes on from it.
    again: Any = make_network(job_of(weights=str(tmp_path)), fresh=True).network.eval()
    torch.testing.assert_close(again(clips), network(clips))


def test_what_cannot_be_pretrained_is_said(tmp_path: Path) -> None:
    job = job_of()
    job.network["size_px"] = 36
    with pytest.raises(UserError, match="clips of 4 frames of 36 px are not whole patches"):
        make_network(job, fresh=True)
    job.network["size_px"] = 8
    with pytest.raises(UserError, match="clips of 8 px have one patch of 8 px"):
        make_network(job, fresh=True)
    job = job_of()
    job.network["config"] = {"kind": "vivit"}
    with pytest.raises(UserError, match="--pretrain is VideoMAE's way to learn, and hf:tiny is"):
        make_network(job, fresh=True)
    theirs = transformers.VideoMAEForVideoClassification(
        transformers.VideoMAEConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2)
    )
    theirs.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is no pre-training of this model"):
        make_network(job_of(weights=str(tmp_path)), fresh=True)


def test_rows_without_labels_or_splits_are_for_pretraining_alone() -> None:
    table = pa.table(
        {
            "video_id": ["a", "b", "c", "d", "e"],
            "label": ["up", None, "down", None, "up"],
            "split": ["train", None, "train", "val", "test"],
        }
    )
    clips: Any = SimpleNamespace(table=table)
    rows, labels = rows_of(job_of(), clips, "train")
    assert (rows.tolist(), labels.tolist()) == ([0, 1, 2], [0, 0, 0])
    assert rows_of(job_of(), clips, "val")[0].tolist() == [3]
    classes = dataclasses.replace(job_of(), class_names=("down", "up"), mask_ratio=None)
    rows, labels = rows_of(classes, clips, "train")
    assert (rows.tolist(), labels.tolist()) == ([0, 2], [1, 0])
    assert rows_of(classes, clips, "val")[0].tolist() == []


@pytest.mark.parametrize(("flags", "message"), [
    (("--mask-ratio", "0.5"), "--mask-ratio has no effect without --pretrain"),
    (("--pretrain", "--mask-ratio", "1"), "mask_ratio is 1.0: it must be above 0 and below 1"),
    (("--pretrain", "--label-smoothing", "0.2"), "--label-smoothing has no effect on --pretrain"),
    (("--pretrain", "--dropout", "0.2"), "--dropout has no effect on --pretrain"),
    (("--pretrain", "--model", "r3d_18"), "--pretrain is VideoMAE's way to learn, and --model is"),
    (("--pretrain", "--without-classes", "a"), "--without-classes has no effect on --pretrain"),
])  # fmt: skip
def test_flags_without_effect_are_refused(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--data", "x", "--model", "videomae_small", "--out", "y", *flags)
    assert exit_code("jobs/train.py", *given) == 2
    assert message in capsys.readouterr().err
