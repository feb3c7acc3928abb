"""A published classifier as a model folder: its classes, its frames and its colours. Nothing is
trained.

    weights ──> network with its last layer ──> classes, merged by a list of labels ──> model folder
    words ────> network, its last layer the texts' embeddings ──┘
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from vidray import masking, models, storage
from vidray.errors import UserError
from vidray.models import names, trained_on, words
from vidray.models.adopt_settings import AdoptSettings
from vidray.models.class_map import read_class_map
from vidray.models.folder import DeepModel, save_deep
from vidray.models.model_files import folder_of_weights, read_info
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build, check_name, merged
from vidray.models.networks.from_hub import resolved
from vidray.models.preprocess import Preprocessing
from vidray.models.weights import hub, published, reader
from vidray.models.weights.published import Published
from vidray.storage.json_file import write_json
from vidray.storage.text_file import read_text
from vidray.tables import digests, versions
from vidray.tables.run_folder import RunFolder
from vidray.video.clips import ClipSettings

_MOST_BYTES = 16 << 20
_IMAGE_FRAMES = 8  # Of weights of images, which say nothing of it.
_NAMED = {"kinetics400": "r3d_18", "imagenet1k": "resnet50_avg"}


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What a network is fed, and how videos are cut for that."""

    preprocessing: Preprocessing
    clip: ClipSettings
    shown: str
    """In one line."""


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A model with weights that somebody has published.

    Attributes:
        network: keyword arguments of ``models.build``, the weights left out.
        fed: how it was trained: what it is fed, and how videos are cut for that.
        origin: repository, commit and licence, as far as they are known.
    """

    built: Architecture
    network: Mapping[str, Any]
    class_names: tuple[str, ...]
    fed: Fed
    origin: Mapping[str, Any]

    def __str__(self) -> str:
        """Lines for people: what was taken, the licence, the classes, and how videos are cut."""
        licence = self.origin.get("licence") or "not stated: ask the authors of the weights"
        shown = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        lines = [
            self.built.loaded or "",
            f"licence of the weights: {licence}",
            f"{len(self.class_names)} classes: {shown}",
            f"fed as they were trained: {self.fed.shown}",
        ]
        return "\n".join(line for line in lines if line)


def adopt(model: str, out: str, settings: AdoptSettings, *, overwrite: bool = False) -> Adopted:
    """Write the model folder.

    Args:
        model: a deep model, or ``hf:`` and a repository or folder.
        out: the folder to write, local or in a bucket.
        overwrite: remove an earlier model from the folder first.

    Raises:
        UserError: the weights can't be had, have no last layer or no names for its classes, or
            nobody knows how they were trained; or the folder holds something else.
    """
    check_name(model)
    adopted = find(model, settings)
    info = _info(adopted, settings)
    folder = RunFolder(
        out=storage.canonical(out),
        kind="model",
        same={"digest": digests.of([masking.throughout(info), _digest(adopted.built.network)])},
        shown={"config": masking.throughout({"model": model, **dataclasses.asdict(settings)})},
        libraries=versions.DEEP,
    )
    if folder.claim(overwrite=overwrite) != "finished":
        save_deep(folder.out, info, adopted.built.network.state_dict())
        _try(folder.out)
        write_json(folder.path("metrics.json"), {"val": None})
        folder.finish(epochs=0)
    return adopted


def find(model: str, settings: AdoptSettings) -> Adopted:
    """The network with its weights and classes, as ``adopt`` writes it."""
    if settings.words is not None:
        found = _of_words(model, settings)
    else:
        found = _of_classes(model, settings)
    if settings.labels is None:
        return found
    class_names, merge = read_class_map(settings.labels).merged(found.class_names)
    return dataclasses.replace(
        found,
        built=merged(found.built, merge),
        network={**found.network, "num_classes": len(class_names), "merge": merge},
        class_names=class_names,
    )


def _of_words(model: str, settings: AdoptSettings) -> Adopted:
    if not names.is_hub(model):
        raise UserError(
            f"--words needs a model of texts and pictures, and {model} is none: give one such as "
            "hf:openai/clip-vit-base-patch32"
        )
    if settings.weights != "default":
        raise UserError("--weights has no effect with --words: name them by --model hf:...")
    assert settings.words is not None
    found = words.words_model(model, words.read_classes(settings.words))
    return Adopted(
        built=found.built,
        network=found.network,
        class_names=found.class_names,
        fed=_fed(model, settings, frames=found.network["frames"]),
        origin={**(found.built.source or {}), "prompts": found.prompts},
    )


def _of_classes(model: str, settings: AdoptSettings) -> Adopted:
    fed = _fed(model, settings)
    class_names, licence = class_names_of(model, settings)
    name, config, weights = resolved(model, settings.weights)
    network: dict[str, Any] = {
        "name": name,
        "num_classes": len(class_names),
        "frames": fed.preprocessing.num_frames,
        "size_px": fed.preprocessing.size_px,
    }
    if config is not None:
        network["config"] = config.as_json()
    built = build(**network, weights=weights, keep_head=True)
    if built.variant is not None:
        network["variant"] = built.variant
    if built.channels is not None:
        network["channels"] = built.channels
    origin = {"licence": licence, **(built.source or {})}
    return Adopted(built=built, network=network, class_names=class_names, fed=fed, origin=origin)


def _fed(model: str, settings: AdoptSettings, frames: int | None = None) -> Fed:
    """What the weights were fed when they were trained.

    Raises:
        UserError: nobody knows.
    """
    if (folder := folder_of_weights(settings.weights)) is not None:
        info = reader.info_of(folder, resolved(model, settings.weights)[0])
        clip = ClipSettings.from_json(info["clip"])
        return Fed(
            preprocessing=Preprocessing.from_json(info["preprocessing"]),
            clip=dataclasses.replace(clip, clips_per_video=settings.clips_per_video),
            shown=f"as the model folder {storage.without_secrets(settings.weights)}",
        )
    recipe = trained_on.recipe_of(model, settings.weights)
    if recipe is None:
        raise UserError(
            f"nothing says how {storage.without_secrets(settings.weights)} of {model} was trained, "
            "and fed otherwise it would guess: cut clips with jobs/clips.py as it was, and train "
            "its last layer with jobs/train.py --trained head"
        )
    recipe = dataclasses.replace(recipe, frames=frames or recipe.frames or _IMAGE_FRAMES)
    assert recipe.frames is not None
    return Fed(
        preprocessing=Preprocessing(
            num_frames=recipe.frames,
            size_px=recipe.crop_px,
            mean=recipe.mean,
            std=recipe.std,
            flow=model in names.FLOW_MODELS,
        ),
        clip=ClipSettings(**recipe.clip(), clips_per_video=settings.clips_per_video),
        shown=f"{recipe}; lacks {recipe.lacks}" if recipe.lacks else str(recipe),
    )


def class_names_of(model: str, settings: AdoptSettings) -> tuple[tuple[str, ...], str | None]:
    """The names of the classes that weights tell apart, and their licence where it is known.

    Raises:
        UserError: nobody knows the names, or the file of them is wrong.
    """
    weights = settings.weights
    brought: tuple[str, ...] | None = None
    licence: str | None = None
    if (folder := folder_of_weights(weights)) is not None:
        brought = tuple(read_info(folder)["class_names"])
    elif (found := _published(model, weights)) is not None:
        brought, licence = found.class_names or None, found.licence
    if settings.classes is not None:
        return _read_names(settings.classes), licence
    if brought is None:
        raise UserError(
            f"{storage.without_secrets(weights)} does not say what its classes are called: give "
            f"--classes FILE, a name a line, or --classes {' or '.join(_NAMED)}"
        )
    return brought, licence


def _published(model: str, weights: str) -> Published | None:
    """Published weights, where they are not a file of somebody's."""
    source = resolved(model, weights)[2]
    if names.is_hub(source):
        return published.of_hub(hub.find(source))
    return published.of_model(model) if weights == "default" else None


