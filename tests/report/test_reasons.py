"""The chapter on what models look at."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.report.deep_runs import clips_folder, judged_network, network_folder, runs_of
from vidray.report.blocks import Fold, Gallery, Prose, Section
from vidray.report.inside import looks, reasons
from vidray.report.inside.looks import Look, Looks
from vidray.report.inside.reasons import border_share
from vidray.report.page import chapter, render
from vidray.report.runs import Runs
from vidray.report.settings import ReportSettings

HOSTILE = "</script><img src=x onerror=alert(1)>.mp4"


def text_of(blocks: Sequence[object]) -> str:
    said: list[str] = []
    for block in blocks:
        if isinstance(block, Prose):
            said += block.paragraphs
        elif isinstance(block, Fold):
            said.append(text_of(block.blocks))
    return " ".join(said)


def look(maps: NDArray[np.float32] | None, places: tuple[int, int] = (7, 7)) -> Look:
    return Look(
        uri="/videos/a.mp4", truth="jump", label="run", probability=0.9, clip="1 of 1",
        frames=np.zeros((4, 20, 20, 3), np.uint8), weights=None, maps=maps, places=places,
    )  # fmt: skip


def on_border(share: float) -> NDArray[np.float32]:
    """A map of which ``share`` lies on the outer two of twenty rows and columns."""
    inside = np.zeros((20, 20), bool)
    inside[2:18, 2:18] = True
    maps = np.where(inside, (1 - share) / inside.sum(), share / (~inside).sum())
    return np.repeat(maps[None] / maps.max(), 4, axis=0).astype(np.float32)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Looks]:
    """What the networks look at, one after the other, without any network."""
    given: list[Looks] = []
    monkeypatch.setattr(reasons, "look_into", lambda *_: given.pop(0))
    return given


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reasons")
    clips_folder(out / "clips")
    network_folder(out / "net", "resnet18_lstm")
    return out


def made(folders: Path, count: int = 1) -> Runs:
    judged = judged_network(folders / "net", folders / "clips")
    assert judged.model is not None
    several = [
        dataclasses.replace(
            judged, model=dataclasses.replace(judged.model, out=f"/{k}", name=f"net-{k}")
        )
        for k in range(count)
    ]
    return runs_of(several if count > 1 else [judged], folders / "clips")


def section(runs: Runs) -> Section:
    found = chapter("reasons", runs)
    assert found is not None
    return found


def test_nothing_to_say_is_no_chapter() -> None:
    assert chapter("reasons", Runs(folders=())) is None


def test_the_share_on_the_border_is_by_area() -> None:
    assert border_share(np.ones((3, 20, 20))) == pytest.approx(0.36)
    assert border_share(np.ones((1, 7, 9))) == pytest.approx(0.36)  # tenths cut through cells
    assert border_share(on_border(0.8)) == pytest.approx(0.8)
    middle = np.zeros((1, 10, 10))
    middle[0, 4, 4] = 1
    assert border_share(middle) == pytest.approx(0)
    corner = np.zeros((1, 5, 5))
    corner[0, 0, 0] = 1  # a fifth by a fifth, of which half by half is inside
    assert border_share(corner) == pytest.approx(0.75)
    assert border_share(np.zeros((1, 4, 4))) == 0


def test_a_network_that_looks_at_the_edges_is_a_warning(folders: Path, seen: list[Looks]) -> None:
    seen.append(Looks(looks=[look(on_border(s)) for s in (0.9, 0.8, 0.7, 0.9, 0.2)]))
    found = section(made(folders))
    (finding,) = found.findings
    assert finding.level == "warning"
    assert finding.section == found.name
    assert "net looks at the edges" in finding.text
    assert "in 4 of 5 clips more than 60 %" in finding.text
    assert "70 % of its maps lies" in text_of(found.blocks)


@pytest.mark.parametrize(
    ("shares", "places", "said"),
    [
        ((0.9, 0.8, 0.2, 0.1, 0.2), (7, 7), "44 % of its maps"),  # two of five
        ((0.9, 0.9, 0.9), (7, 7), "90 % of its maps"),  # three clips are chance
        ((0.9, 0.9, 0.9, 0.9), (4, 4), "4 x 4 places, too few to tell"),
        ((0.1, 0.1, 0.1, 0.1), (7, 7), "does not look for the edges"),
    ],
)
def test_less_is_no_warning(
    folders: Path,
    seen: list[Looks],
    shares: tuple[float, ...],
    places: tuple[int, int],
    said: str,
) -> None:
    seen.append(Looks(looks=[look(on_border(share), places) for share in shares]))
    found = section(made(folders))
    assert not found.findings
    assert said in text_of(found.blocks)


@pytest.mark.parametrize(
    ("frames_seen", "said"),
    [
        ((3.9, 3.9), "hardly prefers any of the 4 frames: its weights are as spread as 3.9"),
        ((1.1, 1.3), "looks at few of the 4 frames: its weights are as spread as 1.2"),
        ((2.0, 3.0), "prefers some of the 4 frames: its weights are as spread as 2.5"),
    ],
)
def test_how_concentrated_its_attention_is(
    folders: Path, seen: list[Looks], frames_seen: tuple[float, ...], said: str
) -> None:
    seen.append(Looks(looks=[look(None)] * 2, weights_are="its weight", frames_seen=frames_seen))
    assert said in text_of(section(made(folders)).blocks)


def test_a_map_of_nothing_is_said(folders: Path, seen: list[Looks]) -> None:
    seen.append(Looks(looks=[look(np.zeros((4, 7, 7), np.float32))], maps_are="Grad-CAM"))
    (fold,) = section(made(folders)).blocks
    assert isinstance(fold, Fold)
    assert "Nothing in these clips speaks for its labels" in text_of([fold])
    (gallery,) = (block for block in fold.blocks if isinstance(block, Gallery))
    assert gallery.cards[0].facts["map"].startswith("empty")
    assert gallery.cards[0].pictures[0].caption == "frame 1"


def test_without_the_clips_it_says_which_folder_to_add(folders: Path) -> None:
    runs = dataclasses.replace(made(folders), clips=())
    said = text_of(section(runs).blocks)
    assert "not among the folders of this page" in said
    assert str(folders / "clips") in said


def test_without_frames_no_network_is_loaded(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "_opened", lambda *_: pytest.fail("it was opened"))
    found = chapter("reasons", made(folders), ReportSettings(frames=False))
    assert found is not None
    assert "turned off" in text_of(found.blocks)


def test_of_many_networks_the_most_accurate_are_looked_into(
    folders: Path, seen: list[Looks]
) -> None:
    runs = made(folders, 11)
    worse = dataclasses.replace(runs.judged[0], truth=runs.judged[0].predicted[::-1])
    runs = dataclasses.replace(runs, judged=(worse, *runs.judged[1:]))
    seen += [Looks(problem=f"look {k}") for k in range(8)]
    blocks = section(runs).blocks
    assert [block.title for block in blocks if isinstance(block, Fold)] == [
        f"net-{k}: what it looks at" for k in range(1, 9)
    ]
    assert "Not looked into" in text_of(blocks[-1:])


def test_a_network_judged_twice_is_looked_into_once(folders: Path, seen: list[Looks]) -> None:
    runs = made(folders)
    of_val = dataclasses.replace(
        runs.judged[0], name="val", report={"config": {**runs.judged[0].config, "split": "val"}}
    )
    seen.append(Looks(problem="once"))
    found = section(dataclasses.replace(runs, judged=(of_val, *runs.judged)))
    assert text_of(found.blocks) == "once"


@pytest.mark.slow
def test_the_chapter_of_a_real_network_with_hostile_names(folders: Path) -> None:
    runs = made(folders)
    uris = tuple(f"/videos/{k}{HOSTILE}" for k in range(16))
    judged = dataclasses.replace(runs.judged[0], uris=uris)
    found = section(dataclasses.replace(runs, judged=(judged,)))
    (fold,) = found.blocks
    assert isinstance(fold, Fold)
    assert fold.is_open
    prose, wrong, right = fold.blocks
    assert isinstance(prose, Prose)
    assert "put in its place" in prose.paragraphs[0]
    assert isinstance(wrong, Gallery)
    assert isinstance(right, Gallery)
    assert wrong.title == "Its surest errors"
    assert [len(gallery.cards) for gallery in (wrong, right)] == [3, 3]
    for card in (*wrong.cards, *right.cards):
        assert len(card.pictures) == 4
        assert card.facts["true label"] in ("jump", "run")
    shares = [int(p.caption.split()[-2]) for p in wrong.cards[0].pictures]
    assert abs(sum(shares) - 100) <= 2
    html = render(runs, [found], [], ReportSettings(), data_folder="data")
    assert "<img src=x" not in html
    assert "onerror=alert(1)&gt;" in html


@pytest.mark.slow
def test_a_transformer_shows_its_attention_to_the_parts_of_frames(tmp_path: Path) -> None:
    clips_folder(tmp_path / "clips")
    pytest.importorskip("transformers")
    network_folder(tmp_path / "net", "videomae_small")
    judged = judged_network(tmp_path / "net", tmp_path / "clips")
    found = section(runs_of([judged], tmp_path / "clips"))
    said = text_of(found.blocks)
    assert "attention to each part of the frame" in said
    assert "of the 4 frames" in said
