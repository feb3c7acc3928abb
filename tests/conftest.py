"""What every test shares: a bucket, a Ray cluster, untouched random generators, ``gpu``."""

import os
import random
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

pytest_plugins = ["tests.s3", "tests.ray_cluster"]

# The same examples on every run, and no deadline: two slow cores must not fail a true property.
settings.register_profile("vidray", derandomize=True, deadline=None)
settings.load_profile("vidray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need a cluster take minutes: they come first, and short ones fill the gaps."""
    long = {item.path for item in items if "cluster" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in long)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out tests marked ``gpu`` where there is no NVIDIA driver, unless they are required."""
    if not item.get_closest_marker("gpu") or shutil.which("nvidia-smi"):
        return
    if os.environ.get("VIDRAY_REQUIRE_GPU") == "1":
        pytest.fail("VIDRAY_REQUIRE_GPU=1, and this machine has no NVIDIA GPU")
    pytest.skip("needs an NVIDIA GPU")


@pytest.fixture(autouse=True)
def _same_random_state() -> Iterator[None]:
    """Put the global generators back after each test, so that no test depends on the one before."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
