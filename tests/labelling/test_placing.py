"""Where networks run: runtimes of CPUs, of GPUs, and flags that are none for them."""

from __future__ import annotations

from typing import Any

import pytest

from vidray.distributed.resources import PredictorChoice
from vidray.errors import UserError
from vidray.labelling.placing import predictors_for


def network(runtime: str | None) -> dict[str, Any]:
    exported = {} if runtime is None else {"exported": {"to": runtime}}
    return {"name": "m", **exported}


@pytest.mark.parametrize(
    ("runtime", "given", "placed"),
    [
        (None, (None, None), (None, None)),
        ("torch", (2, 0.5), (2, 0.5)),
        # A cluster's GPUs are none of OpenVINO's: without a word about them they stay free.
        ("openvino", (None, None), (0, 0.0)),
        ("openvino", (2, None), (2, 0.0)),
        ("openvino", (1, 0.0), (1, 0.0)),
        ("onnx", (None, None), (0, 0.0)),
        ("onnx", (None, 1.0), (None, 1.0)),
        ("tensorrt", (None, None), (None, 1.0)),
        ("tensorrt", (2, 0.5), (2, 0.5)),
    ],
)
def test_each_runtime_has_its_place(
    runtime: str | None,
    given: tuple[int | None, float | None],
    placed: tuple[int | None, float | None],
) -> None:
    choice = PredictorChoice(predictors=given[0], gpus_per_predictor=given[1])
    found = predictors_for(choice, network(runtime))
    assert (found.predictors, found.gpus_per_predictor) == placed


@pytest.mark.parametrize(
    ("runtime", "given", "told"),
    [
        ("openvino", (None, 1.0), "--gpus-per-predictor has no effect on m, which OpenVINO runs"),
        ("tensorrt", (0, None), "runs on GPUs, in predictors"),
        ("tensorrt", (1, 0.0), "runs on GPUs, in predictors"),
    ],
)
def test_a_place_where_it_cannot_run_is_refused(
    runtime: str, given: tuple[int | None, float | None], told: str
) -> None:
    choice = PredictorChoice(predictors=given[0], gpus_per_predictor=given[1])
    with pytest.raises(UserError, match=told):
        predictors_for(choice, network(runtime))
