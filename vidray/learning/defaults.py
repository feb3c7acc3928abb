"""Defaults of a training that follow from what is trained: numbers for the settings left open.

A network of noise needs one rate everywhere. One with weights has a head that knows nothing and
layers that know much: a rate that teaches the head would destroy them. Whatever is given stays.

Steps to accuracy 1.0 with these numbers, and with those of before: docs/training.md, made by
``bench/finetune.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidray.errors import UserError
from vidray.learning.hyperparameters import Training

# Of AdamW from noise. timesformer_space at 1e-3 has a loss of 6.8 after two steps and knows 5 or 6
# of 8 clips after 100; at 1e-4 with clipping it knows all after 17 to 24, videomae_small after 19
# to 23. At 2e-4 or more, or without clipping, 27 of 28 trainings of both had not in 30 steps.
_RATE, _RATE_OF_TRANSFORMERS = 1e-3, 1e-4
# A data set of few clips has few steps in an epoch, and Adam's first ones are of full length: with
# 20 of warm-up instead of 1, s3d needs 4 to 11 steps for 8 clips (35 to 37), r3d_18 1 (28),
# timesformer_space 4 to 14, videomae_small 14. Weights need none: their gradients are small.
_WARMUP_STEPS = 20
# From weights the rate is the head's; layer decay makes it 1e-5 in the first of 12 blocks.
_RATE_OF_PRETRAINED_TRANSFORMERS = 3e-4
_BACKBONE_RATE = 0.1  # As is usual for convolutional networks: 1e-4 for the layers that know much.
_LAYER_DECAY = 0.75  # Of VideoMAE's fine-tuning (Tong et al. 2022), after BEiT.
_GRADIENT_NORM = 1.0
_DROP_PATH = 0.1  # VideoMAE's and TimeSformer's.
# Averages the last 1,000 steps of a long training, the last tenth of a short one (``average``).
_EMA = 0.999

# Settings that older trainings lack, as they behaved. Drop path was as the network was built.
_BEFORE = {
    "backbone_rate": 1.0, "layer_decay": 1.0, "ema": 0.0, "balanced_sampling": False,
    "warmup_steps": 0,
}  # fmt: skip
_FOLLOWED_BEFORE = {"learning_rate": 1e-3, "clip_gradient_norm": 0.0, "precision": "float32"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the defaults follow from; a fresh convolutional network if nothing is said."""

    name: str = "the network"
    is_pretrained: bool = False
    """Whether training starts from weights."""
    is_transformer: bool = False
    trains_backbone: bool = True
    """Whether more than the head is trained."""
    drop_path: float | None = None
    """Drop path of the network as it was published; None: it has no blocks that can be skipped."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The settings that follow from others, for one training."""

    learning_rate: float
    warmup_steps: int
    backbone_rate: float
    layer_decay: float
    clip_gradient_norm: float
    drop_path: float
    ema: float


def numbers(training: Training, facts: Facts | None = None) -> Numbers:
    """The numbers of a training: those given, and defaults for the others.

    Raises:
        UserError: one is given that has no effect on this network.
    """
    facts = facts or Facts()
    found = dataclasses.asdict(_defaults(facts))
    if training.warmup_epochs != Training.warmup_epochs:
        found["warmup_steps"] = 0  # Who gives epochs wants those.
    given = {name: getattr(training, name) for name in found}
    for name in ("backbone_rate", "layer_decay"):
        if not facts.trains_backbone and given[name] not in (None, 1.0):
            raise UserError(f"{name} has no effect where only the head is trained: leave it out")
    if given["drop_path"] and facts.drop_path is None and facts.name != Facts.name:
        raise UserError(
            f"drop_path is {given['drop_path']} and {facts.name} has no residual blocks of one "
            "width, which a clip could skip: leave it out"
        )
    return Numbers(**found | {name: value for name, value in given.items() if value is not None})


def resolved(training: Training, facts: Facts) -> Training:
    """The training with its numbers; its precision stays open until its device is known."""
    return dataclasses.replace(training, **dataclasses.asdict(numbers(training, facts)))


def _defaults(facts: Facts) -> Numbers:
    pretrained, transformer = facts.is_pretrained, facts.is_transformer
    tuned = pretrained and facts.trains_backbone
    rate = _RATE
    if transformer and facts.trains_backbone:
        rate = _RATE_OF_PRETRAINED_TRANSFORMERS if pretrained else _RATE_OF_TRANSFORMERS
    drop_path = facts.drop_path or 0.0
    if tuned and transformer and facts.drop_path is not None:
        drop_path = drop_path or _DROP_PATH
    return Numbers(
        learning_rate=rate,
        warmup_steps=0 if pretrained else _WARMUP_STEPS,
        backbone_rate=_BACKBONE_RATE if tuned and not transformer else 1.0,
        layer_decay=_LAYER_DECAY if tuned and transformer else 1.0,
        clip_gradient_norm=_GRADIENT_NORM if pretrained or transformer else 0.0,
        drop_path=drop_path,
        ema=_EMA if pretrained else 0.0,
    )


def without_open(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings for a digest, as a vidray that had fewer wrote them where they mean the same.

    So an unfinished run of default settings goes on. What is left open is as it was.
    """
    kept = {name: value for name, value in settings.items() if not _is_idle(name, value)}
    open_ones = [name for name in kept if kept[name] is None and name in _FOLLOWED_BEFORE]
    return kept | {name: _FOLLOWED_BEFORE[name] for name in open_ones}


def given_as_before(settings: dict[str, Any]) -> list[str]:
    """Settings given as what they were before they followed: for digests that must tell them."""
    return [name for name, old in _FOLLOWED_BEFORE.items() if settings.get(name) == old]


def completed(settings: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint; those it lacks as they were when it had none of them."""
    missing = {"drop_path": now["drop_path"], **_BEFORE}
    epochs, steps = now["warmup_epochs"], now["warmup_steps"]
    if round(epochs * now["steps_per_epoch"]) >= steps:
        missing["warmup_steps"] = steps  # They change nothing.
    return {**missing, **settings}


def _is_idle(name: str, value: Any) -> bool:
    if name == "warmup_steps":
        return value in (None, _WARMUP_STEPS)
    return name in (*_BEFORE, "drop_path") and value in (None, _BEFORE.get(name, 0.0))
