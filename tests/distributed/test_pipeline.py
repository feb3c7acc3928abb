"""The Ray graph, as far as it needs no cluster."""

import subprocess
import sys

import pytest

from tests.ray_cluster import ROOT


@pytest.mark.slow
def test_ray_data_says_nothing_of_its_own() -> None:
    """Importing it sets its loggers up anew: what is set before is lost."""
    code = (
        "import sys, logging; from vidray.distributed import pipeline; "
        "assert 'ray.data' not in sys.modules; data = pipeline.import_ray_data().data; "
        "data.DataContext.get_current(); "
        "print(logging.getLogger('ray.data._internal').getEffectiveLevel())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "50"
