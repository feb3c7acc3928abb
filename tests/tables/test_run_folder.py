"""The folder that a job fills: claimed, gone on with, refused, overwritten, finished."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vidray import storage
from vidray.errors import UserError
from vidray.storage import join
from vidray.tables import versions
from vidray.tables.run_folder import OWNED, Kind, RunFolder

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


@pytest.mark.slow
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


# Every kind in every state

KINDS: tuple[Kind, ...] = (
    "features", "clips", "label", "model", "evaluation", "study", "search",
)  # fmt: skip
OF_TABLES = ("features", "clips")
# Kinds that go on, or start again, whatever the settings were.
OF_ANY_SETTINGS = ("label", "evaluation")


def folder_of(kind: Kind, out: str, seed: int = 1) -> RunFolder:
    """As the jobs make them; another seed stands for other settings."""
    config = {"config": {"seed": seed}}
    if kind in OF_TABLES:
        same = {"table": kind, "videos": "/v", "digest": f"d{seed}"}
        return RunFolder(out=out, kind=kind, same=same, shown=config)
    if kind == "model":
        return RunFolder(out=out, kind=kind, same={"digest": f"d{seed}"}, shown=config)
    if kind in ("study", "search"):
        return RunFolder(out=out, kind=kind, settings={"seed": seed}, shown={"asked": {}})
    return RunFolder(out=out, kind=kind, shown=config)


def work(folder: RunFolder) -> None:
    """Every name that the job leaves, as a file or as a folder."""
    for name in OWNED[folder.kind]:
        storage.write_bytes(folder.path(name if "." in name else f"{name}/set=x"), b"ours")


def unfinished(folder: RunFolder) -> None:
    folder.claim()
    work(folder)


def finished(folder: RunFolder) -> None:
    unfinished(folder)
    folder.finish(counts={"videos": 1})


def without_kind(folder: RunFolder, make: Callable[[RunFolder], None]) -> None:
    """As vidray left it until November 2026: tables told no kind, labels no run.json at first."""
    make(folder)
    if folder.kind == "label":
        storage.remove_tree(folder.path("run.json"), inside=folder.out)
    else:
        values = json.loads(storage.read_bytes(folder.path("run.json")))
        del values["kind"]
        storage.write_bytes(folder.path("run.json"), json.dumps(values).encode())


def half_overwritten(folder: RunFolder) -> None:
    """Killed after the first file of an old run was removed."""
    finished(folder_of(folder.kind, folder.out, seed=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "_remove_owned", lambda _: None)
        folder.overwrite()
    storage.remove_tree(folder.path(OWNED[folder.kind][0]), inside=folder.out)


# A study where a model is wanted, a model where a study is.
OTHER: dict[Kind, Kind] = {"model": "study", "study": "model", "clips": "features"}

STATES: dict[str, Callable[[Kind, str], None]] = {
    "empty": lambda kind, out: None,
    "unfinished": lambda kind, out: unfinished(folder_of(kind, out)),
    "unfinished, other settings": lambda kind, out: unfinished(folder_of(kind, out, 2)),
    "finished": lambda kind, out: finished(folder_of(kind, out)),
    "finished, other settings": lambda kind, out: finished(folder_of(kind, out, 2)),
    "half overwritten": lambda kind, out: half_overwritten(folder_of(kind, out)),
    "another kind": lambda kind, out: finished(folder_of(OTHER.get(kind, "clips"), out)),
    "a stranger's": lambda kind, out: storage.write_bytes(join(out, OWNED[kind][0]), b"mine"),
    "unfinished, no kind": lambda kind, out: without_kind(folder_of(kind, out), unfinished),
    "finished, no kind": lambda kind, out: without_kind(folder_of(kind, out), finished),
}


def expected(kind: Kind, state: str, overwrite: bool) -> str:
    """What claiming says: the state that it goes on from, or the end of the refusal."""
    if state == "another kind":
        noun = {"label": "labels", "features": "features", "clips": "clips"}.get(
            kind, f"an? {kind}"
        )
        return f"holds .*, not {noun}: choose another --out"
    if state == "a stranger's":
        return f"holds {'a model' if kind == 'model' else OWNED[kind][0]} but no run.json: choose"
    if "no kind" in state and kind not in (*OF_TABLES, "label"):
        return f"holds a run.json that no job of vidray wrote, not an? {kind}: choose another --out"
    if overwrite or state in ("empty", "half overwritten"):
        return "free"
    if "no kind" in state and kind == "label":
        return "free"
    how = state.split(",", maxsplit=1)[0]
    if "other settings" in state and kind not in OF_ANY_SETTINGS:
        return f"{how} .* of other settings .seed: 2 -> 1.: choose another --out, or give --overw"
    return "finished" if how == "finished" else "running"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_every_state(tmp_path: Path, kind: Kind) -> None:
    for state in STATES:
        for overwrite in (False, True):
            _check(str(tmp_path / f"{state} {overwrite}"), kind, state, overwrite)


@pytest.mark.slow  # Each takes some hundred requests; the kinds that are left out differ in names.
@pytest.mark.parametrize("kind", ["features", "label", "study"])
def test_every_state_in_a_bucket(s3_bucket: str, kind: Kind) -> None:
    for number, state in enumerate(STATES):
        _check(join(s3_bucket, str(number)), kind, state, state == "unfinished")


def _check(out: str, kind: Kind, state: str, overwrite: bool) -> None:
    STATES[state](kind, out)
    told = expected(kind, state, overwrite)
    if told in ("free", "running", "finished"):
        keeps = told != "free" or (kind == "label" and "kind" in state and not overwrite)
        _check_claimed(folder_of(kind, out), overwrite, told, keeps=keeps)
    else:
        _check_refused(folder_of(kind, out), overwrite, told)


def _check_refused(folder: RunFolder, overwrite: bool, told: str) -> None:
    before = contents(folder.out)
    for act in (folder.check, folder.start, partial(folder.claim, overwrite=overwrite)):
        with pytest.raises(UserError, match=told) as caught:
            act()
        assert "\n" not in str(caught.value)
    assert contents(folder.out) == before


def _check_claimed(folder: RunFolder, overwrite: bool, told: str, *, keeps: bool) -> None:
    before = contents(folder.out)
    if "run.json" in before:
        storage.write_bytes(folder.path("notes.txt"), b"mine")
    notes = {"notes.txt": b"mine"} if before.get("run.json") else {}
    assert folder.claim(overwrite=overwrite) == told
    after = contents(folder.out)
    assert notes.items() <= after.items()
    if keeps:
        assert before.keys() - {"_SUCCESS"} <= after.keys()
    else:
        assert after.keys() == {"run.json", *notes}
    values = json.loads(after["run.json"])
    assert values.get("kind", folder.kind) == folder.kind
    is_left = told == "finished" and folder.kind not in ("study", "search")
    assert values["state"] == ("finished" if is_left else "running")
    assert ("_SUCCESS" in after) == (is_left and folder.kind != "label")

    work(folder)
    folder.finish(counts={"videos": 2})
    end = contents(folder.out)
    assert ("_SUCCESS" in end) == (folder.kind != "label")
    assert json.loads(end["run.json"])["state"] == "finished"
    assert not any(name.startswith(("_work/", "_checkpoints/")) for name in end)
    assert folder.claim() == "finished"


# What run.json held until November 2026.
_OLD: dict[Kind, dict[str, Any]] = {
    "features": {"table": "features", "videos": "/v", "digest": "d1", "config": {"seed": 1}},
    "clips": {"table": "clips", "videos": "/v", "digest": "d1", "config": {"seed": 1}},
    "label": {"kind": "label", "set": "m-1", "config": {"seed": 5}},
    "model": {"kind": "model", "digest": "d1", "config": {"seed": 1}},
    "evaluation": {"kind": "evaluation", "config": {"seed": 5}},
    "study": {"kind": "study", "settings": {"seed": 1, "clips": "c"}, "asked": {"folds": 3}},
    "search": {"kind": "search", "settings": {"seed": 1}, "asked": {"trials": 3}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["running", "finished"])
def test_a_folder_of_an_older_vidray_is_gone_on_with(
    tmp_path: Path, kind: Kind, state: str
) -> None:
    place = str(tmp_path)
    folder = folder_of(kind, place)
    values = {"state": state, **_OLD[kind], "versions": versions.of(())}
    storage.write_bytes(folder.path("run.json"), json.dumps(values).encode())
    work(folder)
    before = contents(place)
    assert folder.claim() == state
    assert before.keys() <= contents(place).keys() | {f"{name}/set=x" for name in OWNED[kind]}
    if kind in ("study", "search"):
        assert folder.settings == _OLD[kind]["settings"]
    with pytest.raises(UserError, match="choose another --out"):
        folder_of(OTHER.get(kind, "clips"), place).claim(overwrite=True)


# Kills, links, and other processes


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_overwriting_that_is_killed_is_ended_by_the_next_run(tmp_path: Path, kind: Kind) -> None:
    """A model whose files were half removed was taken for finished."""
    remove = storage.remove_tree
    for calls in range(len(OWNED[kind]) + 2):
        folder = folder_of(kind, str(tmp_path / str(calls)))
        finished(folder)
        left = calls

        def dies(uri: str, *, inside: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            remove(uri, inside=inside)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "remove_tree", dies)
            try:
                folder.overwrite()
            except KeyboardInterrupt:
                assert calls < len(OWNED[kind]) + 2
        whole = {name for name in OWNED[kind] if storage.exists(folder.path(name))}
        state = folder.claim()
        kept = {name for name in OWNED[kind] if storage.exists(folder.path(name))}
        assert kept == (whole if state == "finished" else set()), calls
        assert (state == "finished") == (calls == 0), calls


def test_a_link_is_removed_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "keep.txt").write_text("mine")
    for kind in KINDS:
        folder = folder_of(kind, str(tmp_path / kind))
        folder.claim()
        for name in OWNED[kind]:
            Path(folder.path(name)).symlink_to(victim)
        before = (tmp_path / kind / "run.json").read_bytes()
        (victim / f"{kind}.json").write_bytes(before)
        (tmp_path / kind / "run.json").unlink()
        (tmp_path / kind / "run.json").symlink_to(victim / f"{kind}.json")
        assert folder.claim(overwrite=True) == "free"
        folder.finish()
        assert (victim / "keep.txt").read_text() == "mine"
        assert (victim / f"{kind}.json").read_bytes() == before
        (tmp_path / kind / "run.json").unlink()
        (tmp_path / kind / "run.json").symlink_to(tmp_path / "nowhere")
        with pytest.raises(UserError, match=r"run\.json is damaged \(it is a link to nothing\)"):
            folder.claim(overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["features", "label", "study"])
def test_of_many_starts_at_once_one_has_the_folder(place: str, kind: Kind) -> None:
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: folder_of(kind, join(place, "a")).claim(), range(8)))
        assert sorted(same) == ["free", *["running"] * 7]
        out = join(place, "b")
        starts = [pool.submit(folder_of(kind, out, seed).claim) for seed in range(8)]
    told = [str(start.exception() or start.result()) for start in starts]
    assert told.count("free") == 1
    others = "running" if kind in OF_ANY_SETTINGS else "other settings"
    assert sum(others in one for one in told) == 7


def contents(out: str) -> dict[str, bytes]:
    files = storage.list_files(out, hidden=True)
    return {info.uri.removeprefix(out + "/"): storage.read_bytes(info.uri) for info in files}
