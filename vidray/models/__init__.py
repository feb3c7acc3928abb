"""Models of both families: built by name, loaded from a model folder, one ``predict``."""

from vidray.models.build import NAMES as DEEP
from vidray.models.build import build, build_model
from vidray.models.folder import ClassicalModel, DeepModel, Model, load

__all__ = ["DEEP", "ClassicalModel", "DeepModel", "Model", "build", "build_model", "load"]
