"""A real S3 server over HTTP for the tests (moto), and the same server behind a fault injector.

Loaded as a plugin by ``conftest.py`` (``pytest_plugins = ("tests.s3",)``). Both servers run in
threads of the test process and share one set of buckets; other processes (Ray workers, decoders)
reach them through the environment, which is set for as long as the session lasts.
"""

import contextlib
import random
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",  # a developer's own profile must not reach the tests
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server that runs, and is in the environment, until the session ends."""
    from moto.server import ThreadedMotoServer  # here: a machine for the tests of a GPU lacks it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": address}).items():
            patch.setenv(name, value)
        yield address
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str) -> str:
    """A fresh, empty bucket: ``s3://bucket-…``."""
    import s3fs  # here: it costs a second, and most tests need no bucket

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir(name)
    return f"s3://{name}"


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder, then an empty bucket: the same test runs on both."""
    if request.param == "folder":
        return str(tmp_path)
    bucket: str = request.getfixturevalue("s3_bucket")
    return bucket


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match."""

    method: str
    contains: str  # in path?query
    times: int
    status: str = "503 Service Unavailable"
    action: str = "refuse"  # refuse: answer `status`; cut: half a body; lose: do it, then `status`


@dataclass
class FaultyServer:
    """An S3 server that fails on demand, and the requests that it has seen."""

    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    share: float = 0.0  # of all requests, that fail beside those
    failed: int = 0
    requests: list[str] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method: str, contains: str, times: int, **how: str) -> None:
        """Let the next ``times`` requests of this method and address fail."""
        self.faults.append(Fault(method, contains, times, **how))

    def next_fault(self, method: str, target: str) -> Fault | None:
        """The fault that this request meets, counted down."""
        with self.lock:
            self.requests.append(f"{method} {target}")
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.contains in target:
                    fault.times -= 1
                    return fault
            if self.rng.random() < self.share:
                self.failed += 1
                # Half of a body is for what has one.
                ways = ["refuse", "lose", *(["cut"] if method == "GET" else [])]
                return Fault(method, "", 0, action=self.rng.choice(ways))
        return None


class _Quiet(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        """Requests are kept in ``FaultyServer.requests``, not printed."""


def _with_faults(application: Any, faulty: FaultyServer) -> Any:
    """WSGI middleware that answers in the server's place when a fault is due."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        target = f"{environ.get('PATH_INFO', '')}?{environ.get('QUERY_STRING', '')}"
        fault = faulty.next_fault(environ["REQUEST_METHOD"], target)
        if fault is None:
            whole: Iterable[bytes] = application(environ, start_response)
            return whole
        if fault.action == "cut":
            body = b"".join(application(environ, start_response))
            return iter([body[: len(body) // 2]])  # shorter than the Content-Length promised
        if fault.action == "lose":
            b"".join(application(environ, lambda *_: lambda _: None))
        start_response(fault.status, [("Content-Length", "0")])
        return [b""]

    return answer


@contextlib.contextmanager
def serving() -> Iterator[FaultyServer]:
    """Buckets of this process behind a server that fails on demand."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    faulty = FaultyServer()
    application = _with_faults(DomainDispatcherApplication(create_backend_app), faulty)
    server: BaseWSGIServer = make_server("127.0.0.1", 0, application, True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    faulty.address = f"http://127.0.0.1:{server.server_port}"
    yield faulty
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def faulty_s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """The same buckets behind a server that fails on demand; the environment points to it.

    A request is sent at most twice (``AWS_MAX_ATTEMPTS``), so a test of a lasting fault is quick.
    """
    with serving() as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        yield faulty
