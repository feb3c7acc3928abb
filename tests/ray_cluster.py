"""A Ray cluster of real raylets on this machine, and jobs run on it as a user runs them.

Starting Ray costs about ten seconds, so the session's jobs share one head node. It is started in a
process group of its own and ended by a signal to that group: ``ray stop`` would end every Ray here.
"""

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.command_lines import ROOT, exit_code

RAY = str(Path(sys.executable).with_name("ray"))
# For what takes seconds here: on a machine ten times slower it must not fail a test.
PATIENCE_SECONDS = 600.0


@dataclass
class Cluster:
    """A head node; ``add_node`` adds others."""

    port: int
    folder: str
    token: str = ""  # asked of everybody, if any
    variables: dict[str, str] = field(default_factory=dict)
    nodes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs say "python"
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
            **(
                {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
                if self.token
                else {"RAY_AUTH_MODE": "disabled"}
            ),
            "RAY_TMPDIR": self.folder,
            # A node that was killed is dead after 5 looks: after 5 s, and not 15.
            "RAY_health_check_period_ms": "1000",
            **self.variables,
        }

    def start_head(self, cpus: int, *flags: str, dashboard_port: int | None = None) -> None:
        """With a dashboard, to which jobs are submitted, or without."""
        dashboard = (
            [f"--dashboard-port={dashboard_port}", "--include-dashboard=true"]
            if dashboard_port
            else ["--include-dashboard=false"]
        )
        self.add_node(cpus, ["--head", f"--port={self.port}", *dashboard, *flags])

    def add_node(self, cpus: int, flags: list[str] | None = None) -> "subprocess.Popen[bytes]":
        flags = flags or [f"--address=127.0.0.1:{self.port}"]
        # The agent of every node of this machine would listen at one port, and only the first does:
        # "No available agent to submit job".
        agent = f"--dashboard-agent-listen-port={free_port()}"
        sizes = [
            agent,
            f"--num-cpus={cpus}",
            f"--memory={8 << 30}",
            f"--object-store-memory={200 << 20}",
        ]
        environment = {name: v for name, v in self.environment.items() if name != "RAY_ADDRESS"}
        node = subprocess.Popen(
            [RAY, "start", "--block", "--disable-usage-stats", *sizes, *flags],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.nodes.append(node)
        self._wait_for_cpus()
        return node

    def _wait_for_cpus(self) -> None:
        """Until a driver sees as many live nodes as were started."""
        look = (
            "import ray; ray.init(logging_level='ERROR'); "
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        alive = sum(node.poll() is None for node in self.nodes)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = subprocess.run(
                [sys.executable, "-c", look],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if found.returncode == 0 and int(found.stdout.split()[-1]) >= alive:
                return
        raise TimeoutError(f"no cluster of {alive} nodes: {found.stderr[-2000:]}")

    def join(self) -> None:
        """Make this process a driver of the cluster, for all jobs that tests call in it."""
        import ray

        if not ray.is_initialized():
            ray.init(self.environment["RAY_ADDRESS"], logging_level="ERROR", log_to_driver=False)
        assert ray.get_runtime_context().gcs_address.endswith(f":{self.port}")

    def kill(self, node: "subprocess.Popen[bytes]") -> None:
        """SIGKILL to a whole node at once: raylet, workers and what they started."""
        for process in [
            *psutil.Process(node.pid).children(recursive=True),
            psutil.Process(node.pid),
        ]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        node.wait()

    def stop(self) -> None:
        for node in reversed(self.nodes):
            if node.poll() is None:
                self.kill(node)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    cpus: int,
    *flags: str,
    dashboard_port: int | None = None,
    token: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A cluster of one node, which is gone at the end with all that were added."""
    # A short path: Ray puts sockets there.
    with tempfile.TemporaryDirectory(
        prefix="ray", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        made = Cluster(free_port(), folder, token, dict(variables or {}))
        try:
            made.start_head(cpus, *flags, dashboard_port=dashboard_port)
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def cluster(s3_server: str) -> Iterator[Cluster]:
    """A head node of two CPUs that reads the session's S3 server, and has no GPU on any machine."""
    import ray

    with running(2, "--num-gpus=0", variables={"CUDA_VISIBLE_DEVICES": ""}) as made:
        yield made
        ray.shutdown()  # Ray ends a process that is left without its cluster, a minute later.


class Process(subprocess.Popen[str]):
    """One that does not outlive a test that fails or runs out of time."""

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *error)


@dataclass(frozen=True)
class Job:
    """A job's command line on a cluster."""

    script: str  # such as jobs/extract.py
    cluster: Cluster

    def start(self, *flags: object) -> Process:
        return Process(
            [sys.executable, str(ROOT / self.script), *map(str, flags)],
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, *flags: object, code: int = 0) -> str:
        """Run to the end in this process, which stays on the cluster; returns what it printed.

        Ten seconds less than ``run``: nothing is imported, joined or started again. Fails the test
        unless it exits with ``code``.
        """
        self.cluster.join()
        told = io.StringIO()
        with (
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # As in a process of its own: Ray's.
            found = exit_code(self.script, *flags)
        assert found == code, told.getvalue()
        return told.getvalue()

    def run(self, *flags: object, seconds: float = PATIENCE_SECONDS) -> str:
        """Run to the end as a process of its own; returns what it printed.

        Fails the test unless it exits with 0.
        """
        with self.start(*flags) as process:
            told, _ = process.communicate(timeout=seconds)
        assert process.returncode == 0, told
        return told


def ray_workers(
    cluster: Cluster, name: str = r"ray::\w*(MapBatches|_extract)"
) -> list[psutil.Process]:
    """The processes in which tasks of that name run, on every node."""
    found: list[psutil.Process] = []
    for node in cluster.nodes:
        if node.poll() is None:
            children = psutil.Process(node.pid).children(recursive=True)
            found += [p for p in children if re.match(name, _command(p))]
    return found


def sandboxes() -> list[psutil.Process]:
    """Every decoding process of this machine."""
    return [
        process
        for process in psutil.process_iter()
        if "vidray.distributed.sandbox" in _command(process)
    ]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_until(is_so: Callable[[], object]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def send_signal(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether the process was still there to get it."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True
