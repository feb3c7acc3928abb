"""The search spaces: the hyperparameters of every model, as Optuna is asked for them.

A space is a function of an Optuna trial: it asks for values by name and returns the settings that a
trial of ``tune/search.py`` trains with. To search something else, change a line here: ranges are
where the notebooks' best values, the literature's and those of the fight clips lie inside.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidray.learning.hyperparameters import Augmentation
from vidray.models.names import DEEP, POOLINGS

if TYPE_CHECKING:  # Names are checked before Optuna is imported.
    from optuna import Trial

    from vidray.search.proposals import Space

# Classical models: the classifier's own parameters


def svm(trial: Trial) -> dict[str, Any]:
    """Support vectors."""
    kernel = trial.suggest_categorical("svm.kernel", ["rbf", "linear"])
    own = {"kernel": kernel, "C": trial.suggest_float("svm.C", 1e-2, 1e3, log=True)}
    if kernel == "rbf":
        own["gamma"] = trial.suggest_categorical("svm.gamma", ["scale", 0.0001, 0.001, 0.01])
    return own | _class_weight(trial, "svm")


def _forest(trial: Trial, name: str) -> dict[str, Any]:
    return {
        "n_estimators": trial.suggest_int(f"{name}.n_estimators", 100, 500, step=100),
        "max_depth": trial.suggest_categorical(f"{name}.max_depth", [None, 5, 10, 20]),
        "min_samples_leaf": trial.suggest_int(f"{name}.min_samples_leaf", 1, 8),
        "max_features": trial.suggest_categorical(
            f"{name}.max_features", ["sqrt", "log2", 0.1, 0.3]
        ),
    } | _class_weight(trial, name)


def random_forest(trial: Trial) -> dict[str, Any]:
    """Bagged trees."""
    return _forest(trial, "random_forest")


def extra_trees(trial: Trial) -> dict[str, Any]:
    """Trees that split at random."""
    return _forest(trial, "extra_trees")


def knn(trial: Trial) -> dict[str, Any]:
    """Nearest neighbours."""
    return {
        "n_neighbors": trial.suggest_int("knn.n_neighbors", 1, 31, step=2),
        "weights": trial.suggest_categorical("knn.weights", ["distance", "uniform"]),
        "metric": trial.suggest_categorical("knn.metric", ["minkowski", "manhattan", "cosine"]),
    }


def logistic_regression(trial: Trial) -> dict[str, Any]:
    """The linear model."""
    c = trial.suggest_float("logistic_regression.C", 1e-4, 1e2, log=True)
    return {"C": c} | _class_weight(trial, "logistic_regression")


def gradient_boosting(trial: Trial) -> dict[str, Any]:
    """Boosted trees of histograms."""
    name = "gradient_boosting"
    return {
        "learning_rate": trial.suggest_float(f"{name}.learning_rate", 0.01, 0.3, log=True),
        "max_iter": trial.suggest_int(f"{name}.max_iter", 50, 300, step=50),
        "max_leaf_nodes": trial.suggest_int(f"{name}.max_leaf_nodes", 7, 63, log=True),
        "min_samples_leaf": trial.suggest_int(f"{name}.min_samples_leaf", 5, 40, log=True),
        "l2_regularization": trial.suggest_float(f"{name}.l2_regularization", 0.0, 10.0),
    }


def _class_weight(trial: Trial, name: str) -> dict[str, Any]:
    return {"class_weight": trial.suggest_categorical(f"{name}.class_weight", [None, "balanced"])}


CLASSICAL: dict[str, Callable[[Trial], dict[str, Any]]] = {
    "svm": svm,
    "random_forest": random_forest,
    "knn": knn,
    "logistic_regression": logistic_regression,
    "gradient_boosting": gradient_boosting,
    "extra_trees": extra_trees,
}

# The models' defaults in the names above: tried before anything else.
_PLAIN = {"dimensionality": "none", "scaling": "standard"}
_FOREST = {
    "n_estimators": 300, "max_depth": None, "min_samples_leaf": 2, "max_features": "sqrt",
    "class_weight": None,
}  # fmt: skip
_PCA = {"dimensionality": "pca", "scaling": "standard", "kept_variance": 0.95}
_CLASSICAL_DEFAULTS: dict[str, dict[str, Any]] = {
    "svm": {"kernel": "rbf", "C": 1.0, "gamma": "scale", "class_weight": None, **_PCA},
    "random_forest": {**_FOREST, **_PLAIN},
    "knn": {"n_neighbors": 9, "weights": "distance", "metric": "minkowski", **_PCA},
    "logistic_regression": {"C": 0.1, "class_weight": None, **_PLAIN},
    "gradient_boosting": {
        "learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 31, "min_samples_leaf": 20,
        "l2_regularization": 0.0, "dimensionality": "select", "scaling": "standard",
    },
    "extra_trees": {**_FOREST, **_PLAIN},
}  # fmt: skip

# The notebooks' grids: 18 + 12 + 24 settings. All other settings are those of their pipeline.
NOTEBOOK: dict[str, dict[str, Sequence[Any]]] = {
    "svm": {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"], "gamma": ["scale", 0.01, 0.001]},
    "random_forest": {
        "n_estimators": [200, 400],
        "max_depth": [None, 20, 40],
        "min_samples_split": [2, 5],
    },
    "knn": {
        "n_neighbors": [3, 5, 7, 9, 11, 15],
        "weights": ["uniform", "distance"],
        "metric": ["euclidean", "manhattan"],
    },
}


def classical(models: Sequence[str], families: Sequence[str]) -> Space:
    """The space of classical models.

    Args:
        models: names to choose from.
        families: feature families that there are: all of them, or one alone.
    """

    def space(trial: Trial) -> dict[str, Any]:
        model = trial.suggest_categorical("model", list(models))
        return {
            "model": model,
            "parameters": CLASSICAL[model](trial),
            **_preprocessing(trial, model),
            "families": _families(trial, model, families),
        }

    return space


def _preprocessing(trial: Trial, model: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "scaling": trial.suggest_categorical(f"{model}.scaling", ["standard", "robust", "none"]),
        "dimensionality": trial.suggest_categorical(
            f"{model}.dimensionality", ["none", "pca", "select"]
        ),
    }
    if found["dimensionality"] == "pca":
        found["kept_variance"] = trial.suggest_categorical(
            f"{model}.kept_variance", [0.8, 0.9, 0.95, 0.99]
        )
    return found


def _families(trial: Trial, model: str, families: Sequence[str]) -> list[str]:
    if len(families) == 1:
        return list(families)
    chosen = trial.suggest_categorical(f"{model}.families", ["all", *families])
    return list(families) if chosen == "all" else [chosen]


def classical_defaults(models: Sequence[str], families: Sequence[str]) -> list[dict[str, Any]]:
    """The default settings of ``jobs/train.py``, in the names of the space."""
    everything = {"families": "all"} if len(families) > 1 else {}
    return [
        {"model": name, **_named(name, _CLASSICAL_DEFAULTS[name] | everything)} for name in models
    ]


def _named(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{model}.{name}": value for name, value in values.items()}


def notebook(models: Sequence[str], families: Sequence[str]) -> Space:
    """The notebooks' grids, on their pipeline: standard scaling, PCA of 95 % of the variance."""

    def space(trial: Trial) -> dict[str, Any]:
        model = trial.suggest_categorical("model", list(models))
        own = {
            name: trial.suggest_categorical(f"{model}.{name}", list(values))
            for name, values in NOTEBOOK[model].items()
        }
        # The notebooks' forest has scikit-learn's leaves.
        plain = {"min_samples_leaf": 1} if model == "random_forest" else {}
        return {
            "model": model,
            "parameters": own | plain,
            "scaling": "standard",
            "dimensionality": "pca",
            "kept_variance": 0.95,
            "families": list(families),
        }

    return space


