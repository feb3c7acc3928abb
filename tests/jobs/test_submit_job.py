"""``ray job submit`` to a live cluster of two nodes that asks for a token."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.command_lines import ROOT
from tests.jobs.test_label_job import parts, table, wait_until
from tests.models.test_folder import save, trained
from tests.ray_cluster import RAY, Cluster, Process, free_port, running
from tests.video_writer import write_video
from vidray.labelling.commits import read_labels

pytestmark = pytest.mark.timeout(1500)


@dataclass
class Dashboard:
    cluster: Cluster
    second: subprocess.Popen[bytes]
    address: str

    def submit(self, *flags: object) -> Process:
        """The command of docs/cluster.md, as a user gives it who has a clone and an address."""
        text = (ROOT / "docs" / "cluster.md").read_text()
        (told,) = re.findall(r"^ray (job submit .*?)```", text, re.DOTALL | re.MULTILINE)
        words = shlex.split(told.replace("\\\n", " ").replace("http://head:8265", self.address))
        command = words[: words.index("jobs/label.py") + 1]
        return Process(
            [RAY, *command, *map(str, flags)],
            cwd=ROOT,
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def takes_jobs(self) -> bool:
        """Its agent starts some seconds after its nodes."""
        command = [RAY, "job", "submit", "--address", self.address, "--", "true"]
        found = subprocess.run(
            command, env=self.cluster.environment, capture_output=True, check=False
        )
        return found.returncode == 0

    def logs(self, told: str) -> str:
        """Of the job that ``ray job submit`` told of, which does not always wait for them."""
        (name,) = set(re.findall(r"raysubmit_\w+", told))
        command = [RAY, "job", "logs", "--address", self.address, name]
        found = subprocess.run(
            command, env=self.cluster.environment, capture_output=True, text=True, check=True
        )
        return found.stdout


@pytest.fixture(scope="module")
def dashboard(s3_server: str) -> Iterator[Dashboard]:
    port = free_port()
    token = "a-token-of-this-test-0123456789abcdef"
    with running(1, dashboard_port=port, token=token) as cluster:
        second = cluster.add_node(cpus=1)
        made = Dashboard(cluster, second, f"http://127.0.0.1:{port}")
        wait_until(made.takes_jobs)
        yield made


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("submitted")
    save(trained("resnet18_avg"), str(folder / "model"))
    (folder / "videos").mkdir()
    for number in range(40):
        path = folder / "videos" / f"clip{number:02d}.avi"
        write_video(path, num_frames=100, codec="mpeg4", first_number=number)
    return "--model", folder / "model", "--videos", folder / "videos"


def test_a_submitted_job_outlives_a_node(
    dashboard: Dashboard, flags: tuple[object, ...], tmp_path: Path
) -> None:
    with dashboard.submit(*flags, "--out", tmp_path / "calm") as process:
        told, _ = process.communicate()
    assert process.returncode == 0, told
    assert "40 videos: 40 ok" in dashboard.logs(told)
    with dashboard.submit(*flags, "--out", tmp_path / "out") as process:
        wait_until(lambda: parts(tmp_path / "out") >= 4)
        dashboard.cluster.kill(dashboard.second)
        told, _ = process.communicate()
    assert process.returncode == 0, told
    assert "40 videos: 40 ok" in dashboard.logs(told)
    assert len(read_labels(str(tmp_path / "out"))) == 40
    assert table(tmp_path / "out").equals(table(tmp_path / "calm"))


def test_a_wrong_flag_fails_the_job_and_says_why(
    dashboard: Dashboard, flags: tuple[object, ...], tmp_path: Path
) -> None:
    with dashboard.submit(*flags, "--out", tmp_path / "out", "--max-attempts", 0) as process:
        told, _ = process.communicate()
    assert process.returncode != 0
    assert "max_attempts is 0: it must be 1 or more" in dashboard.logs(told)


def test_who_has_no_token_is_turned_away(dashboard: Dashboard) -> None:
    jobs = f"{dashboard.address}/api/jobs/"
    assert requests.get(jobs, timeout=30).status_code in (401, 403)
    header = {"Authorization": f"Bearer {dashboard.cluster.token}"}
    assert requests.get(jobs, timeout=30, headers=header).status_code == 200
