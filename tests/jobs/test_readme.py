"""Every command and snippet of the README does what it says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs

from tests.command_lines import FLAG, flags_of, scripts
from tests.ray_cluster import ROOT, Cluster
from vidray.video.synthetic import make_clips

_README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _README, flags=re.DOTALL)


@pytest.mark.timeout(900)
def test_commands_and_snippets(tmp_path: Path, cluster: Cluster, s3_server: str) -> None:
    make_clips(tmp_path / "runs" / "demo" / "videos")
    bucket = s3fs.S3FileSystem(endpoint_url=s3_server)
    bucket.mkdir("my-bucket")
    bucket.put(str(tmp_path / "runs" / "demo" / "videos"), "my-bucket/clips", recursive=True)
    for folder in ("jobs", "tune"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    commands = [line for block in _blocks("bash") for line in block.splitlines()]
    jobs = [line for line in commands if "jobs/" in line or "tune/" in line]
    assert len(jobs) >= 3
    for line in jobs:
        words = [word for word in shlex.split(line) if not word.startswith("RAY_ADDRESS=")]
        assert words[0] == "python"
        subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, env=cluster.environment, check=True
        )
    for snippet in _blocks("python"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, env=environment, check=True)


def test_nothing_is_left_to_be_filled_in() -> None:
    assert "<!--" not in _README
    assert all(block.strip() for block in re.findall(r"```\w+\n(.*?)```", _README, re.DOTALL))


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", "\n".join(_blocks("bash")), flags=re.MULTILINE)
    assert set(targets) >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_flags_of_the_table_exist() -> None:
    """Those of commands, by the job itself; those of tables and sentences, by any."""
    flags = {script: flags_of(script) for script in scripts()}
    commands = re.findall(r"python ((?:jobs|tune)/\w+\.py)([^`\n]*)", _README)
    assert len(commands) >= 8
    for script, words in commands:
        assert set(FLAG.findall(words)) <= flags[script], script
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", _README))
    assert named <= set[str]().union(*flags.values())
