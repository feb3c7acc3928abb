"""The order of a search: each kind's first models before any kind's further trials."""

from pathlib import Path
from typing import Any

import pytest

from vidray.models.names import ModelKind
from vidray.search import search_run
from vidray.search.search_run import Search
from vidray.search.settings import SearchSettings
from vidray.tables.run_folder import RunFolder

_MODELS: dict[ModelKind, tuple[str, ...]] = {
    "classical": ("knn", "svm", "extra_trees"),
    "deep": ("s3d", "r3d_18"),
}


class _Example:
    digest = "d"
    families = ("flow",)


class _Run:
    examples = _Example()


def _search(out: Path, **changed: Any) -> Search:
    settings = SearchSettings(**{"kinds": ("classical", "deep"), **changed})
    runs: Any = {kind: _Run() for kind in settings.kinds}
    return Search(
        out=str(out),
        settings=settings,
        runs=runs,
        models=_MODELS,
        first={"classical": ("svm", "knn", "extra_trees"), "deep": _MODELS["deep"]},
        space_of=lambda *_: None,  # type: ignore[arg-type,return-value]
    )


def _order(
    search: Search,
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[tuple[ModelKind, int | None], float],
) -> list[tuple[ModelKind, int | None, float | None]]:
    """Kind, limit and seconds until its deadline of each round, which takes ``seconds``."""
    clock = [1000.0]
    rounds: list[tuple[ModelKind, int | None, float | None]] = []

    def tried(
        _: Search, __: Any, kind: ModelKind, deadline: float | None, *, limit: int | None
    ) -> Any:
        rounds.append((kind, limit, None if deadline is None else deadline - clock[0]))
        clock[0] += seconds.get((kind, limit), 0.0)
        return []

    monkeypatch.setattr(search_run.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(search_run, "_try", tried)
    search_run._tried(search, None, 1000.0)  # type: ignore[arg-type]
    return rounds


def test_each_model_of_each_kind_comes_before_any_is_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: Any = {("classical", 3): 20.0, ("deep", 2): 50.0, ("classical", None): 30.0}
    assert _order(_search(tmp_path, minutes=2.0), monkeypatch, seconds) == [
        ("classical", 3, 60.0), ("deep", 2, 100.0), ("classical", None, 25.0), ("deep", None, 20.0),
    ]  # fmt: skip


def test_without_a_limit_of_time_no_round_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _order(_search(tmp_path), monkeypatch, {}) == [
        ("classical", None, None), ("deep", None, None),
    ]  # fmt: skip
    one = _search(tmp_path, minutes=1.0, kinds=("classical",))
    assert _order(one, monkeypatch, {}) == [("classical", None, 60.0)]


def _claimed(search: Search, *, overwrite: bool = False) -> RunFolder:
    return search_run._claim(search, {}, overwrite)


def test_the_first_start_decides_order_and_generations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_run.conductor, "room", lambda *_: 3)
    search = _search(tmp_path, kinds=("classical",))
    settings = _claimed(search).settings
    assert settings["classical_models"] == ["knn", "svm", "extra_trees"]
    assert settings["classical_first"] == ["svm", "knn", "extra_trees"]
    assert settings["classical_generation"] == 12
    monkeypatch.setattr(search_run.conductor, "room", lambda *_: 40)
    again = _claimed(search).settings
    assert again == settings
    assert _claimed(search, overwrite=True).settings["classical_generation"] == 160


def test_a_search_of_an_older_version_goes_on_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had no order of their own: models were tried as they are listed."""
    monkeypatch.setattr(search_run.conductor, "room", lambda *_: 1)
    search = _search(tmp_path, kinds=("classical",))
    folder = _claimed(search)
    del folder.settings["classical_first"]
    folder.write_run_json("running")
    assert _claimed(search).settings["classical_first"] == ["knn", "svm", "extra_trees"]
