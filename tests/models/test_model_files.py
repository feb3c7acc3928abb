"""model.json is input: whatever is in it, it is right or refused in one line, and opens nothing."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_folder import fitted, save, trained
from vidray import models, storage
from vidray.errors import UserError
from vidray.labelling.settings import name_and_digest
from vidray.models.folder import save_classical
from vidray.models.model_files import check_apart, folder_of_weights, read_info

# Each in the place of every value, one after the other.
ABSURD: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 2**31, 10**400, 1.5, -0.5, 1e308, "", "a", "x/../../escaped",
    "http://127.0.0.1:9/w", "file:///etc/passwd", "/etc/passwd", "\ud800", "a\nb", "a\0b", [], [[]],
    ["a", "a"], ["a", 1], [1, 2, 3], {}, {"a": {"b": []}},
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good model folder of each family."""
    made = {family: tmp_path_factory.mktemp(family) for family in ("deep", "classical")}
    save(trained("resnet18_avg"), str(made["deep"]))
    model = fitted("knn")
    save_classical(str(made["classical"]), model.info, model.pipeline)
    return made


@pytest.fixture
def written(tmp_path: Path, folders: dict[str, Path]) -> Any:
    """Writes another model.json into a copy of a family's folder, and gives the folder."""

    def write(family: str, info: Any) -> str:
        folder = tmp_path / family
        folder.mkdir(exist_ok=True)
        for part in folders[family].iterdir():
            if not (folder / part.name).exists():
                (folder / part.name).symlink_to(part)
        (folder / "model.json").unlink()
        is_raw = isinstance(info, bytes)
        (folder / "model.json").write_bytes(info if is_raw else json.dumps(info).encode())
        return str(folder)

    return write


def good_info(folders: dict[str, Path], family: str) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((folders[family] / "model.json").read_text())
    return info


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested objects and lists."""
    if here:
        yield here
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*here, key))
    elif isinstance(value, list):
        for k in range(len(value)):
            yield from places(value[k], (*here, k))


def changed(info: dict[str, Any], place: tuple[Any, ...], *value: Any) -> dict[str, Any]:
    """A copy with another value in one place, or without what is there."""
    info = copy.deepcopy(info)
    inner: Any = info
    for key in place[:-1]:
        inner = inner[key]
    if value:
        inner[place[-1]] = value[0]
    else:
        del inner[place[-1]]
    return info


_watched: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Notes what is opened, asked of the network or deleted while somebody looks."""
    # Threads of Ray, which a test before this one may have started, are not looked at.
    if _watched is None or threading.current_thread() is not threading.main_thread():
        return
    if event.startswith(("socket.", "urllib.", "os.remove", "os.rename", "os.rmdir", "shutil.")):
        _watched.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[0], str | bytes):
        _watched.append(os.fsdecode(arguments[0]))


sys.addaudithook(_watch)


@pytest.fixture
def watched() -> Iterator[list[str]]:
    global _watched  # noqa: PLW0603  (an audit hook stays for ever)
    _watched = []
    yield _watched
    _watched = None


def outside(seen: list[str], *folders: str) -> list[str]:
    """What was seen that has nothing to do with ``folders``, nor is Python's own."""
    seen = [one for one in seen if not one.endswith((".py", ".pyc", ".so"))]
    # Whose threads are limited while scikit-learn predicts.
    return [one for one in seen if one != "/proc/self/maps" and all(f not in one for f in folders)]


def outcome(read: Any, folder: str) -> str:
    """``good``, or the line in which it is refused; anything else that is raised fails a test."""
    try:
        read(folder)
    except UserError as error:
        said = str(error)
        assert "\n" not in said, said
        assert len(said) < 1000, said
        return said
    return "good"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deep", "classical"])
