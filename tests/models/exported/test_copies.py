"""One copy of a bucket's network on a machine: private, whole, shared, and gone in the end."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ray_cluster import ROOT
from vidray import storage
from vidray.models.exported import copies

FILES = ("network.xml", "network.bin")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, used by nobody yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(copies, "_held", {})
    return tmp_path / "cache" / "vidray" / "exports"


def put(folder: str, text: str) -> str:
    for name in FILES:
        storage.write_bytes(storage.join(folder, name), f"{name} {text}".encode())
    return folder


def folders(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}


def test_a_copy_is_private_whole_and_made_once(
    s3_bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_bucket, "a")
    made = []
    copy = copies._copy
    monkeypatch.setattr(copies, "_copy", lambda *given: (made.append(given), copy(*given))[1])
    assert copies.found(s3_bucket, FILES) is None
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(lambda _: copies.copied(s3_bucket, FILES), range(4)))
    assert len(made) == 1
    assert (folder / "network.bin").read_text() == "network.bin a"
    assert copies.found(s3_bucket, FILES) == folder
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert folders(cache) == {folder.name}  # No draft is left.


def test_a_process_uses_the_copy_that_another_one_uses(s3_bucket: str, cache: Path) -> None:
    folder = copies.copied(put(s3_bucket, "a"), FILES)
    made = (folder / "network.bin").stat().st_ino
    code = f"""
from vidray.models.exported import copies
print(copies.copied({s3_bucket!r}, {FILES!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == str(folder)
    assert (folder / "network.bin").stat().st_ino == made


def test_what_changes_in_the_bucket_is_copied_again(s3_bucket: str, cache: Path) -> None:
    first = copies.copied(put(s3_bucket, "a"), FILES)
    second = copies.copied(put(s3_bucket, "other"), FILES)
    assert (second / "network.bin").read_text() == "network.bin other"
    assert first != second
    assert folders(cache) == {first.name, second.name}  # Somebody may run the first one still.


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_damaged_copy_is_made_again(s3_bucket: str, damage: str) -> None:
    file = copies.copied(put(s3_bucket, "a"), FILES) / "network.bin"
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("network.bin b" if damage == "changed" else "n")
    assert copies.copied(s3_bucket, FILES) / "network.bin" == file
    assert file.read_text() == "network.bin a"


def test_a_killed_copy_leaves_nothing(s3_bucket: str, cache: Path) -> None:
    put(s3_bucket, "a")
    key = copies._key(s3_bucket, FILES)
    cache.mkdir(parents=True)
    (cache / f"{key}.x.draft").mkdir()
    (cache / f"{key}.x.draft" / "network.bin").write_text("half")
    copies.copied(s3_bucket, FILES)
    assert folders(cache) == {key}


def test_copies_that_nobody_uses_are_bounded(s3_bucket: str, cache: Path) -> None:
    """A copy of each of seven folders by a process that has ended, and one that lives on."""
    where = [put(storage.join(s3_bucket, str(k)), str(k)) for k in range(8)]
    held = copies.copied(where[0], FILES)
    code = f"""
from vidray.models.exported import copies
for uri in {where[1:]!r}:
    copies.copied(uri, {FILES!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    last = copies.copied(where[7], FILES)
    left = folders(cache)
    assert {held.name, last.name} <= left
    assert len(left) <= 2 + copies._MOST_UNUSED
    assert (held / "network.bin").read_text() == "network.bin 0"


@pytest.mark.parametrize("how", ["open", "link"])
def test_a_folder_that_others_may_write_into_is_not_used(
    s3_bucket: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    cache.parent.mkdir(parents=True)
    if how == "open":
        cache.mkdir()
        cache.chmod(0o777)
    else:
        (tmp_path / "theirs").mkdir()
        cache.symlink_to(tmp_path / "theirs")
    folder = copies.copied(put(s3_bucket, "a"), FILES)
    assert folder.is_relative_to(tmp_path / "own")
    assert not any(cache.iterdir())
