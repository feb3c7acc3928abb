"""What a search is asked for: kinds, the flag that was before them, the order of the models."""

from typing import Any, get_args

import pytest

from tune import candidates, spaces
from vidray.errors import UserError
from vidray.learning.train_config import ClassicalSettings, LearningSettings
from vidray.models.names import CLASSICAL, ModelKind
from vidray.search.settings import SearchSettings


def _settings(*, families: tuple[str, ...] = (), **changed: Any) -> SearchSettings:
    learning = LearningSettings(classical=ClassicalSettings(families=families))
    return SearchSettings(**{"kinds": ("classical",), "learning": learning, **changed})


def test_the_flag_before_kinds_is_taken_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    settings = _settings(kinds=(), families=("classical", "deep"))
    assert settings.kinds == ("classical", "deep")
    assert settings.learning.classical.families == ()
    assert "--families classical deep is now --kinds classical deep" in capsys.readouterr().err


def test_families_are_feature_families(capsys: pytest.CaptureFixture[str]) -> None:
    named = ("flow", "color")
    assert _settings(families=named).learning.classical.families == named
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match="give --kinds classical, deep or both"):
        _settings(kinds=(), families=("flow",))
    with pytest.raises(
        UserError, match="--families has no effect on a search without --kinds classical"
    ):
        _settings(kinds=("deep",), families=("flow",))


def test_each_model_is_tried_the_quick_ones_first_unless_the_user_names_them() -> None:
    listed = candidates.models_of(_settings(), "classical")
    tried = candidates.in_order(_settings(), "classical")
    assert set(listed) == set(tried) == set(CLASSICAL)
    assert tried[0] == "logistic_regression"
    assert tried.index("extra_trees") < tried.index("gradient_boosting")
    named = _settings(models=("extra_trees", "knn", "extra_trees"))
    assert candidates.in_order(named, "classical") == ("extra_trees", "knn")
    first = spaces.classical_defaults(tried, ["flow"])
    assert [params["model"] for params in first] == list(tried)


@pytest.mark.parametrize("kind", get_args(ModelKind))
def test_no_model_without_a_name(kind: Any) -> None:
    settings = _settings(kinds=(kind,))
    candidates.check_models(settings)
    assert candidates.models_of(settings, kind)
