"""The README and docs/: every command and snippet does what it says, every link leads somewhere."""

import os
import pydoc
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs

from tests.command_lines import scripts
from tests.ray_cluster import ROOT, Cluster, Job
from vidray.video.synthetic import make_clips

_README = ROOT / "README.md"
# In this order their commands are run: what the README's leave, the other documents read.
_DOCUMENTS = (_README, *sorted((ROOT / "docs").glob("*.md")))
_PAGES = (*_DOCUMENTS, ROOT / "CHANGELOG.md", *sorted((ROOT / ".github").rglob("*.md")))
_MOST_WORDS = 30  # of a sentence of the README

_RUN_SQL = "import duckdb, sys; assert duckdb.sql(sys.argv[1]).to_arrow_table().num_rows"


def _name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def _blocks(document: Path, language: str) -> list[str]:
    text = document.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _all_blocks(language: str) -> list[str]:
    """Of all documents, each once: a page may repeat the README's command."""
    return list(dict.fromkeys(b for document in _DOCUMENTS for b in _blocks(document, language)))


def _commands() -> list[str]:
    lines = [line for block in _all_blocks("bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if "jobs/" in line or "tune/" in line))


@pytest.mark.timeout(1500)
def test_commands_and_snippets(
    tmp_path: Path, cluster: Cluster, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clips(tmp_path / "runs" / "demo" / "videos")
    bucket = s3fs.S3FileSystem(endpoint_url=s3_server)
    bucket.mkdir("my-bucket")
    bucket.put(str(tmp_path / "runs" / "demo" / "videos"), "my-bucket/clips", recursive=True)
    monkeypatch.chdir(tmp_path)
    for line in _commands():
        words = [word for word in shlex.split(line) if not word.startswith("RAY_ADDRESS=")]
        assert words[0] == "python"
        Job(words[1], cluster).call(*words[2:])
    snippets = [[snippet] for snippet in _all_blocks("python")]
    queries = [[_RUN_SQL, query] for query in _all_blocks("sql")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for code in snippets + queries:
        subprocess.run([sys.executable, "-c", *code], cwd=tmp_path, env=environment, check=True)


def test_every_command_is_run() -> None:
    """The commands of the README, and those of the documents beside them."""
    commands = " ".join(_commands())
    assert all(script in commands for script in scripts())
    shown = {line.split()[1] for b in _blocks(_README, "bash") for line in b.splitlines()}
    assert shown >= set(scripts())


@pytest.mark.parametrize("document", _DOCUMENTS, ids=_name)
def test_nothing_is_left_to_be_filled_in(document: Path) -> None:
    text = document.read_text()
    assert "<!--" not in text
    assert all(block.strip() for block in re.findall(r"```\w+\n(.*?)```", text, re.DOTALL))


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = "\n".join(page.read_text() for page in _PAGES if page.name != "CHANGELOG.md")
    targets = re.findall(r"^make ([\w-]+)|`make ([\w-]+)`", text, flags=re.MULTILINE)
    named = {first or second for first, second in targets}
    assert named >= {"demo", "test", "setup"}
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


# Links


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _without_code(document.read_text()), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(document: Path) -> list[str]:
    """Links to files, and to headings in them, that are not there."""
    text = re.sub(r"`[^`\n]*`(?!\])", "", _without_code(document.read_text()))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", _PAGES, ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: files, headings of this page and of others, code left out."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "b.md").write_text("# One, two\n\n```sh\n# three\n```\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# Here\n[a](b.md) [b](b.md#one-two) [c](#here) [d](https://example.com/x.md) `[e](f)`\n"
        "[`g`](g.md) [h](b.md#three) [i](#there) [j](../../etc/hosts)\n"
    )
    assert broken_links(page) == ["g.md", "b.md#three", "#there", "../../etc/hosts"]


def test_the_readme_leads_to_every_document() -> None:
    text = _README.read_text()
    assert [page for page in map(_name, _DOCUMENTS[1:]) if f"({page})" not in text] == []


# Names


def unknown_names(text: str) -> list[str]:
    """Files, folders and names of the package, in code, that are not there."""
    spans = [span for span in re.findall(r"`([^`\n]+)`", _without_code(text)) if "NAME" not in span]
    paths = [s for s in spans if re.fullmatch(r"(vidray|jobs|tune|tests|bench|cluster)/[\w./]*", s)]
    names = [span for span in spans if re.fullmatch(r"vidray(\.\w+)+", span)]
    return [path for path in paths if not (ROOT / path).exists()] + [
        name for name in names if pydoc.locate(name) is None
    ]


@pytest.mark.parametrize("document", [*_DOCUMENTS, ROOT / ".github/CONTRIBUTING.md"], ids=_name)
def test_what_is_named_is_there(document: Path) -> None:
    assert unknown_names(document.read_text()) == []


def test_a_name_that_is_not_there_is_found() -> None:
    text = "`vidray/cli.py` `vidray/gone.py` `vidray/features/NAME.py` `vidray.cli.run` `vidray.x`"
    assert unknown_names(text) == ["vidray/gone.py", "vidray.x"]


# Words


def sentences(text: str) -> list[str]:
    """Of paragraphs, list items and cells of tables; code is one word, a link its text."""
    text = re.sub(r"`[^`\n]+`", "CODE", _without_code(text))
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    pieces = [cell for line in text.splitlines() for cell in line.split("|")]
    return [
        s for piece in pieces for s in re.split(r"(?<=[.!?])\**\s+(?=[A-Z\d*]|vidray)", piece) if s
    ]


def test_sentences_of_the_readme_are_short() -> None:
    long = [s for s in sentences(_README.read_text()) if len(s.split()) > _MOST_WORDS]
    assert long == []


def test_a_long_sentence_is_found() -> None:
    words = " ".join(["word"] * 15)
    assert max(len(s.split()) for s in sentences(f"{words}. {words.capitalize()}.")) == 15
    assert max(len(s.split()) for s in sentences(f"{words} `a b c`, {words}.")) == 31


def test_every_document_says_what_it_holds() -> None:
    for document in _DOCUMENTS[1:]:
        assert document.read_text().split("\n\n")[1].startswith("This page holds "), document
