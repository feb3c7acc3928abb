"""Published weights -> a model folder, ready for jobs/label.py: nothing is trained.

    python jobs/adopt.py --model mvit_v2_s --out models/kinetics
    python jobs/adopt.py --model r3d_18 --weights r3d.pth --classes names.txt --out models/mine
    python jobs/adopt.py --model hf:openai/clip-vit-base-patch32 --words classes.txt --out models/w

Needs no data. The folder knows the classes that the weights tell apart, or those that a list of
labels makes of them, and cuts clips as the weights were trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidray import cli
from vidray.flags import Flat
from vidray.models.adopt_settings import AdoptSettings


@dataclass(frozen=True, kw_only=True)
class AdoptConfig:
    """Make a model folder of published weights."""

    model: str
    """Name of a deep model, such as mvit_v2_s, or hf:OWNER/NAME[@REVISION] or hf:FOLDER of the
    package transformers; a wrong name lists all of them."""
    out: str
    """Folder to write, local or in a bucket. It becomes a model folder."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    settings: Annotated[AdoptSettings, Flat] = field(default_factory=AdoptSettings)


def main(config: AdoptConfig) -> None:
    """Find the weights and the names of their classes, try the network, write the folder."""
    # PyTorch takes seconds to import: not before the arguments are known to be right.
    from vidray.models import adoption

    adopted = adoption.adopt(config.model, config.out, config.settings, overwrite=config.overwrite)
    print(adopted)
    print(f"model folder {config.out}; to label: jobs/label.py --model {config.out} --videos ...")


if __name__ == "__main__":
    cli.run(AdoptConfig, main)
