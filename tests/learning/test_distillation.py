"""What a teacher must be: of the same classes, of what the clips hold, and what it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.made_runs import clips_run
from vidray.errors import UserError
from vidray.evaluation import lesson_changes, teaching
from vidray.export import exporting
from vidray.export.settings import ExportSettings
from vidray.features.extraction import Settings
from vidray.learning.deep_job import DeepJob, make_job, model_info
from vidray.learning.distillation import (
    Distillation,
    DistillSettings,
    check_training,
    notes,
    plan,
)
from vidray.learning.examples import Examples, read_clips
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import Batch
from vidray.learning.teacher import Teacher
from vidray.learning.train_config import DeepSettings, Workers
from vidray.models.folder import load, save_deep
from vidray.models.model_files import read_info
from vidray.models.names import Runtime
from vidray.models.networks.build import build
from vidray.storage.json_file import write_json

CLASSES = ("jump", "run")
CPU = torch.device("cpu")
NETWORK = "x3d_s"


def job_of(examples: Examples) -> DeepJob:
    return make_job(
        NETWORK, examples, CLASSES, deep=DeepSettings(), training=Training(),
        augmentation=Augmentation(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(clips_run(tmp_path_factory.mktemp("data") / "clips", 16, frames=2, size_px=16))


@pytest.fixture(scope="module")
def examples(data: str) -> Examples:
    return read_clips(data)


def make_teacher(folder: Path, examples: Examples, *, seed: int = 0, **info: Any) -> str:
    """An untrained model of the clips' classes; ``info`` is otherwise in model.json."""
    job = job_of(examples)
    torch.manual_seed(seed)
    network = build(**job.network, weights="none").network
    values = json.loads(json.dumps(model_info(job, examples))) | info
    save_deep(str(folder), values, network.state_dict())
    return str(folder)


@pytest.fixture(scope="module")
def teacher(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "model", examples)


def planned(examples: Examples, teacher: str, **settings: Any) -> Distillation:
    asked = DistillSettings(teacher=teacher, **settings)
    return plan(asked, examples, CLASSES, out=f"{teacher}-taught")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"distill_temperature": 0.0}, "distill_temperature is 0.0"),
        ({"distill_temperature": float("nan")}, "distill_temperature is nan"),
        ({"distill_temperature": 1e9}, "100 or less"),
        ({"distill_share": 0.0}, "without a teacher leave --teacher out"),
        ({"distill_share": 1.01}, "distill_share is 1.01"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        DistillSettings(teacher="x", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{"distill_temperature": 2.0}, {"distill_share": 0.5}, {"unlabelled_data": "x"}]
)
def test_a_setting_without_a_teacher_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="has no effect without --teacher"):
        DistillSettings(**settings)


def test_a_plan_says_who_teaches_and_how(examples: Examples, teacher: str) -> None:
    found = planned(examples, teacher, distill_share=0.5, distill_temperature=3.0)
    assert (found.name, found.share, found.temperature) == (NETWORK, 0.5, 3.0)
    job = dataclasses.replace(job_of(examples), distillation=found)
    sent = DeepJob.from_json(json.loads(json.dumps(job.to_json())))
    assert sent.distillation == found
    assert "taught by x3d_s" in notes(found, examples)[0]
    info = json.loads(json.dumps(model_info(job, examples)))["distillation"]
    assert info == {
        "teacher": NETWORK, "teacher_digest": found.digest, "temperature": 3.0, "share": 0.5,
        "unlabelled_clips": 0,
    }  # fmt: skip


