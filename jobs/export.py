"""A trained network -> the same for a faster runtime: ONNX, OpenVINO, TensorRT, or half precision.

    python jobs/export.py --model models/r3d --to openvino --out models/r3d_openvino
    python jobs/export.py --model models/r3d --to openvino --precision int8 --data runs/clips \\
        --out models/r3d_int8

Needs a model folder of a network (jobs/train.py, jobs/adopt.py), and the clips it was trained on to
say what int8 costs. It takes a minute or two, and for int8 some more. The new folder is a model
folder like any other: jobs/evaluate.py and jobs/label.py take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidray import cli
from vidray.export.settings import ExportSettings
from vidray.flags import Flat


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a network for another runtime."""

    model: str
    """Model folder, local or in a bucket."""
    out: str
    """Folder to write, local or in a bucket. It becomes a model folder."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    settings: Annotated[ExportSettings, Flat]


def main(config: ExportConfig) -> None:
    """Export, hold the answers against the network's, write the folder."""
    # PyTorch takes seconds to import: not before the arguments are known to be right.
    from vidray.export import console, exporting

    found = exporting.export(config.model, config.out, config.settings, overwrite=config.overwrite)
    if found is None:
        print(f"nothing to do: {config.out} holds this export")
        return
    console.print_parity(f"{config.settings.to} {config.settings.precision}", found)
    print(f"model folder {config.out}; to label: jobs/label.py --model {config.out} --videos ...")


if __name__ == "__main__":
    cli.run(ExportConfig, main)
