"""Help and mistakes come at once: before PyTorch, scikit-learn and Ray are imported."""

import subprocess
import sys

import pytest

from tests.command_lines import ROOT

JOBS = ("train", "evaluate", "study")
_HEAVY = ("torch", "sklearn", "ray", "pyarrow", "matplotlib", "cv2", "numpy")
_TRAIN = ("--data", "x", "--out", "y")


def _run(job: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    """The job, which prints the heavy modules that it has imported when it exits."""
    code = (
        "import atexit, runpy, sys; "
        f"atexit.register(lambda: print('heavy:', *[n for n in {_HEAVY} if n in sys.modules])); "
        f"sys.argv = ['{job}.py', *{flags}]; "
        f"runpy.run_path('{ROOT}/jobs/{job}.py', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("job", "flags", "message"),
    [
        ("train", ("--model", "extra_tree", *_TRAIN), "did you mean extra_trees?"),
        ("train", ("--model", "svm", "--folds", "1", *_TRAIN), "folds is 1: it must be 2 or more"),
        ("train", ("--model", "svm", "--repeats", "0", *_TRAIN), "repeats is 0"),
        ("train", ("--model", "svm", "--epochs", "3", *_TRAIN), "--epochs has no effect on svm"),
        ("train", ("--model", "svm", "--tensorboard", *_TRAIN), "--tensorboard has no effect on"),
        ("train", ("--model", "c3d", "--folds", "3", *_TRAIN), "--folds has no effect on c3d"),
        ("train", ("--model", "c3d", "--workers", "0", *_TRAIN), "workers is 0"),
        (
            "train",
            ("--model", "c3d", "--families", "color", *_TRAIN),
            "--families has no effect on c3d",
        ),
        (
            "train",
            ("--model", "svm", "--teacher", "t", *_TRAIN),
            "--teacher has no effect on svm",
        ),
        (
            "train",
            ("--model", "c3d", "--distill-share", "0.5", *_TRAIN),
            "--distill-share has no effect without --teacher",
        ),
        (
            "train",
            ("--model", "c3d", "--teacher", "t", "--distill-temperature", "-1", *_TRAIN),
            "distill_temperature is -1.0: it must be above 0",
        ),
        ("study", ("--models", "svm", "--out", "y"), "svm learns from features: give --features"),
        (
            "study",
            ("--models", "svm", "--features", "x", "--out", "y", "--folds", "1"),
            "folds is 1",
        ),
        (
            "evaluate",
            ("--model", "m", "--data", "x", "--out", "y", "--timed-videos", "-1"),
            "timed_videos is -1",
        ),
    ],
)
def test_mistakes_are_found_before_anything_heavy_is_imported(
    job: str, flags: tuple[str, ...], message: str
) -> None:
    done = _run(job, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "heavy:\n"
