"""What a GPU does: labelling, training, and the tests that need one, in under eight minutes.

    bench/gpu.sh runs/gpu WHEELS                    # with the packages that the machine lacks
    python bench/gpu.py --parts train tests         # some of it
    python bench/gpu.py --device cpu --tiny         # a try-out, in a minute, without a GPU

Parts run one after the other, the most important first, each in a process of its own with a time
limit: one that fails or hangs costs no other its figures. Rows go to ``OUT/gpu.json`` as they come,
and what is there is not measured again: the same command once more goes on with what is missing.
At the end ``OUT/gpu.md`` holds the tables for docs/gpu.md. The parts, in their order:

label, again    videos/s and the share of time the GPU is busy: decoding alone, a plain PyTorch
                loop, predictors in float32 and bfloat16; ``again`` adds rounds, for medians
train           training steps with and without autocast, checkpointing, channels last
tests           pytest -m gpu; ``job-tests`` those of the jobs, ``transfer`` the longest one
compile         predictors with --compile; ``tensorrt`` with TensorRT, ``exits`` with early exits
job-label       jobs/label.py on Ray; ``jobs`` all commands from videos to labels
embed           bench/embed_gpu.py: how busy a GPU is while embeddings are extracted
agree, batches  logits of each precision against the CPU's; predictors by clips a batch
wait, networks  training from clip shards on disk; training steps of the other networks
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.gpu_plan import Bench, Part, chosen_parts, is_installed, lacking, settings_of, that_fit
from bench.gpu_results import LEFT_OUT, Figures, GpuResults
from bench.gpu_tables import markdown
from vidray import cli
from vidray.errors import JobError, UserError

_ROOT = Path(__file__).resolve().parents[1]
_CHILD = _ROOT / "bench/gpu_child.py"
# For the tables, and for a part that is ended to let go of the GPU, its decoders and Ray.
_RESERVE_SECONDS = 15.0
_GRACE_SECONDS = 10.0


def main(bench: Bench) -> None:
    """Measure the parts asked for, as far as the budget reaches."""
    began = bench.began or time.time()
    results = GpuResults.opened(bench.out, _machine(bench), settings_of(bench))
    print("  ".join(f"{name}: {value}" for name, value in results.machine.items()), flush=True)
    parts = [part for part in chosen_parts(bench) if _is_to_do(part, results)]
    deadline = began + bench.budget_seconds - _RESERVE_SECONDS
    _say_plan(parts, deadline - time.time())
    try:
        with tempfile.TemporaryDirectory() as folder:
            for part in parts:
                _run(part, results, Path(folder), deadline)
    finally:
        results = GpuResults.read(bench.out)
        (bench.out / "gpu.md").write_text(markdown(results))
    print(f"\n{markdown(results)}")
    _end([part.name for part in chosen_parts(bench)], results)


def _end(names: list[str], results: GpuResults) -> None:
    """Say what there is not; that a part failed is an error, that it did not fit is none."""
    state = {name: results.part(name).get("state") for name in names}
    missing = [name for name in names if state[name] in ("left out", "ended")]
    if missing:
        print("not all there: " + ", ".join(missing))
    failed = [name for name in names if state[name] == "failed"]
    if failed:
        raise JobError(f"parts that failed: {', '.join(failed)}")


def _machine(bench: Bench) -> Figures:
    """The machine, without PyTorch: this process is to hold nothing of the GPU.

    Raises:
        UserError: there is no GPU, and one is asked for.
    """
    gpu, driver = "none", "none"
    if bench.device == "cuda":
        if not shutil.which("nvidia-smi"):
            raise UserError("no NVIDIA GPU here: --device cpu --tiny tries this out without one")
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, check=False)
        if said.returncode or "," not in said.stdout:
            problem = " ".join((said.stdout + said.stderr).split())
            raise UserError(f"nvidia-smi says {problem!r}: the driver must work first")
        gpu, driver = (word.strip() for word in said.stdout.splitlines()[0].rsplit(",", 1))
    versions = {name: _version(name) for name in ("torch", "ray", "tensorrt", "av")}
    python = sys.version.split()[0]
    cpus = len(os.sched_getaffinity(0))
    return {"GPU": gpu, "driver": driver, "CPUs": cpus, "Python": python, **versions}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _is_to_do(part: Part, results: GpuResults) -> bool:
    """Whether a part has to run; why not is said, and kept unless it is done."""
    if results.part(part.name).get("state") == "done":
        print(f"{part.name}: done before")
        return False
    reason = lacking(part, is_installed)
    if reason:
        results.mark(part.name, "left out", why=reason)
        print(f"{part.name}: left out, {reason}")
    return not reason


def _say_plan(parts: list[Part], seconds: float) -> None:
    fitting = that_fit(parts, seconds)
    print(f"{seconds:.0f} s for: " + ", ".join(part.name for part in fitting))
    rest = [part.name for part in parts if part not in fitting]
    if rest:
        print("will probably not fit: " + ", ".join(rest), flush=True)


def _run(part: Part, results: GpuResults, work: Path, deadline: float) -> None:
    """Run a part in a process of its own, for as long as its limit and the budget allow."""
    left = deadline - time.time()
    print(f"\n{part.name}: {part.shows}", flush=True)
    if left < part.seconds:
        why = (
            f"it takes about {part.seconds:.0f} s, and {max(left, 0):.0f} s of the budget were left"
        )
        print(f"  left out: {why}", flush=True)
        results.mark(part.name, "left out", why=why)
        return
    limit = min(part.limit_seconds, left)
    results.mark(part.name, "begun")
    began = time.monotonic()
    with _child(part, results, work) as child:
        code = _wait(child, limit)
    seconds = time.monotonic() - began
    # The child wrote its rows, and why it failed.
    found = GpuResults.read(results.folder)
    results.machine, results.parts = found.machine, found.parts
    why = str(results.part(part.name).get("why", ""))
    if code is None:
        results.mark(part.name, "ended", seconds=seconds, why=f"ended after {limit:.0f} s")
    elif code == LEFT_OUT:
        results.mark(part.name, "left out", seconds=seconds, why=why)
    elif code:
        results.mark(part.name, "failed", seconds=seconds, why=why or f"exit status {code}")
    else:
        results.mark(part.name, "done", seconds=seconds)
    state = results.part(part.name)
    print(f"({part.name}: {state['state']} after {seconds:.1f} s {state['why']})", flush=True)


@contextlib.contextmanager
def _child(part: Part, results: GpuResults, work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, which is gone when the block ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [_ROOT, *_paths()]))}
    if results.settings["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, str(_CHILD), part.name, str(results.folder), str(work)]
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield child
    finally:
        _end_group(child)


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _wait(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Its exit status; None if it was still running after so many seconds."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End what a part started: asked first, so that Ray's processes end, too, then killed."""
    signals: list[tuple[signal.Signals, float]] = [
        (signal.SIGTERM, _GRACE_SECONDS),
        (signal.SIGKILL, _GRACE_SECONDS),
    ]
    for number, seconds in signals:
        # The group outlives its first process: decoders that hang, for one.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)


if __name__ == "__main__":
    cli.run(Bench, main)
