"""What model.json says of early exits: right, or refused in one line."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_model_files import ABSURD, changed, outcome, places
from vidray import models
from vidray.errors import UserError
from vidray.export.whole import whole
from vidray.labelling.settings import LabelOptions, LabelSettings, check_model, leaves_early
from vidray.labelling.torch_predictor import TorchPredictor
from vidray.models.exit_rule import ExitRule
from vidray.models.folder import DeepModel, save_deep
from vidray.models.model_files import read_info
from vidray.models.networks.build import build
from vidray.models.networks.exits import EachExit
from vidray.models.preprocess import IMAGENET, Preprocessing
from vidray.models.probabilities import softmax
from vidray.video.clips import ClipSettings

NETWORK: dict[str, Any] = {
    "name": "resnet18_avg", "num_classes": 2, "frames": 2, "size_px": 16, "exits": [1, 4],
}  # fmt: skip
RULE: dict[str, Any] = {
    "temperatures": [1.5, 0.8],
    "threshold": {
        "value": 0.9, "share": 0.4, "lost": 0.01, "lost_interval": [0.0, 0.02], "allow": 0.05,
        "sureness": 0.95, "num_videos": 300, "num_groups": 100,
    },
}  # fmt: skip


def info(**changes: Any) -> dict[str, Any]:
    mean, std = IMAGENET
    fed = Preprocessing(num_frames=2, size_px=16, mean=mean, std=std)
    made = {
        "family": "deep", "name": "resnet18_avg", "class_names": ["a", "b"], "network": NETWORK,
        "preprocessing": fed.to_json(), "exits": RULE,
        "clip": json.loads(json.dumps(asdict(ClipSettings(frames_per_clip=2, size_px=16)))),
    }  # fmt: skip
    return copy.deepcopy({**made, **changes})


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build(**NETWORK).network.state_dict()


@pytest.fixture
def folder(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_deep(str(tmp_path), info(), weights)
    return tmp_path


def written(folder: Path, values: dict[str, Any]) -> str:
    (folder / "model.json").write_text(json.dumps(values))
    return str(folder)


def test_it_is_read_as_it_was_written(folder: Path) -> None:
    rule = ExitRule.from_json(RULE)
    assert rule.to_json() == RULE
    assert (rule.num_stages, rule.threshold.value) == (3, 0.9)
    model = models.load(str(folder))
    assert isinstance(model, DeepModel)
    assert model.exits == rule
    _, stages = model.answer_rows(lambda rows: np.zeros((1, 2, 16, 16, 3), np.uint8)[rows],
                                  np.arange(1))  # fmt: skip
    assert stages is not None
    assert stages[0] in (1, 2, 3)


def test_without_a_rule_nothing_leaves(folder: Path) -> None:
    values = info()
    del values["exits"]
    model = models.load(written(folder, values))
    assert isinstance(model, DeepModel)
    assert model.exits is None
    assert not leaves_early(values)


def test_a_label_job_says_where_clips_left_and_no_clip_depends_on_others(folder: Path) -> None:
    model = models.load(str(folder))
    assert isinstance(model, DeepModel)
    clips = np.random.default_rng(0).integers(0, 256, (9, 2, 16, 16, 3)).astype(np.uint8)
    heads = model.logits(EachExit(model.network), lambda k: clips[k], np.arange(9))  # type: ignore[arg-type]
    sure = softmax(heads[:, :2] / np.float32(1.5)).max(axis=1)
    leaves_at = float(np.sort(sure)[4:6].mean())  # Between two: rounding decides nothing.
    threshold = dataclasses.replace(ExitRule.from_json(RULE).threshold, value=leaves_at)
    rule = ExitRule(temperatures=(1.5, 100.0), threshold=threshold)
    model = dataclasses.replace(model, exits=rule)
    settings = LabelSettings(model=str(folder), model_digest="d")
    predictor = TorchPredictor(model, settings)
    predictor.batch_size, predictor._rows_at_once = 8, 4  # As on a GPU, smaller.
    answer = predictor(clips)
    assert answer.stages is not None
    assert answer.stages.tolist() == np.where(sure >= leaves_at, 1, 3).tolist()
    for k in range(9):  # Alone in its batch, and so alone after the exit.
        alone = predictor(clips[k : k + 1])
        assert np.array_equal(alone.probabilities[0], answer.probabilities[k])
    seen = LabelSettings(model=str(folder), model_digest="d", options=LabelOptions(embedding=True))
    whole_answer = TorchPredictor(model, seen)(clips)
    assert whole_answer.stages is None
    assert whole_answer.embeddings is not None
    assert whole_answer.embeddings.shape == (9, 512)


def test_what_is_exported_is_the_whole_network(folder: Path) -> None:
    model = models.load(str(folder))
    assert isinstance(model, DeepModel)
    made = whole(model)
    clips = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3)).astype(np.uint8)
    expected = dataclasses.replace(model, exits=None).predict(clips)
    np.testing.assert_array_equal(made.predict(clips), expected)
    assert not any(name.startswith("exits") for name in made.network.state_dict())
    assert "exits" not in made.info
    assert "exits" not in made.info["network"]
    assert whole(made) is made


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("exits", "temperatures"), [1.0], "exits.temperatures has 1 and network.exits 2"),
        (("exits", "temperatures"), [], "temperatures is empty"),
        (("exits", "temperatures"), [1.0, 0.0], "temperatures has 0.0: each is 0.01 to 100"),
        (("exits", "temperatures"), [1.0, 1e9], "temperatures has 1000000000.0"),
        (("exits", "temperatures"), ["1", 1.0], r'exits.temperatures\[0\] is "1"'),
        (("exits", "temperatures"), [1.0] * 1000, "has 1000 and network.exits 2"),
        (("exits", "threshold", "value"), 1.5, "value is 1.5: a confidence is 0 to 1"),
        (("exits", "threshold", "value"), "0.9", 'exits.threshold.value is "0.9"'),
        (("exits", "threshold", "lost_interval"), [0, 0.1, 0.2], "must be a list of two numbers"),
        (("exits", "threshold", "allow"), 0, "allow is 0"),
        (("exits", "more"), 1, 'exits has an unknown key "more"'),
        (("exits",), None, "exits is null: it must be an object"),
        (("exits",), [1], "exits is a list of 1: it must be an object"),
        (("network", "exits"), None, "temperatures has 2 and network.exits 0"),
        (("network", "exits"), [4, 1], "numbers of units, from 0, each above the last"),
        (("network", "exits"), [1, 1], "numbers of units, from 0, each above the last"),
        (("network", "exits"), [-1, 4], "numbers of units, from 0, each above the last"),
        (("network", "exits"), list(range(65)), "exits has 65 entries: 1 to 64"),
        (("network", "exits"), [1.5, 4], r"network.exits\[0\] is 1.5: it must be a whole number"),
        (("network", "exits"), [1, 2**70], r"network.exits\[1\] is a number of many digits"),
        (("network", "name"), "swin3d_t", "swin3d_t can have no early exits"),
    ],
)
def test_what_is_wrong_is_named(
    place: tuple[str, ...], value: Any, told: str, folder: Path
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        read_info(written(folder, changed(info(), place, value)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("exits", [[1, 8], [1, 2**40]])
def test_places_that_the_network_has_not(exits: list[int], folder: Path) -> None:
    values = info(network={**NETWORK, "exits": exits})
    with pytest.raises(UserError, match="may have them after the units 0, 1, 2"):
        models.load(written(folder, values))


def test_weights_of_other_exits_do_not_fit(folder: Path) -> None:
    values = info(network={**NETWORK, "exits": [1, 6]})
    with pytest.raises(UserError, match=r"does not fit the model: exits\.1\.narrow\.weight"):
        models.load(written(folder, values))


@pytest.mark.slow
def test_whatever_is_there_it_is_read_or_refused_in_a_line(folder: Path) -> None:
    values = info()
    there = [place for place in places(values) if "exits" in place]
    assert len(there) > 10
    said = [
        outcome(models.load, written(folder, changed(values, place, absurd)))
        for place in there
        for absurd in ABSURD
    ]
    assert said.count("good") < len(said) / 4


def test_what_does_not_go_with_leaving() -> None:
    assert leaves_early(info())
    with pytest.raises(UserError, match="clips leave resnet18_avg at early exits: leave --compile"):
        check_model(LabelOptions(compile=True), info())
    check_model(LabelOptions(compile=True, embedding=True), info())
    whole = changed(
        info(), ("exits", "threshold"), {**RULE["threshold"], "value": None, "share": 0.0}
    )
    assert not leaves_early(whole)
    check_model(LabelOptions(compile=True), whole)