def test_every_setting_and_the_teacher_decide_the_model(
    examples: Examples, teacher: str, tmp_path: Path
) -> None:
    """A run of one is refused to another: so a resume with a changed teacher."""
    other = make_teacher(tmp_path / "other", examples, seed=1)
    plain = job_of(examples)
    taught = planned(examples, teacher)
    several = [
        None,
        taught,
        dataclasses.replace(taught, digest=planned(examples, other).digest),
        dataclasses.replace(taught, temperature=2.0),
        dataclasses.replace(taught, share=0.5),
        dataclasses.replace(taught, unlabelled="/x", rows=(1, 2), rows_digest="abc"),
        dataclasses.replace(taught, unlabelled="/x", rows=(1, 2), rows_digest="abd"),
    ]
    deciding = [dataclasses.replace(plain, distillation=one).deciding() for one in several]
    texts = [json.dumps(values, default=str) for values in deciding]
    assert len(set(texts)) == len(several)
    assert "distillation" not in deciding[0]  # So older trainings go on.
    assert "rows" not in deciding[-1]["distillation"]
    found = notes(dataclasses.replace(taught, unlabelled="/x", rows=(1, 2), left_out=3), examples)
    assert "and 2 without labels" in found[0]
    assert found[1].startswith("3 clips of --unlabelled-data are left out")


def test_a_teacher_that_changes_while_it_teaches_is_told(
    examples: Examples, tmp_path: Path
) -> None:
    folder = make_teacher(tmp_path / "teacher", examples)
    found = planned(examples, folder)
    Teacher.of(found, CLASSES, CPU)
    make_teacher(tmp_path / "teacher", examples, seed=1)
    with pytest.raises(UserError, match=r"is not .* any more: put back"):
        Teacher.of(found, CLASSES, CPU)


def answers(teacher: str, examples: Examples) -> torch.Tensor:
    """Probabilities of two clips, as a student of the classes ``CLASSES`` gets them."""
    assert examples.clips is not None
    clips = torch.from_numpy(examples.clips.read(np.arange(2)))
    batch = Batch(clips, torch.zeros(2), torch.zeros(2, 2), 2)
    found = Teacher.of(planned(examples, teacher), CLASSES, CPU)
    return found.logits(batch, [slice(0, 1), slice(1, 2)], CPU, "float32").softmax(dim=1)