def _read_names(uri: str) -> tuple[str, ...]:
    if uri in _NAMED:
        found = published.of_model(_NAMED[uri])
        assert found is not None
        return found.class_names
    text = read_text(
        uri,
        most_bytes=_MOST_BYTES,
        give=f"give a text file, or {' or '.join(_NAMED)}",
        other="is no text in UTF-8: save it as UTF-8",
    )
    found_names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(set(found_names)) < len(found_names) or len(found_names) < 2:
        rule = "two names or more, a line each, and none twice"
        raise UserError(f"{storage.without_secrets(uri)} must have {rule}")
    return found_names


def _info(adopted: Adopted, settings: AdoptSettings) -> dict[str, Any]:
    """model.json of the model."""
    weights = storage.without_secrets(settings.weights)
    return {
        "family": "deep",
        "name": names.file_name(adopted.network["name"]),
        "origin": {**adopted.origin, "weights": None if "/" in weights else weights},
        "class_names": adopted.class_names,
        "network": adopted.network,
        "preprocessing": adopted.fed.preprocessing.to_json(),
        "clip": dataclasses.asdict(adopted.fed.clip),
    }


def _digest(network: nn.Module) -> str:
    """A digest of the weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _try(out: str) -> None:
    """Load the model as a job does, and show it black clips: what is wrong is said now."""
    model = models.load(out)
    assert isinstance(model, DeepModel)
    clip = model.clip
    model.predict(np.zeros((1, clip.frames_per_clip, clip.size_px, clip.size_px, 3), np.uint8))
