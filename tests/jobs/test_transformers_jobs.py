"""Models of transformers through all jobs as a user runs them: clips, train, evaluate, label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.models.test_transformers_video import FRAMES, SIZE_PX, theirs_of
from tests.ray_cluster import Cluster, Job
from vidray import labelling
from vidray.video import synthetic

pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_PROCESSOR = {
    "size": {"shortest_edge": SIZE_PX}, "crop_size": {"height": SIZE_PX, "width": SIZE_PX},
    "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3],
}  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    synthetic.make_clips(folder, clips_per_class=4)
    return folder


@pytest.fixture(scope="module")
def clips(videos: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "run"
    size = ("--frames-per-clip", FRAMES, "--size-px", SIZE_PX)
    fractions = ("--split-fractions", "0.5", "0.25", "0.25")
    Job("jobs/clips.py", cluster).call("--videos", videos, "--out", out, *size, *fractions)
    return out


@pytest.mark.parametrize("kind", ["videomae", "vjepa2", "vivit", "clip"])
def test_a_tiny_model_goes_through_all_jobs(
    kind: str, videos: Path, clips: Path, cluster: Cluster, tmp_path: Path
) -> None:
    folder, model = tmp_path / "theirs", tmp_path / "model"
    theirs_of(kind).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PROCESSOR))
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    told = Job("jobs/train.py", cluster).call(
        "--data", clips, "--model", f"hf:{folder}", "--weights", "default", "--out", model,
        "--epochs", 1, "--batch-size", 8,
    )  # fmt: skip
    assert "hf:theirs (licence cc-by-nc-4.0, not for commercial use): " in told
    info = json.loads((model / "model.json").read_text())
    assert info["origin"] == {"repo": "theirs", "revision": None, "licence": "cc-by-nc-4.0"}
    assert info["network"]["config"]["kind"] == kind
    # ViViT's processor goes from -1 to 1 before it subtracts.
    mean = [0.7, 0.75, 0.8] if kind == "vivit" else [0.4, 0.5, 0.6]
    assert info["preprocessing"]["mean"] == pytest.approx(mean)
    # From here on the folder of transformers is not needed.
    folder.rename(tmp_path / "gone")
    Job("jobs/evaluate.py", cluster).call(
        "--model", model, "--data", clips, "--out", tmp_path / "judged"
    )
    judged = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert judged["num_videos"] == 4
    out = tmp_path / "labels"
    Job("jobs/label.py", cluster).call("--model", model, "--videos", videos / "drift", "--out", out)
    labels = labelling.read_labels(str(out))
    assert labels["status"].to_pylist() == ["ok"] * len(labels)
    sums = [sum(row) for row in labels["probabilities"].to_pylist()]
    np.testing.assert_allclose(sums, 1, atol=1e-9)


def test_pretraining_learns_of_videos_without_labels(
    videos: Path, clips: Path, cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    theirs_of("videomae", patch_size=8).save_pretrained(folder)
    cut = Job("jobs/clips.py", cluster)
    size = ("--frames-per-clip", FRAMES, "--size-px", SIZE_PX)
    drift = ("--videos", f"{videos}/drift/*", *size)
    assert "0 ok" in cut.call(*drift, "--out", tmp_path / "none")
    told = cut.call(*drift, "--out", tmp_path / "unlabelled", "--unlabelled", "keep")
    assert "4 videos: 4 ok" in told
    train = Job("jobs/train.py", cluster)
    begun = tmp_path / "begun"
    pretrain = ("--data", tmp_path / "unlabelled", "--model", f"hf:{folder}", "--out", begun,
                "--pretrain", "--epochs", 2, "--mask-ratio", 0.75)  # fmt: skip
    told = train.call(*pretrain)
    assert "epoch 2/2: loss " in told
    assert "accuracy" not in told
    assert f"to train a model from it: --weights {begun}" in told
    assert {path.name for path in begun.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "history.json",
        "curve.png", "run.json", "_SUCCESS",
    }  # fmt: skip
    assert "nothing to do" in train.call(*pretrain)
    told = train.call(
        "--data", clips, "--model", f"hf:{folder}", "--weights", begun, "--out",
        tmp_path / "model", "--epochs", 1,
    )  # fmt: skip
    assert "not those of decoder, encoder_to_decoder, mask_token" in told
    assert train.call("--data", clips, "--model", "svm", "--out", tmp_path / "x", "--pretrain",
                      code=2)  # fmt: skip
    told = Job("jobs/evaluate.py", cluster).call(
        "--model", begun, "--data", clips, "--out", tmp_path / "judged", code=2
    )
    assert "it holds a pre-training, which begins a model: give it as --weights" in told
