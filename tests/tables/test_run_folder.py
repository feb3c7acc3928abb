"""The folder that a job fills: claimed, gone on with, refused, overwritten, finished."""

import json
from typing import Any

import pytest

from vidray import storage
from vidray.errors import UserError
from vidray.storage import join
from vidray.tables.run_folder import RunFolder

CHECKPOINTS = "_checkpoints"

CONFIG = {
    "data": "runs/clips",
    "class_names": ("a", "b"),  # JSON gives a list back: no difference to tell of
    "training": {"epochs": 30, "batch_size": 16},
}


def run_of(place: str, digest: str = "one", **changed: Any) -> RunFolder:
    return RunFolder(
        out=join(place, "model"),
        kind="model",
        same={"digest": digest},
        shown={"config": {**CONFIG, **changed}},
    )


def read(run: RunFolder) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(storage.read_bytes(join(run.out, "run.json")))
    return values


def files_of(run: RunFolder) -> list[str]:
    files = storage.list_files(run.out, hidden=True)
    return sorted(info.uri.removeprefix(run.out + "/") for info in files)


def leave(run: RunFolder, *names: str) -> None:
    for name in names:
        storage.write_bytes(join(run.out, name), b"{}")


def test_a_new_folder_is_claimed_and_finished(place: str) -> None:
    run = run_of(place)
    assert run.claim() == "free"
    assert files_of(run) == ["run.json"]
    before = read(run)
    assert (before["kind"], before["state"], before["digest"]) == ("model", "running", "one")
    assert before["config"] == {**CONFIG, "class_names": ["a", "b"]}
    assert before["versions"]["vidray"]

    leave(run, "model.json", "weights.safetensors", f"{CHECKPOINTS}/run/checkpoint_1/a")
    run.finish(seconds={"training": 1.5})
    assert files_of(run) == ["_SUCCESS", "model.json", "run.json", "weights.safetensors"]
    assert read(run) == {**before, "state": "finished", "seconds": {"training": 1.5}}


def test_a_finished_training_is_not_done_again(place: str) -> None:
    run = run_of(place)
    run.claim()
    run.finish(epochs=3)
    assert run_of(place).claim() == "finished"
    assert read(run)["state"] == "finished"
    assert read(run)["epochs"] == 3


def test_a_killed_training_is_taken_up_with_its_checkpoints(place: str) -> None:
    run = run_of(place)
    run.claim()
    checkpoint = f"{CHECKPOINTS}/run/checkpoint_1/a"
    leave(run, checkpoint, "model.json")
    assert run_of(place).claim() == "running"
    assert checkpoint in files_of(run)
    assert read(run)["state"] == "running"


def test_a_kill_just_before_the_end_costs_nothing(place: str) -> None:
    run = run_of(place)
    run.claim()
    leave(run, f"{CHECKPOINTS}/run/a")
    run.finish(epochs=3)
    storage.remove_tree(join(run.out, "_SUCCESS"), inside=run.out)
    leave(run, f"{CHECKPOINTS}/run/a")
    assert run_of(place).claim() == "finished"
    assert files_of(run) == ["_SUCCESS", "run.json"]
    assert read(run)["epochs"] == 3


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_and_named(place: str, finished: bool) -> None:
    run = run_of(place)
    run.claim()
    leave(run, "model.json")
    if finished:
        run.finish()
    before = files_of(run), read(run)
    other = run_of(place, "two", data="runs/others", training={"epochs": 5, "batch_size": 16})
    with pytest.raises(UserError) as caught:
        other.claim()
    state = "a finished" if finished else "an unfinished"
    assert str(caught.value) == (
        f"{run.out} holds {state} model of other settings (data: runs/clips -> runs/others; "
        "training.epochs: 30 -> 5): choose another --out, or give --overwrite to start afresh"
    )
    assert (files_of(run), read(run)) == before


def test_other_data_behind_the_same_settings_are_refused(place: str) -> None:
    run_of(place).claim()
    with pytest.raises(UserError, match=r"other settings .the data or vidray has changed."):
        run_of(place, "two").claim()


def test_starting_afresh_removes_what_training_wrote_and_nothing_else(place: str) -> None:
    run = run_of(place)
    run.claim()
    ours = ("model.json", "weights.safetensors", "metrics.json", "history.json", "curve.png")
    more = ("pipeline.skops", "importance.json", "tensorboard/events", f"{CHECKPOINTS}/run/a")
    foreign = ("notes.txt", "photos/model.json", "evaluation/metrics.json")
    leave(run, *ours, *more, *foreign)
    run.finish()
    assert run_of(place, "two").claim(overwrite=True) == "free"
    assert files_of(run) == sorted((*foreign, "run.json"))
    assert (read(run)["state"], read(run)["digest"]) == ("running", "two")


def test_afresh_in_an_empty_folder_is_as_new(place: str) -> None:
    run = run_of(place)
    assert run.claim(overwrite=True) == "free"
    assert files_of(run) == ["run.json"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"table": "features", "digest": "one"}', "holds features, not a model: choose another"),
        ('{"kind": "study"}', "holds a study, not a model: choose another --out"),
        ('{"kind": "model", "table": "clips"}', "holds a run.json that no job of vidray wrote"),
        ('{"name": "package"}', "holds a run.json that no job of vidray wrote, not a model"),
        *(
            (text, r"run\.json is damaged .*: put back what was there, or move it away")
            for text in ("[1]", "no JSON", '"model"', "")
        ),
    ],
)
def test_anothers_run_is_refused_and_left_alone(
    place: str, overwrite: bool, content: str, told: str
) -> None:
    run = run_of(place)
    storage.write_bytes(join(run.out, "run.json"), content.encode())
    leave(run, "_SUCCESS", "model.json", "features/part-00000.parquet")
    before = files_of(run)
    with pytest.raises(UserError, match=told):
        run.claim(overwrite=overwrite)
    assert files_of(run) == before
    assert storage.read_bytes(join(run.out, "run.json")) == content.encode()


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_model_without_its_run_is_not_overwritten(place: str, overwrite: bool) -> None:
    run = run_of(place)
    leave(run, "model.json")
    with pytest.raises(UserError, match=r"holds a model but no run\.json: choose another --out"):
        run.claim(overwrite=overwrite)
    assert files_of(run) == ["model.json"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_is_no_folder(place: str, overwrite: bool) -> None:
    run = run_of(place)
    storage.write_bytes(run.out, b"mine")
    with pytest.raises(UserError, match="is a file: --out must name a folder"):
        run.claim(overwrite=overwrite)
    assert storage.read_bytes(run.out) == b"mine"
