"""How many channels go and which, and what is left of the operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidray.errors import UserError
from vidray.evaluation.cost import flops_per_clip
from vidray.learning.pruning.choice import choose, count_operations, remove
from vidray.learning.pruning.groups import find_groups
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build

SHAPE = (3, 8, 32, 32)


@pytest.fixture(scope="module")
def made() -> Architecture:
    """Its bottleneck convolutions are depthwise, and it squeezes and excites."""
    torch.manual_seed(0)
    return build("x3d_s", num_classes=3)


def test_operations_are_counted_as_the_report_counts_them(made: Architecture) -> None:
    costs = count_operations(made.network, SHAPE)
    assert costs.total == flops_per_clip(made.network, SHAPE)
    assert costs.rest == 0
    assert costs.after([], []) == costs.total


def test_those_of_no_layer_that_is_cut_stay() -> None:
    recurrent = build("resnet18_lstm", num_classes=3).network
    costs = count_operations(recurrent, SHAPE)
    assert costs.total == flops_per_clip(recurrent, SHAPE)
    assert costs.rest > 0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_what_goes_is_at_least_the_share_and_the_least_important(share: float) -> None:
    torch.manual_seed(0)
    made = build("x3d_s", num_classes=3)
    groups = find_groups(made, SHAPE)
    rng = np.random.default_rng(0)
    scores = [rng.uniform(size=group.size) for group in groups]
    costs = count_operations(made.network, SHAPE)
    kept = choose(groups, scores, costs, share)
    for group, mask, score in zip(groups, kept, scores, strict=True):
        assert mask.any()
        if not mask.all():
            assert score[mask].min() > score[~mask].max()
        if group.size >= 16 and not mask.all():
            assert mask.sum() % 8 == 0
    expected = costs.after(groups, [int(mask.sum()) for mask in kept])
    remove(made.network, groups, kept)
    left = flops_per_clip(made.network, SHAPE)
    assert left == expected
    # Whole vectors are left, so that nearly so much goes, and never less.
    assert share <= 1 - left / costs.total < share + 0.05


def test_more_than_can_go_is_told(made: Architecture) -> None:
    groups = find_groups(made, SHAPE)
    scores = [np.ones(group.size) for group in groups]
    with pytest.raises(UserError, match=r"prune is 0.999: of this network 0\.\d\d can go") as error:
        choose(groups, scores, count_operations(made.network, SHAPE), 0.999)
    assert "\n" not in str(error.value)
