"""A pre-training: done, and written as a folder of ``transformers``, which begins models.

config.json  model.safetensors  preprocessor_config.json  history.json  curve.png
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import safetensors.torch
from torch import Tensor

from vidray import storage
from vidray.evaluation.teaching import Taught, taught, train_network
from vidray.learning.deep_job import DeepJob
from vidray.learning.epochs import OnRows, best_epoch
from vidray.learning.examples import Examples
from vidray.learning.train_config import Workers
from vidray.models import transformers_config
from vidray.models.preprocess import Preprocessing
from vidray.storage.json_file import write_json
from vidray.tables import versions
from vidray.tables.run_folder import Kind, RunFolder


@dataclass(frozen=True, kw_only=True)
class PretrainingLesson:
    """A network that learns to make up what is hidden of clips.

    Args:
        job: what decides its weights.
        examples: clips, labelled or not.
        workers: who trains.
        on_rows: called after each epoch with the rows so far (``EpochRow`` as dicts).
    """

    job: DeepJob
    examples: Examples
    workers: Workers
    on_rows: OnRows

    libraries = (*versions.DEEP, "transformers")
    kind: ClassVar[Kind] = "pretraining"

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.job.network["name"])

    def deciding(self) -> dict[str, Any]:
        """All settings that the weights depend on, beside the data."""
        return self.job.deciding()

    def check(self) -> None:
        """Do nothing: a clip is enough."""

    def teach(self, run: RunFolder) -> Taught:
        """Pre-train or resume, and fill the folder."""
        _, trained, seconds = train_network(self.job, self.workers, run, self.on_rows)
        save(run.out, self.job, trained.state)
        best = trained.rows[best_epoch(trained.rows, self.job.training)]
        metrics = {"val": None, "best_epoch": best.epoch, "val_loss": best.val_loss}
        return taught(run, metrics, trained, seconds)


def save(out: str, job: DeepJob, state: Mapping[str, Tensor]) -> None:
    """Write the weights of ``job`` as ``transformers`` would, and how clips are fed to them."""
    from vidray.models.networks.videomae_pretraining import published_state

    named = transformers_config.VIDEOMAE.get(job.network["name"])
    config = named or transformers_config.from_json(job.network["config"])
    sized = config.resized(job.network["frames"], job.network["size_px"])  # type: ignore[union-attr]
    values = {**dataclasses.asdict(sized), "use_mean_pooling": False}
    write_json(
        storage.join(out, "config.json"),
        {"architectures": ["VideoMAEForPreTraining"], "model_type": "videomae", **values},
    )
    write_json(storage.join(out, "preprocessor_config.json"), _processor(job.preprocessing))
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in published_state(state).items()
    }
    data = safetensors.torch.save(tensors, {"format": "pt"})
    storage.write_bytes(storage.join(out, "model.safetensors"), data)


def _processor(preprocessing: Preprocessing) -> dict[str, Any]:
    side = preprocessing.size_px
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": preprocessing.mean,
        "image_std": preprocessing.std,
    }
