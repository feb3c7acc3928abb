"""What tests have in common: a bucket, a Ray cluster, random generators, what is left out where."""

import os
import random
import signal
import sys
from collections.abc import Iterator

# Before NumPy and PyTorch start threads. Of two test processes on two cores with two threads each,
# threads spin while they wait for those of the other: 10 s became 46 s.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.shared_data import DATA

pytest_plugins = ["tests.gpu_marks", "tests.s3", "tests.ray_cluster"]

# Whoever started the tests in the background, or by nohup, had these ignored, and so would have
# the jobs that tests start and interrupt.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# The same examples on every run, and no deadline: two slow cores must not fail a true property.
settings.register_profile("vidray", derandomize=True, deadline=None)
settings.load_profile("vidray")


# Files with tests of jobs on a cluster. One process begins with the first ones while the other runs
# all that needs none, and then the last ones: two clusters from the beginning choke two cores.
_FIRST = ("test_extract_job.py", "test_train_job.py", "test_label_job.py", "test_ends.py")
_LAST = (
    "test_readme.py", "test_search_job.py", "test_submit_job.py", "test_study.py", "test_signed.py",
)  # fmt: skip


_WITH_RAY = {"cluster", "dashboard"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files of either kind come first; what uses a cluster is slow."""

    def place(item: pytest.Item) -> tuple[int, int]:
        for number, files in enumerate((_FIRST, _LAST)):
            if item.path.name in files:
                return 2 * number, files.index(item.path.name)
        return 1, 0

    items.sort(key=place)
    for item in items:
        if _WITH_RAY & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


class _OneClusterFirst(LoadFileScheduling):  # type: ignore[misc]
    """What ``--dist loadfile`` does, but the first files of the cluster go to one process."""

    def _split_scope(self, nodeid: str) -> str:
        path: str = super()._split_scope(nodeid)
        return "cluster" if path.endswith(_FIRST) else path


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """Asked by pytest-xdist; its own ``xdist_group`` does nothing under pytest 9."""
    return _OneClusterFirst(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out tests of what is not here: the shared data. ``gpu_marks`` has those of a GPU."""
    if item.get_closest_marker("shared") and not DATA.is_dir():
        pytest.skip("needs ../shared/data, which lies beside the developers' checkout")


@pytest.fixture(autouse=True)
def _same_random_state() -> Iterator[None]:
    """Put the global generators back after each test, so that no test depends on the one before."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Put PyTorch's number of threads back: a label job in this process takes one, and the last
    bit of a sum depends on it. Tests without PyTorch do not import it.
    """
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)
