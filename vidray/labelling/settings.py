"""The settings that decide a label. No Ray here, and no PyTorch.

``labeller`` makes them, ``commits`` keeps them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from vidray import flags, storage
from vidray.errors import UserError, VideoError
from vidray.labelling.commits import list_sets, read_labels
from vidray.labelling.options import LabelOptions, LabelPrecision
from vidray.models.model_files import read_info
from vidray.tables import digests, schema, versions
from vidray.tables.run_folder import MODEL, PIPELINE, WEIGHTS
from vidray.video.decode import Limits

__all__ = [
    "LabelOptions",
    "LabelPrecision",
    "LabelSettings",
    "list_sets",
    "name_and_digest",
    "read_labels",
]  # fmt: skip

_PIECE_BYTES = 4 << 20

# Raised whenever the same file, model and settings give another label than before.
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """All settings that decide the label of a video.

    Attributes:
        model: its folder, local or in a bucket.
        model_digest: ``name_and_digest`` when the job began.
        options: as the command line gives them.
    """

    TARGET: ClassVar[str] = "vidray.labelling.labeller:label_videos"
    PREDICTOR: ClassVar[str] = "vidray.labelling.predictor:answer_questions"

    model: str
    model_digest: str
    options: LabelOptions = dataclasses.field(default_factory=LabelOptions)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LabelSettings:
        """The settings from the JSON of ``dataclasses.asdict``."""
        given = values["options"]
        options = LabelOptions(**{**given, "limits": Limits(**given["limits"])})
        return cls(**{**values, "options": options})

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when a label may. The model may move, and a cap changes
        none: it decides whether there is one.
        """
        values = {**dataclasses.asdict(self.options), "model_digest": self.model_digest}
        del values["limits"]
        return digests.of([_VERSION, values])

    @property
    def schema(self) -> pa.Schema:
        """The schema of LABELS before the commit."""
        return schema.LABELLED

    def libraries(self, kind: str) -> tuple[str, ...]:
        """The libraries that decide the label of a model of this kind."""
        own = versions.DEEP if kind == "deep" else (*versions.FEATURES, *versions.CLASSICAL)
        return (*versions.DECODING, *own, *versions.chosen(decoder=self.options.decoder))


def name_and_digest(model_dir: str) -> tuple[str, str]:
    """A model's name, and twelve hex digits that change when its answers may.

    Raises:
        UserError: not a model folder.
    """
    info = read_info(model_dir)
    digest = hashlib.sha256()
    for file in (MODEL, WEIGHTS, PIPELINE):
        where = storage.join(storage.canonical(model_dir), file)
        try:
            size_bytes = storage.file_info(where).size_bytes
            digest.update(f"{file} {size_bytes}\n".encode())
            # In pieces: the file's maker decides its size.
            with storage.open_binary(where, size_bytes=size_bytes) as opened:
                while piece := opened.read(_PIECE_BYTES):
                    digest.update(piece)
        except VideoError as error:
            if error.kind == "missing":
                continue  # A model has weights or a pipeline.
            problem = f"{storage.without_secrets(where)} cannot be read: {error.message}"
            raise UserError(f"{problem}; fix it, or name another model folder") from error
    return str(info["name"]), digest.hexdigest()[:12]


def check_model(options: LabelOptions, info: Mapping[str, Any]) -> None:
    """Raise UserError where a model cannot do what ``options`` ask for.

    Args:
        info: its model.json.
    """
    name, is_deep = info["name"], info["family"] == "deep"
    if options.crops > 1 and not (is_deep and info["clip"]["fit"] == "crop"):
        raise UserError(
            f"crops is {options.crops}, and {name} has learnt from whole pictures: "
            "leave it at 1, or train on clips of --fit crop"
        )
    if not is_deep:
        # It describes a video, whole, as those it learnt from were.
        flags.refuse_unused(options, f"{name}, a classical model", but=("crops", "limits"))


def check_unchanged(settings: LabelSettings) -> None:
    """Raise UserError unless the model folder is the one the job began with."""
    if name_and_digest(settings.model)[1] != settings.model_digest:
        where = storage.without_secrets(settings.model)
        raise UserError(f"{where} has changed since the job began: start the job again")
