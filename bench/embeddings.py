"""Accuracy of flow, of a frozen network's embedding, and of both, on recordings never seen.

    python bench/embeddings.py --videos LIST.csv --out runs/embeddings

LIST names videos of two classes or more with a column group. The network is EfficientNet-Lite0 of
ImageNet (extra lite). By the commands of vidray: adopt, extract --families flow --embed, and for
each set of families and each model one train, whose cross-validation (5 folds that never split a
recording, 3 repeats) judges every video by models that saw none of its recording. Nothing is
tuned: models have their defaults. Beside them is how long a video takes: its flow, its embedding.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

_ROOT = Path(__file__).resolve().parents[1]
_SETS = (("flow",), ("embedding",), ("flow", "embedding"))
_MODELS = ("extra_trees", "logistic_regression")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Judge embeddings as features."""

    videos: str
    """Videos, labelled, with recordings."""
    out: Path = Path("runs/embeddings")
    """Folder for the runs; what is finished in it is not done again."""
    network: str = "efficientnet_lite0_avg"
    """Deep model with published weights."""


def main(bench: Bench) -> None:
    """Make the network, the features and the models; print a row for each."""
    network, data = bench.out / "network", bench.out / "features"
    _run("jobs/adopt.py", "--model", bench.network, "--out", network)
    _run("jobs/extract.py", "--videos", bench.videos, "--out", data,
         "--families", "flow", "--embed", network)  # fmt: skip
    print(f"{'features':18s}{'model':22s}accuracy  95 %           AUC    seconds of training")
    for families in _SETS:
        for model in _MODELS:
            out = bench.out / f"{'_'.join(families)}_{model}"
            fractions = ("--split-fractions", "0.98", "0.01", "0.01")
            _run("jobs/train.py", "--data", data, "--model", model, "--out", out,
                 "--families", *families, *fractions)  # fmt: skip
            _print_row(out, families, model)
    seconds = json.loads((data / "run.json").read_text())["seconds"]
    print({name: round(value, 1) for name, value in seconds.items()})


def _run(script: str, *flags: object) -> None:
    command = [sys.executable, str(_ROOT / script), *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _print_row(out: Path, families: tuple[str, ...], model: str) -> None:
    found = json.loads((out / "metrics.json").read_text())["cross_validation"]
    low, high = found["repeats"][0]["intervals"]["accuracy"]
    seconds = json.loads((out / "run.json").read_text())["seconds"]["training"]
    print(
        f"{' + '.join(families):18s}{model:22s}{found['accuracy']:.3f}     "
        f"{low:.3f} to {high:.3f} {found['macro_auc']:.3f}  {seconds:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Bench))
