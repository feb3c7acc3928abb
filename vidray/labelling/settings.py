"""The settings that decide a label. No Ray here, and no PyTorch.

``labeller`` makes them, ``commits`` keeps them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from vidray import flags, storage
from vidray.errors import UserError
from vidray.labelling.commits import list_sets, read_labels
from vidray.labelling.options import LabelOptions, LabelPrecision
from vidray.models.exported.description import is_graph, runtime_of
from vidray.models.model_files import digest_of_both, embeds, name_and_digest, read_info
from vidray.tables import digests, schema, versions
from vidray.video.decode import Limits

__all__ = [
    "LabelOptions",
    "LabelPrecision",
    "LabelSettings",
    "list_sets",
    "name_and_digest",
    "read_labels",
]  # fmt: skip

# Raised whenever the same file, model and settings give another label than before.
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Second:
    """The dearer model of two, and of which videos it is asked.

    Attributes:
        model, model_digest: as of ``LabelSettings``.
        threshold: the first model's label stays where its probability is as high.
    """

    model: str
    model_digest: str
    threshold: float


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """All settings that decide the label of a video.

    Attributes:
        model: its folder, local or in a bucket.
        model_digest: ``name_and_digest`` when the job began.
        options: as the command line gives them.
        then: the second model, if there are two.
    """

    TARGET: ClassVar[str] = "vidray.labelling.stages:label_videos"
    PREDICTOR: ClassVar[str] = "vidray.labelling.predictor:answer_questions"

    model: str
    model_digest: str
    options: LabelOptions = dataclasses.field(default_factory=LabelOptions)
    then: Second | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LabelSettings:
        """The settings from the JSON of ``dataclasses.asdict``."""
        given, then = values["options"], values.get("then")
        options = LabelOptions(**{**given, "limits": Limits(**given["limits"])})
        second = None if then is None else Second(**then)
        return cls(**{**values, "options": options, "then": second})

    @property
    def first(self) -> LabelSettings:
        """The settings of the first model, alone."""
        return dataclasses.replace(self, then=None)

    @property
    def asked(self) -> LabelSettings:
        """The settings of the model whose network a process of its own may hold: the dearer one of
        two.
        """
        if self.then is None:
            return self
        second = self.then
        return LabelSettings(
            model=second.model, model_digest=second.model_digest, options=self.options
        )

    @property
    def labelled_by(self) -> str:
        """The digest of the model, or of both."""
        if self.then is None:
            return self.model_digest
        return digest_of_both(self.model_digest, self.then.model_digest)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when a label may. The model may move, and a cap changes
        none: it decides whether there is one.
        """
        values = {**dataclasses.asdict(self.options), "model_digest": self.model_digest}
        del values["limits"]
        if self.then is not None:
            values["then"] = [self.then.model_digest, self.then.threshold]
        return digests.of([_VERSION, values])

    @property
    def schema(self) -> pa.Schema:
        """The schema of LABELS before the commit."""
        return schema.LABELLED

    def libraries(
        self, info: Mapping[str, Any], network_info: Mapping[str, Any] | None
    ) -> tuple[str, ...]:
        """The libraries that decide the label of a model.

        Args:
            info: its model.json.
            network_info: that of its network, if it has one.
        """
        is_deep = info["family"] == "deep"
        own = () if is_deep else (*versions.FEATURES, *versions.CLASSICAL)
        network = () if network_info is None else versions.running(runtime_of(network_info))
        resizer = info["clip"].get("resizer") if is_deep else None
        decoding = versions.chosen(decoder=self.options.decoder, resizer=resizer)
        return (*versions.DECODING, *own, *network, *decoding)


def check_model(options: LabelOptions, info: Mapping[str, Any]) -> None:
    """Raise UserError where a model cannot do what ``options`` ask for.

    Args:
        info: its model.json.
    """
    name, is_deep = info["name"], info["family"] == "deep"
    if options.crops > 1 and not (is_deep and info["clip"]["fit"] != "squash"):
        raise UserError(
            f"crops is {options.crops}, and {name} has learnt from whole pictures: "
            "leave it at 1, or train on clips of --fit crop or resize_crop"
        )
    if options.compile and leaves_early(info) and not options.embedding:
        raise UserError(
            f"compile is of whole networks, and clips leave {name} at early exits: leave --compile "
            "out"
        )
    if not is_deep:
        # It describes a video, whole, as those it learnt from were.
        flags.refuse_unused(options, f"{name}, a classical model", but=("crops", "limits"))


def leaves_early(info: Mapping[str, Any]) -> bool:
    """Whether clips may leave a model's network at early exits.

    Args:
        info: its model.json, checked.
    """
    is_deep = info["family"] == "deep"
    return is_deep and "exits" in info and info["exits"]["threshold"]["value"] is not None


def check_runtimes(options: LabelOptions, networks: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError for options of PyTorch's, where other runtimes run all networks.

    Args:
        networks: their model.json.
    """
    if not networks or not all(map(is_graph, networks)):
        return
    info = networks[-1]
    exported = info["exported"]
    flags.refuse_unused(
        options,
        f"{info['name']}, which was exported to {exported['to']} in {exported['precision']}",
        but={field.name for field in dataclasses.fields(options)} - {"precision", "compile"},
    )


def network_options(settings: LabelSettings) -> LabelSettings:
    """The settings by which a model's network answers: those of its embeddings, if it is the one
    that a classical model carries.
    """
    info = read_info(settings.model)
    if not embeds(info):
        return settings
    precision = info["features"]["embedding"]["precision"]
    return dataclasses.replace(settings, options=LabelOptions(embedding=True, precision=precision))


def check_unchanged(settings: LabelSettings) -> None:
    """Raise UserError unless the model folder is the one the job began with."""
    if name_and_digest(settings.model)[1] != settings.model_digest:
        where = storage.without_secrets(settings.model)
        raise UserError(f"{where} has changed since the job began: start the job again")
