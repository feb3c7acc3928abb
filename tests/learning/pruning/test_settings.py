"""The flag --prune: what it takes, and of which models."""

from __future__ import annotations

import pytest

from vidray.errors import UserError
from vidray.learning.hyperparameters import Training
from vidray.learning.pruning.settings import PruneSettings
from vidray.learning.train_config import LearningSettings


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 50, float("nan")])
def test_a_share_is_between_none_and_all(share: float) -> None:
    with pytest.raises(UserError, match="a share is above 0 and below 1"):
        PruneSettings(prune=share)


@pytest.mark.parametrize(
    ("model", "weights", "told"),
    [
        ("extra_trees", "none", "--model is extra_trees"),
        ("hf:OWNER/NAME", "default", "--model is hf:OWNER/NAME"),
        ("r3d_18", "none", "--weights is none"),
    ],
)
def test_what_cannot_be_pruned_is_told(model: str, weights: str, told: str) -> None:
    PruneSettings().check(model, weights)
    with pytest.raises(UserError, match=told):
        PruneSettings(prune=0.5).check(model, weights)


def test_all_layers_of_a_pruned_network_learn_at_one_rate_unless_told() -> None:
    plain, told = LearningSettings(), LearningSettings(training=Training(backbone_rate=0.3))
    assert PruneSettings().tuning(plain) is plain
    assert PruneSettings(prune=0.5).tuning(plain).training == Training(backbone_rate=1.0)
    assert PruneSettings(prune=0.5).tuning(told) is told
