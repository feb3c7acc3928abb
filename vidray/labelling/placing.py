"""Where a network can run: which predictors there may be beside the workers. No Ray here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vidray.distributed.resources import PredictorChoice
from vidray.errors import UserError
from vidray.models.exported.description import runtime_of


def predictors_for(choice: PredictorChoice, network: Mapping[str, Any]) -> PredictorChoice:
    """The choice where a network's runtime has a say: OpenVINO runs on CPUs and TensorRT on GPUs,
    and ONNX Runtime on GPUs only if that is asked for.

    Args:
        network: its model.json.

    Raises:
        UserError: the choice is none for the runtime.
    """
    runtime, name = runtime_of(network), network["name"]
    if runtime == "torch":
        return choice
    if runtime == "tensorrt":
        if choice.predictors == 0 or choice.gpus_per_predictor == 0:
            raise UserError(
                f"{name} was exported to tensorrt, which runs on GPUs, in predictors: leave "
                "--predictors and --gpus-per-predictor out, or export to openvino"
            )
        return dataclasses.replace(choice, gpus_per_predictor=choice.gpus_per_predictor or 1.0)
    if choice.gpus_per_predictor and runtime == "openvino":
        raise UserError(
            f"--gpus-per-predictor has no effect on {name}, which OpenVINO runs on CPUs: leave it "
            "out, or export to tensorrt"
        )
    if choice.gpus_per_predictor:
        return choice
    # Given as 0, not left out: a GPU that the cluster may have would only wait.
    return dataclasses.replace(choice, predictors=choice.predictors or 0, gpus_per_predictor=0.0)