def test_whatever_model_json_says_it_is_read_or_refused_in_a_line(
    family: str, folders: dict[str, Path], written: Any, watched: list[str]
) -> None:
    good = good_info(folders, family)
    everywhere = list(places(good))
    cases = [changed(good, place) for place in everywhere]
    cases += [changed(good, place, value) for place in everywhere for value in ABSURD]
    cases += list(ABSURD)
    outcomes = []
    for case in cases:
        folder = written(family, case)
        watched.clear()
        outcomes.append(outcome(read_info, folder))
        assert not outside(watched, folder), case
    accepted = [case for case, said in zip(cases, outcomes, strict=True) if said == "good"]
    assert len(accepted) < len(cases) / 4
    for info in accepted:
        assert all(isinstance(name, str) and name for name in info["class_names"])
        assert os.path.basename(info["name"]) == info["name"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deep", "classical"])
def test_what_is_accepted_loads_or_is_refused_in_a_line(
    family: str, folders: dict[str, Path], written: Any, watched: list[str]
) -> None:
    good = good_info(folders, family)
    models.load(written(family, good))  # What is imported late is imported now.
    # Of the values that decide what is built, those that only another part can contradict.
    places_of_interest = {
        "deep": [
            ("network", "name"), ("network", "head"), ("network", "dropout"), ("network", "frames"),
            ("network", "size_px"), ("network", "num_classes"), ("class_names",),
        ],
        "classical": [("families",), ("class_names",), ("features", "families")],
    }[family]  # fmt: skip
    values = (*ABSURD, 4, 8, "r3d_18", "mvit_v2_s", "layernorm_dropout_linear", ["x", "y"])
    for place in places_of_interest:
        for value in values:
            folder = written(family, changed(good, place, value))
            watched.clear()
            outcome(models.load, folder)
            assert not outside(watched, folder, str(folders[family])), (place, value)


_TAUGHT = {
    "teacher": "r3d_18", "teacher_digest": "0123456789ab", "temperature": 4.0, "share": 0.9,
    "unlabelled_clips": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "place", "value", "told"),
    [
        (
            "deep",
            ("network", "weights"),
            "http://127.0.0.1:9/w.safetensors",
            "network has an unkno",
        ),
        ("deep", ("network", "weights"), "/etc/passwd", 'unknown key "weights": there are name, '),
        ("deep", ("network", "patch_px"), 8, 'network has an unknown key "patch_px"'),
        ("deep", ("network", "variant"), 3, "network.variant is 3: it must be text or null"),
        ("deep", ("network", "variant"), "padded", "variant is 'padded': .* has none, leave it"),
        ("deep", ("class_names",), ["a", "b"], "num_classes is 3 and class_names has 2"),
        ("deep", ("class_names",), [0, 1, 2], r"class_names\[0\] is 0: it must be text"),
        ("deep", ("class_names",), ["a", "b", "a"], 'class_names has "a" twice'),
        ("deep", ("class_names",), ["a", "", "b"], r'class_names\[1\] is "": it must be text'),
        ("deep", ("name",), "x/../../escaped", 'model is "x/../../escaped": it must be 1 to 128'),
        ("deep", ("name",), "..", 'model is ".."'),
        ("deep", ("family",), "other", 'family is "other": it must be deep or classical'),
        ("deep", ("clip", "size_px"), "112", 'clip.size_px is "112": it must be a whole number'),
        ("deep", ("clip", "size_px"), 0, "in clip, size_px is 0: it must be 1 to 4096"),
        ("deep", ("clip", "frames_per_clip"), 0, "in clip, frames_per_clip is 0"),
        ("deep", ("clip", "clip_seconds"), "2", "must be a number or null"),
        ("deep", ("clip", "limits", "max_pixels"), 10**400, "is a number of many digits"),
        ("deep", ("preprocessing", "mean"), [0.5, 0.5], r"mean is \(0.5, 0.5\): three numbers"),
        (
            "deep",
            ("preprocessing", "mean"),
            [1, "0", 1],
            r'preprocessing.mean\[1\] is "0": it must',
        ),
        (
            "deep",
            ("preprocessing", "stride"),
            5,
            "takes frames from 16 and clip.frames_per_clip is",
        ),
        ("deep", ("distillation",), {**_TAUGHT, "teacher_digest": "<img>\n"}, "twelve hex digits"),
        ("deep", ("distillation",), {**_TAUGHT, "temperature": -1}, "temperature is -1: it must"),
        ("deep", ("distillation",), {**_TAUGHT, "share": 0}, "share is 0: it must be above 0"),
        ("deep", ("preprocessing", "flow"), 1, "flow is 1: it must be true or false"),
        ("classical", ("features", "enhance"), "no", "must be one of off, auto, always"),
        ("classical", ("features", "families"), ["colour"], "feature family 'colour' is unknown"),
        ("classical", ("families",), ["texture"], "families is a list of 1: it must be a list of"),
        ("classical", ("families",), [], "families is a list of 0"),
    ],
)
def test_what_is_wrong_is_named(
    family: str, place: tuple[str, ...], value: Any, told: str, folders: Any, written: Any
) -> None:
    folder = written(family, changed(good_info(folders, family), place, value))
    for read in (read_info, models.load, name_and_digest):
        with pytest.raises(UserError, match=told) as caught:
            read(folder)  # type: ignore[operator]
        assert f"{folder}/model.json is not what a training writes: " in str(caught.value)
        assert str(caught.value).endswith("; get the model again from its author, or "
                                          "train it again")  # fmt: skip


