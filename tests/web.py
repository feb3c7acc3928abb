"""A web server for the tests that hands files over to who knows the signature, and may refuse."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SIGNATURE = "s3cr3t/Sign+ature="


class _Handler(BaseHTTPRequestHandler):
    server: "Web"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        # As storages do: a signature is of one method.
        self.send_error(403)

    def _answer(self, *, with_body: bool) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        name = query.get("v", [unquote(address.path).lstrip("/")])[0]
        self.server.asked.append(self.path)
        if query.get("X-Amz-Signature") != [SIGNATURE]:
            self.send_error(self.server.refusal)
            return
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        begin, end = 0, len(data)
        if "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            begin, end = int(first), min(end, int(last) + 1)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("ETag", f'"{len(data)}-{name}"')
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asks for the size reads no body
            self.wfile.write(data[begin:end])

    def log_message(self, *args: object) -> None:
        """Requests are kept in ``Web.asked``, not printed."""


class Web(ThreadingHTTPServer):
    """Serves the files of a folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []
        self.refusal = 403

    @property
    def address(self) -> str:
        """``http://127.0.0.1:1234``."""
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """A server of the folder, until the block ends."""
    web = Web(folder)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield web
    web.shutdown()
    web.server_close()
    thread.join()
