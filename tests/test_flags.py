"""Flags that change nothing are refused, whichever dataclass holds them."""

import re
from dataclasses import dataclass

import pytest

from vidray.errors import UserError
from vidray.flags import refuse_unused
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings, LearningSettings, Workers


@dataclass(frozen=True, kw_only=True)
class _Settings:
    size_px: int = 112
    calibrated: bool = True
    fast: bool = False


def test_nothing_given_is_nothing_refused() -> None:
    refuse_unused(_Settings(), "svm")
    refuse_unused(_Settings(size_px=3), "svm", but=("size_px",))


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        (_Settings(size_px=3), "--size-px"),
        (_Settings(calibrated=False), "--no-calibrated"),
        (_Settings(fast=True), "--fast"),
    ],
)
def test_a_flag_is_named_as_it_was_given(given: _Settings, flag: str) -> None:
    message = f"{flag} has no effect on svm: leave it out"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        refuse_unused(given, "svm")


@pytest.mark.parametrize(
    ("learning", "flag"),
    [
        (LearningSettings(deep=DeepSettings(crop_px=9)), "--crop-px"),
        (LearningSettings(training=Training(epochs=3, seed=1)), "--epochs"),
        (LearningSettings(augmentation=Augmentation(flip=0)), "--flip"),
        (LearningSettings(workers=Workers(workers=2)), "--workers"),
    ],
)
def test_flags_of_deep_models(learning: LearningSettings, flag: str) -> None:
    LearningSettings(training=Training(seed=5)).refuse_flags_of_deep_models("svm")
    with pytest.raises(UserError, match=f"^{flag} has no effect on svm"):
        learning.refuse_flags_of_deep_models("svm")