def notebook_grid(models: Sequence[str]) -> list[dict[str, Any]]:
    """Every point of the notebooks' grids, in the names of the space."""
    return [
        {"model": model, **_named(model, point)}
        for model in models
        for point in _grid(NOTEBOOK[model])
    ]


def _grid(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last name's values changing first."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


# Deep models


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The clips there are to learn from."""

    frames: int
    size_px: int


_STRENGTHS = {"none": 0.0, "light": 1.0, "strong": 2.0}  # Times the default.
_SPREAD = "spread"
_PARTS = ["all", "last_2_blocks", "last_1_block", "head"]


def augmentation(name: str) -> Augmentation:
    """``none``, ``light`` (the default) or ``strong``."""
    strength, plain = _STRENGTHS[name], Augmentation()
    if not strength:
        return Augmentation.none()
    return Augmentation(
        temporal_jitter=plain.temporal_jitter * strength,
        scale=(max(0.2, 1 - (1 - plain.scale[0]) * strength), 1.0),
        aspect=(plain.aspect[0] ** strength, plain.aspect[1] ** strength),
        rotation_degrees=plain.rotation_degrees * strength,
        brightness=plain.brightness * strength,
        contrast=plain.contrast * strength,
        saturation=plain.saturation * strength,
        hue_degrees=plain.hue_degrees * strength,
    )


def deep(
    models: Sequence[str],
    stored: Stored,
    *,
    pretrained: bool,
    fixed: Mapping[str, Any],
    rates: Mapping[str, float],
) -> Space:
    """The space of deep models.

    Args:
        models: names to choose from; a backbone alone (``resnet18``) is searched with every
            temporal pooling.
        stored: the clips: none longer or larger can be had of them.
        pretrained: whether training starts from weights, of which a part may be kept.
        fixed: settings the user has decided, by name: not searched.
        rates: the learning rate that each model has if none is given: a tenth to ten times of it.
    """

    def space(trial: Trial) -> dict[str, Any]:
        model = trial.suggest_categorical("model", list(models))
        asked: dict[str, Callable[[], Any]] = {
            "learning_rate": lambda: trial.suggest_float(
                f"{model}.learning_rate", rates[model] / 10, rates[model] * 10, log=True
            ),
            "weight_decay": lambda: trial.suggest_float(
                f"{model}.weight_decay", 1e-3, 0.2, log=True
            ),
            "schedule": lambda: trial.suggest_categorical(
                f"{model}.schedule", ["cosine", "step", "constant"]
            ),
            "label_smoothing": lambda: trial.suggest_float(f"{model}.label_smoothing", 0.0, 0.2),
            "batch_size": lambda: trial.suggest_categorical(f"{model}.batch_size", [8, 16, 32]),
            "head": lambda: trial.suggest_categorical(
                f"{model}.head", ["linear", "layernorm_dropout_linear"]
            ),
            "crop_px": lambda: trial.suggest_categorical(f"{model}.crop_px", _sizes(stored)),
            "frames": lambda: trial.suggest_categorical(f"{model}.frames", _lengths(stored)),
            "trained": lambda: trial.suggest_categorical(f"{model}.trained", _PARTS),
        }
        if not pretrained:  # Fresh weights: no layer is worth freezing.
            del asked["trained"]
        found = {name: ask() for name, ask in asked.items() if name not in fixed}
        if "stride" not in fixed:
            found["stride"] = _stride(
                trial, model, found.get("frames", fixed.get("frames")), stored
            )
        if "augmentation" not in fixed:
            strength = trial.suggest_categorical(f"{model}.augmentation", list(_STRENGTHS))
            found["augmentation"] = dataclasses.asdict(augmentation(strength))
        return {"model": _pooled(trial, model), **found}

    return space


def _pooled(trial: Trial, model: str) -> str:
    if model in DEEP:
        return model
    return f"{model}_{trial.suggest_categorical(f'{model}.pooling', list(POOLINGS))}"


def _lengths(stored: Stored) -> list[int]:
    """All stored frames, and half of them where that is still a clip."""
    return [stored.frames, stored.frames // 2] if stored.frames >= 8 else [stored.frames]


def _sizes(stored: Stored) -> list[int]:
    """The stored size, and two thirds of it, in steps of 16 px."""
    smaller = max(32, round(stored.size_px * 2 / 3 / 16) * 16)
    return [stored.size_px, smaller] if smaller < stored.size_px else [stored.size_px]


def _stride(trial: Trial, model: str, frames: int | None, stored: Stored) -> int | None:
    """Stored frames from one to the next; None: spread over all of them."""
    if frames is None or frames >= stored.frames:
        return None
    chosen = trial.suggest_categorical(f"{model}.stride", [_SPREAD, "1"])
    return None if chosen == _SPREAD else int(chosen)


def deep_defaults(
    models: Sequence[str],
    stored: Stored,
    *,
    pretrained: bool,
    fixed: Mapping[str, Any],
    rates: Mapping[str, float],
) -> list[dict[str, Any]]:
    """The default settings of ``jobs/train.py``, in the names of the space."""
    values: dict[str, Any] = {
        "learning_rate": None, "weight_decay": 0.05, "schedule": "cosine", "label_smoothing": 0.1,
        "batch_size": 16, "head": "linear", "crop_px": stored.size_px, "frames": stored.frames,
        "augmentation": "light", "stride": _SPREAD,
    }  # fmt: skip
    if pretrained:
        values["trained"] = "all"
    first = []
    for name in models:
        own = values | {"learning_rate": rates[name]} | ({} if name in DEEP else {"pooling": "avg"})
        free = {key: value for key, value in own.items() if key not in fixed}
        first.append({"model": name, **_named(name, free)})
    return first
