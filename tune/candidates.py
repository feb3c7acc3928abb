"""Which models a search chooses from, and in which order it tries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vidray.errors import UserError
from vidray.learning.hyperparameters import Training
from vidray.models import names
from vidray.models.names import ModelKind
from vidray.search.settings import SearchSettings
from vidray.tune import spaces

if TYPE_CHECKING:  # Names are checked before Optuna is imported.
    from vidray.learning.examples import Examples
    from vidray.search.proposals import SearchSpace

# Fast to train and of three architectures; any other is searched when it is named.
_DEEP_MODELS = ("resnet18", "s3d", "r3d_18")
# Log loss and CPU seconds of each model's defaults, 5 folds of 159 fight clips, flow alone:
# 0.490 in 0.6 s, 0.500 in 0.7 s, 0.511 in 0.5 s, 0.468 in 10 s, 0.471 in 16 s, 0.516 in 7 s.
_QUICK_FIRST = (
    "logistic_regression", "svm", "knn", "extra_trees", "random_forest", "gradient_boosting",
)  # fmt: skip


def check_models(settings: SearchSettings) -> None:
    """Raise UserError for a model that there is not, or that is of no kind searched."""
    for name in settings.models:
        if name not in deep_models():
            names.check(name)
    found = [name for kind in dict.fromkeys(settings.kinds) for name in models_of(settings, kind)]
    for kind in settings.kinds:
        if not models_of(settings, kind):
            raise UserError(f"no {kind} model is among --models: add one, or leave it out")
    if settings.models and len(found) < len(set(settings.models)):
        raise UserError("--models names one of a kind that is not among --kinds")
    if settings.preset == "notebook":
        for name in models_of(settings, "classical"):
            if name not in spaces.NOTEBOOK:
                known = ", ".join(spaces.NOTEBOOK)
                raise UserError(f"the notebooks have no grid of {name}: only of {known}")


def models_of(settings: SearchSettings, kind: ModelKind) -> tuple[str, ...]:
    """Names to choose from, each once."""
    if not settings.models:
        if kind == "deep":
            return _DEEP_MODELS
        return tuple(spaces.NOTEBOOK if settings.preset == "notebook" else spaces.CLASSICAL)
    known = spaces.CLASSICAL if kind == "classical" else deep_models()
    return tuple(name for name in dict.fromkeys(settings.models) if name in known)


def in_order(settings: SearchSettings, kind: ModelKind) -> tuple[str, ...]:
    """The same in the order in which they are tried: as the user names them, or the quick first."""
    models = models_of(settings, kind)
    if settings.models or kind == "deep" or settings.preset == "notebook":
        return models
    return tuple(sorted(models, key=_QUICK_FIRST.index))


def space_of(
    settings: SearchSettings, kind: ModelKind, examples: Examples, models: Sequence[str]
) -> SearchSpace:
    """The search space.

    Args:
        examples: what the models learn from.
        models: names in the order in which their defaults are tried.
    """
    from vidray.search.proposals import SearchSpace

    listed, families = models_of(settings, kind), examples.families
    if kind == "deep":
        assert examples.clips is not None
        stored = spaces.Stored(frames=examples.clips.num_frames, size_px=examples.clips.size_px)
        weights = settings.learning.deep.weights
        given: Any = {
            "pretrained": weights != "none",
            "fixed": settings.decided,
            "rates": {name: _learning_rate(name, weights) for name in {*listed, *models}},
        }
        return SearchSpace(
            space=spaces.deep(listed, stored, **given),
            first=spaces.deep_defaults(models, stored, **given),
        )
    if settings.preset == "notebook":
        grid = spaces.notebook_grid(models)
        return SearchSpace(space=spaces.notebook(listed, families), first=grid, is_grid=True)
    return SearchSpace(
        space=spaces.classical(listed, families), first=spaces.classical_defaults(models, families)
    )


def _learning_rate(model: str, weights: str) -> float:
    """The learning rate that a training of ``model`` has if none is given."""
    from vidray.learning import deep_job, defaults

    name = model if model in names.DEEP else f"{model}_{names.POOLINGS[0]}"
    facts = deep_job.facts({"name": name, "num_classes": 2}, weights, "all")
    return defaults.numbers(Training(), facts).learning_rate


def deep_models() -> list[str]:
    """Every name that can be searched: models, and backbones without a pooling."""
    return [*names.DEEP, *names.BACKBONES]