@pytest.mark.parametrize(
    "key", ["family", "name", "class_names", "network", "preprocessing", "clip"]
)
def test_no_key_may_be_missing(key: str, folders: dict[str, Path], written: Any) -> None:
    folder = written("deep", changed(good_info(folders, "deep"), (key,)))
    with pytest.raises(UserError, match=f"{key}.* null"):
        read_info(folder)


def test_no_key_of_what_decides_a_pixel_may_be_missing(folders: Any, written: Any) -> None:
    good = good_info(folders, "deep")
    for part in ("preprocessing", "clip"):
        for key in good[part].keys() - {"choice", "resize_px", "resizer", "cut", "unlabelled"}:
            with pytest.raises(UserError, match=f"{part}.{key} is missing"):
                read_info(written("deep", changed(good, (part, key))))
    # Caps decide no label: an older vidray had fewer of them. And frames could not be chosen,
    # nor resized and then cropped.
    older = changed(good, ("clip", "limits"), {})
    for key in ("choice", "resize_px", "resizer"):
        older["clip"].pop(key)
    older["preprocessing"].pop("cut", None)
    assert models.load(written("deep", older)).class_names == tuple(good["class_names"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\x00", "decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1" * 5000, "digits"),
        (b'{"family": NaN}', "NaN is no number"),
        (b'{"family": -Infinity}', "-Infinity is no number"),
    ],
)
def test_what_is_no_json_is_told(content: bytes, told: str, written: Any) -> None:
    with pytest.raises(UserError, match=told):
        read_info(written("deep", content))


def test_hundreds_of_megabytes_are_refused_unread(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "model.json").open("wb") as file:
        file.truncate(400 << 20)
    monkeypatch.setattr(storage, "read_bytes", lambda uri: pytest.fail(f"{uri} is read"))
    with pytest.raises(UserError, match="it has 400 MiB, and 16 MiB hold any model's"):
        read_info(str(tmp_path))


def test_a_folder_in_the_place_of_model_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.json").mkdir()
    with pytest.raises(UserError, match=r"model\.json is not what a training writes"):
        read_info(str(tmp_path))


def test_the_digest_is_of_the_bytes_however_they_are_read(folders: dict[str, Path]) -> None:
    import hashlib

    for family, part in (("deep", "weights.safetensors"), ("classical", "pipeline.skops")):
        expected = hashlib.sha256()
        for name in ("model.json", part):
            content = (folders[family] / name).read_bytes()
            expected.update(f"{name} {len(content)}\n".encode() + content)
        assert name_and_digest(str(folders[family]))[1] == expected.hexdigest()[:12]
    assert math.ceil((folders["deep"] / "weights.safetensors").stat().st_size / (4 << 20)) > 5


def test_a_folder_that_is_read_is_not_written(folders: dict[str, Path]) -> None:
    folder = str(folders["deep"])
    check_apart(folder, None, flag="--weights")
    check_apart(f"{folder}_2", folder, flag="--weights")
    for weights in (folder, f"{folder}/", f"{folder}/weights.safetensors"):
        with pytest.raises(UserError, match="--weights and --out are one folder"):
            check_apart(folder, folder_of_weights(weights), flag="--weights")