def test_a_teacher_answers_as_its_folder_does_whatever_its_order_of_classes(
    examples: Examples, teacher: str, tmp_path: Path
) -> None:
    assert examples.clips is not None
    expected = torch.from_numpy(load(teacher).predict(examples.clips.read(np.arange(2))))
    torch.testing.assert_close(answers(teacher, examples), expected.float())
    turned = make_teacher(tmp_path / "turned", examples, class_names=CLASSES[::-1])
    torch.testing.assert_close(answers(turned, examples), expected.float()[:, [1, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_exported_teacher_answers_as_the_one_it_was_made_of(
    runtime: Runtime, examples: Examples, teacher: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "exported")
    exporting.export(teacher, out, ExportSettings(to=runtime), overwrite=False)
    torch.testing.assert_close(
        answers(out, examples), answers(teacher, examples), atol=1e-4, rtol=1e-4
    )


def other_classes(folder: Path, examples: Examples) -> str:
    return make_teacher(folder, examples, class_names=["jump", "walk"])


def classical(folder: Path, _: Examples) -> str:
    """Only its model.json: it is refused before more is read."""
    info = {
        "family": "classical",
        "name": "knn",
        "class_names": list(CLASSES),
        "families": ["motion"],
        "features": dataclasses.asdict(Settings(families=("motion",))),
    }
    write_json(str(folder / "model.json"), json.loads(json.dumps(info)))
    return str(folder)


def too_large(folder: Path, examples: Examples) -> str:
    pixels = model_info(job_of(examples), examples)["preprocessing"] | {"size_px": 32}
    return make_teacher(folder, examples, preprocessing=pixels)


def cut_short(folder: Path, examples: Examples) -> str:
    weights = Path(make_teacher(folder, examples)) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return str(folder)


def pickled(folder: Path, examples: Examples) -> str:
    weights = Path(make_teacher(folder, examples)) / "weights.safetensors"
    weights.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/never'\ntR.")
    return str(folder)


def hostile_info(folder: Path, examples: Examples) -> str:
    make_teacher(folder, examples)
    info = read_info(str(folder))
    write_json(str(folder / "model.json"), info | {"distillation": {"teacher": "../../x"}})
    return str(folder)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (other_classes, "'run', 'walk' are of one only: give a teacher of the same classes"),
        (classical, "a classical model, which is not asked about pixels"),
        (too_large, "takes 2 frames of 32 px"),
        (cut_short, "weights.safetensors"),
        (pickled, "weights.safetensors"),
        (hostile_info, "is not what a training writes"),
        (lambda folder, _: str(folder), "is not a model folder"),
    ],
)
def test_what_cannot_teach_is_told_in_a_line(
    make: Callable[[Path, Examples], str], told: str, examples: Examples, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        planned(examples, make(tmp_path / "teacher", examples))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_does_not_teach_itself(examples: Examples, teacher: str) -> None:
    with pytest.raises(UserError, match="are one folder"):
        plan(DistillSettings(teacher=teacher), examples, CLASSES, out=f"{teacher}/")


def test_classes_are_not_drawn_equally_where_some_clips_have_none() -> None:
    found = Distillation(teacher="/t", name="s3d", digest="a", temperature=1.0, share=1.0)
    training = Training(balanced_sampling=True)
    check_training(found, training)
    with pytest.raises(UserError, match="--balanced-sampling draws by class"):
        check_training(dataclasses.replace(found, unlabelled="/u", rows=(3,)), training)


def test_a_teacher_of_other_seconds_is_said(tmp_path: Path, examples: Examples) -> None:
    clip = model_info(job_of(examples), examples)["clip"] | {"clip_seconds": 1.5}
    found = planned(examples, make_teacher(tmp_path / "teacher", examples, clip=clip))
    assert "clips of 1.5 s and these are of a whole video" in notes(found, examples)[1]


@pytest.mark.slow
def test_a_taught_model_is_a_model_folder_and_clips_without_labels_count(
    data: str, teacher: str, tmp_path: Path
) -> None:
    """Through workers' own code, in this process, with what model.json and run.json say."""
    rows = [
        {"video_id": f"u{k}", "uri": f"/u/{k}", "fingerprint": f"u{k}", "label": None,
         "split": None, "group": None, "status": "ok"} for k in range(20)
    ]  # fmt: skip
    more = str(clips_run(tmp_path / "more", rows=rows, frames=2, size_px=16, unlabelled="keep"))
    asked = {
        "alone": None,
        "taught": DistillSettings(teacher=teacher),
        "with more": DistillSettings(teacher=teacher, unlabelled_data=more),
    }
    learnt: dict[str, dict[str, Any]] = {}
    for name, settings in asked.items():
        examples, out = read_clips(data), str(tmp_path / name)
        lesson = lesson_of(examples)
        if settings is not None:
            lesson = lesson_changes.with_teacher(lesson, settings, out=out)
        run = teaching.model_run(lesson, data=data, out=out)
        run.claim()
        run.finish(**lesson.teach(run).report)
        state = safetensors.torch.load_file(Path(out) / "weights.safetensors")
        learnt[name] = {"info": read_info(out), "weights": state}
        if settings is None:
            continue
        # Once more it is finished; with another temperature it is another training.
        assert teaching.model_run(lesson, data=data, out=out).claim() == "finished"
        hotter = dataclasses.replace(settings, distill_temperature=2.0)
        other = lesson_changes.with_teacher(lesson_of(examples), hotter, out=out)
        with pytest.raises(UserError, match="distillation"):
            teaching.model_run(other, data=data, out=out).claim()
    assert "distillation" not in learnt["alone"]["info"]
    assert learnt["taught"]["info"]["distillation"]["unlabelled_clips"] == 0
    assert learnt["with more"]["info"]["distillation"]["unlabelled_clips"] == 20
    weights = [each["weights"]["head.weight"] for each in learnt.values()]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def lesson_of(examples: Examples) -> teaching.DeepLesson:
    return teaching.DeepLesson(
        job=dataclasses.replace(job_of(examples), training=Training(epochs=1, learning_rate=1e-3)),
        examples=examples,
        workers=Workers(in_process=True),
        on_rows=lambda rows: None,
    )
