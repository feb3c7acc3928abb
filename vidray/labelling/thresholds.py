"""The second of two models of a label job: which it is, and from what probability on the first
model's label stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidray import flags, storage
from vidray.errors import UserError
from vidray.labelling.options import LabelOptions, TwoStages
from vidray.labelling.settings import Second, name_and_digest
from vidray.models import deferral, two_stages
from vidray.models.deferral import Threshold
from vidray.models.model_files import read_info

# Who would lose more does not ask for the dearer model at all.
_MOST_ADVISED = 0.2


def second_of(two: TwoStages, info: Mapping[str, Any], digest: str) -> Second | None:
    """The second model, checked against the first one, with its threshold; None if there is none.

    Args:
        info: model.json of the first one.
        digest: its own.

    Raises:
        UserError: the models do not fit each other, were not judged together, or were on too few
            videos to show that no more is lost than allowed.
    """
    if two.then is None:
        flags.refuse_unused(two, "one model, without --then")
        return None
    assert two.judged is not None
    name, dear_digest = name_and_digest(two.then)
    if dear_digest == digest:
        raise UserError(f"--then names the same model as --model, {name}: leave it out")
    check_classes(info, read_info(two.then))
    answers = two_stages.read(two.judged)
    if (answers.cheap, answers.dear) != (digest, dear_digest):
        raise UserError(
            f"{storage.without_secrets(two.judged)} judges the models {answers.cheap} then "
            f"{answers.dear}, and these are {digest} then {dear_digest}: judge these with "
            "jobs/evaluate.py --then"
        )
    found = answers.threshold(two.allow)
    if found.value is None:
        raise UserError(why_none(found, answers.least_allowed))
    print(
        f"{info['name']} keeps its label where it is {found.value:.3f} sure, as of "
        f"{found.share:.0%} of {found.num_videos} videos of val; {name} labels the rest"
    )
    return Second(
        model=storage.canonical(two.then), model_digest=dear_digest, threshold=found.value
    )


def why_none(found: Threshold, least: float) -> str:
    """Why there is no threshold, and for what loss there is one."""
    in_recordings = found.num_groups < found.num_videos
    counted = f"{found.num_videos} videos"
    counted += f" of {found.num_groups} recordings" if in_recordings else ""
    fewest = deferral.fewest_videos(found.allow, recordings=in_recordings)
    unit = "recordings" if in_recordings else "videos"
    more = f"--allow {least:g}, or " if least <= _MOST_ADVISED else ""
    return (
        f"{counted} of val do not show of any of the first model's labels that keeping them loses "
        f"at most {found.allow:g}, which takes {fewest} {unit} at least: give {more}more of them "
        "to jobs/evaluate.py, or label with the model of --then alone"
    )


def check_classes(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Raise UserError unless two models, by their model.json, have the same classes in order."""
    ours, theirs = first["class_names"], second["class_names"]
    if ours == theirs:
        return
    differing = sorted(set(ours) ^ set(theirs))
    how = f"only one knows {differing[0]!r}" if differing else "their order differs"
    raise UserError(
        f"{first['name']} has {len(ours)} classes and {second['name']} {len(theirs)}, and {how}: "
        "both must be trained on the same classes"
    )


def check_options(options: LabelOptions) -> None:
    """Raise UserError for options by which the models would look at other clips than in judging, or
    answer by other numbers.
    """
    plain = LabelOptions()
    for name in ("clips_per_video", "crops"):
        if getattr(options, name) != getattr(plain, name):
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} changes what the models look at, and the threshold of --then was chosen "
                "without: leave it out"
            )
    if options.precision != plain.precision:
        raise UserError(
            f"--precision {options.precision} changes probabilities, and the threshold of --then "
            "was chosen of float32: leave it out, or judge and label with networks that "
            f"jobs/export.py --to torch --precision {options.precision} has made"
        )
    if options.embedding:
        raise UserError("--embedding stores those of one model: leave it, or --then, out")
