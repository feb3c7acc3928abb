"""Untrusted videos in a child process: one that crashes, hangs or eats memory costs one row.

Ray retries a task whose process dies for ever; here the child dies instead, and the caller gets a
``VideoError``. Requests go down as JSON and results come back as Arrow IPC: nothing is unpickled,
so that a decoder taken over by a hostile file has no short way into the caller.

On its way to a result the child may ask the caller something (clips: what does the network say of
them?), as often as it wants; questions and answers are Arrow IPC, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidray.errors import Cap, JobError, UserError, VideoError

JsonValues = dict[str, Any]  # what JSON can hold
ChildWork = Callable[[JsonValues], pa.RecordBatch]
Ask = Callable[[pa.RecordBatch], pa.RecordBatch]

# Imports take 2 s, or 10 with PyTorch; compiling a network one minute, or several of a transformer.
_START_SECONDS = 600.0
# A crash may be the machine's fault (out of memory, an operator's kill): one more try shows it.
_ATTEMPTS = 2
_MOST_RESULT_BYTES = 1 << 30
# Exit status of a child whose work ran out of memory.
_OUT_OF_MEMORY = 77
# A library that gets no memory while it is imported may say anything: with memory this full, that
# is the cause.
_NEARLY_ALL = 0.9
# The first byte of what a child sends.
_RESULT, _QUESTION, _READY, _REFUSAL, _FAILURE = b"=", b"?", b"+", b"-", b"!"


class Sandbox:
    """A child process that works on one request after another; made again whenever it dies.

    Args:
        target: ``module:function``; ``function(config)`` gives the ``ChildWork`` that the child
            does, or ``function(config, ask)`` of a child that asks.
        config: JSON values handed to it.
        asks: the child is given ``ask``; ``run`` then needs somebody who answers.
        memory_bytes: cap on the child's data (Linux ``RLIMIT_DATA``: heap and private mappings).
        timeout_seconds: cap on one request.
    """

    def __init__(
        self,
        target: str,
        config: JsonValues,
        *,
        memory_bytes: int,
        timeout_seconds: float,
        asks: bool = False,
    ) -> None:
        self._target = target
        self._asks = asks
        self._config = config
        self._memory_bytes = memory_bytes
        self._timeout_seconds = timeout_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._results = -1

    def start(self) -> None:
        """Start the child now, unless it runs already: its imports take 1 to 2 seconds.

        Raises:
            UserError: the target refuses its config.
            JobError: it fails.
        """
        if self._child is not None:
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start()
                return
            except (TimeoutError, _ChildDiedError) as error:
                self.close()
                # Killed (by an operator, or for the machine's memory): one more try shows it.
                if attempt < _ATTEMPTS and isinstance(error, _ChildDiedError) and error.code < 0:
                    continue
                why = str(error) or f"not ready after {_START_SECONDS:g} seconds"
                allowed = f"{self._memory_bytes / 2**30:.3g} GiB"
                message = f"the decoding process, allowed {allowed}, does not start: {why}"
                raise JobError(message) from error

    def cpu_wait_seconds(self) -> float:
        """Seconds for which the child was ready to run and had no CPU, since it began, all its
        threads together; 0 where the kernel does not say.
        """
        if self._child is None:
            return 0.0
        waited = 0
        for file in Path(f"/proc/{self._child.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError, IndexError):  # It has just ended.
                waited += int(file.read_text().split()[1])
        return waited / 1e9

    def run(self, request: JsonValues, answer: Ask | None = None) -> pa.RecordBatch:
        """The child's result for ``request``.

        Args:
            answer: answers the questions of a child that asks; its time is not the video's.

        Raises:
            VideoError: timeout; out_of_memory; crashed, after a second try in a fresh process.
            UserError: the target refuses its config, or all further work: the user must fix it.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            self.start()  # What keeps the child from starting is no fault of the video's.
            try:
                return self._try(request, answer)
            except _ChildDiedError as death:
                self.close()
                if death.code == _OUT_OF_MEMORY:
                    allowed = f"{self._memory_bytes / 2**30:.3g} GiB"
                    message = f"needs more memory than the {allowed} one worker is allowed"
                    cap = Cap("memory_bytes", self._memory_bytes)
                    raise VideoError("out_of_memory", message, cap=cap) from None
                if attempt == _ATTEMPTS:
                    message = f"the decoding process died {attempt} times ({death})"
                    raise VideoError("crashed", message) from None
            except TimeoutError:
                self.close()
                message = f"not finished after {self._timeout_seconds:g} seconds"
                cap = Cap("timeout_seconds", self._timeout_seconds)
                raise VideoError("timeout", message, cap=cap) from None
        raise AssertionError("unreachable")

    def _try(self, request: JsonValues, answer: Ask | None) -> pa.RecordBatch:
        self._send(json.dumps(request).encode())
        left_seconds = self._timeout_seconds
        while True:
            began = time.monotonic()
            kind, payload = self._read(left_seconds)
            left_seconds -= time.monotonic() - began
            if kind == _REFUSAL:
                raise UserError(_text(payload))
            batch = _deserialise(payload)
            if kind != _QUESTION:
                return batch
            try:
                if answer is None:
                    raise RuntimeError(f"{self._target} asks, and nobody answers")
                reply = answer(batch)
            except BaseException:
                self.close()  # It waits for an answer, and would take the next request for one.
                raise
            self._send(_serialise(reply))

    def _send(self, data: bytes) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            _write(self._child.stdin.fileno(), data)
        except BrokenPipeError:
            raise self._death() from None

    def _start(self) -> None:
        results, child_end = os.pipe()
        # -P: nothing is imported from the current folder, which may be full of somebody's files.
        command = [
            sys.executable,
            "-P",
            "-m",
            "vidray.distributed.sandbox",
            self._target,
            str(child_end),
        ]
        home = str(Path(__file__).resolve().parents[2])  # where this vidray is imported from
        path = os.pathsep.join([*(entry for entry in sys.path if entry), home])
        one_thread = {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            # PyTorch's compiler would start a process for each of the machine's cores.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "TORCH_WARM_POOL": "0",
        }
        self._child = subprocess.Popen(
            [*command, str(self._memory_bytes), *(["asks"] if self._asks else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # FFmpeg and codecs chat; what matters comes back as a row.
            stderr=subprocess.DEVNULL,
            pass_fds=(child_end,),
            env={**os.environ, **one_thread, "PYTHONPATH": path},
        )
        os.close(child_end)
        self._results = results
        self._poll = select.poll()  # Not select(): Ray workers may hold over 1,024 descriptors.
        self._poll.register(results, select.POLLIN)
        self._send(json.dumps(self._config).encode())
        kind, said = self._read(_START_SECONDS)
        if kind != _READY:
            self.close()
            if kind == _REFUSAL:
                raise UserError(_text(said))
            raise JobError(f"{self._target} cannot start: {_text(said)}")

    def _read(self, seconds: float) -> tuple[bytes, memoryview]:
        """Read the next message: its kind and its content."""
        deadline = time.monotonic() + seconds
        (size,) = struct.unpack("<Q", self._read_exactly(8, deadline))
        if size > _MOST_RESULT_BYTES:
            # No row is so long: the child's memory is corrupt.
            raise _ChildDiedError(-int(signal.SIGABRT))
        return self._read_exactly(1, deadline), memoryview(self._read_exactly(size, deadline))

    def _read_exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray(size)
        missing = memoryview(data)
        while missing:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise TimeoutError
            got = os.readv(self._results, [missing])
            if not got:
                raise self._death()
            missing = missing[got:]
        return bytes(data)

    def _death(self) -> _ChildDiedError:
        assert self._child is not None
        return _ChildDiedError(self._child.wait())

    def close(self) -> None:
        """End the child, at once."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            assert self._child.stdin is not None
            self._child.stdin.close()
            os.close(self._results)
            self._child = None


class _ChildDiedError(Exception):
    def __init__(self, code: int) -> None:
        names = {-number: number.name for number in signal.Signals}
        super().__init__(names.get(code, f"exit status {code}"))
        self.code = code


def _write(descriptor: int, data: bytes, kind: bytes = b"") -> None:
    for part in (struct.pack("<Q", len(data)) + kind, data):
        message = memoryview(part)
        while message:
            message = message[os.write(descriptor, message) :]


def _read_message() -> bytes | None:
    header = sys.stdin.buffer.read(8)
    if len(header) < 8:
        return None  # The parent has gone.
    return sys.stdin.buffer.read(struct.unpack("<Q", header)[0])


def _text(payload: bytes | memoryview) -> str:
    return " ".join(bytes(payload).decode(errors="replace").split())


def _serialise(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _deserialise(payload: bytes | memoryview) -> pa.RecordBatch:
    with pa.ipc.open_stream(payload) as reader:
        batch = reader.read_next_batch()
    batch.validate(full=True)
    return batch


def _die_with_parent() -> None:
    """Let the kernel kill this process with its parent: a hung decoder can't notice (Linux)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _cannot_start(error: Exception, memory_bytes: int) -> tuple[bytes, bytes]:
    """The message for the parent, and whether it is a refusal, which the user can fix."""
    if isinstance(error, UserError):
        return _encoded(str(error)), _REFUSAL
    if _is_out_of_memory(error) or _data_bytes() > _NEARLY_ALL * memory_bytes:
        allowed = f"{memory_bytes / 2**30:.3g} GiB"
        return _encoded(
            "a worker needs more memory to start, for its libraries and the model if there is "
            f"one, than the {allowed} it is allowed: raise --memory-gib"
        ), _REFUSAL
    return _encoded(f"{type(error).__name__}: {error}"), _FAILURE


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _data_bytes() -> int:
    """Bytes that RLIMIT_DATA counts of this process (Linux)."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether lack of memory is the cause; libraries say it in many ways."""
    said = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or any(text in said for text in ("allocate memory", "failed to map segment", "bad_alloc"))
    )


def find(target: str) -> Callable[..., Any]:
    """The function of ``module:function``."""
    module, function = target.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _child_main(target: str, results: int, memory_bytes: int, *, asks: bool) -> None:
    def ask(question: pa.RecordBatch) -> pa.RecordBatch:
        _write(results, _serialise(question), _QUESTION)
        answer = _read_message()
        if answer is None:
            sys.exit()  # The parent has gone.
        return _deserialise(answer)

    _die_with_parent()
    # Before anything is loaded: a model is input, too.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    # A crash is a row, not a core file of gigabytes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config = _read_message()
    if config is None:
        return
    given = [json.loads(config), *([ask] if asks else [])]
    try:
        work: ChildWork = find(target)(*given)
    except Exception as error:
        _write(results, *_cannot_start(error, memory_bytes))
        raise
    _write(results, b"", _READY)
    while (message := _read_message()) is not None:
        try:
            result = _serialise(work(json.loads(message)))
        except MemoryError:
            os._exit(_OUT_OF_MEMORY)  # The rest of this heap is unreliable.
        except UserError as error:  # No row: the same would be said of any other request.
            _write(results, _encoded(str(error)), _REFUSAL)
        else:
            _write(results, result, _RESULT)


if __name__ == "__main__":
    _child_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), asks="asks" in sys.argv[4:])
