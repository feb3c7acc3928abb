"""What cannot be is refused before anything is read."""

import pytest

from vidray.errors import UserError
from vidray.export.settings import ExportSettings


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"to": "torch", "precision": "int8"}, "no 3D convolutions"),
        ({"to": "torch"}, "what the folder is already"),
        ({"to": "onnx", "precision": "bfloat16"}, "no convolutions of it on a CPU"),
        ({"to": "onnx", "ranges": "dynamic"}, "--ranges has no effect on float32"),
        ({"to": "onnx", "calibration_clips": 9}, "--calibration-clips has no effect on float32"),
        ({"to": "onnx", "least_agreement": 1.5}, "least_agreement is 1.5: it must be 0 to 1"),
        ({"to": "onnx", "compared_clips": 0}, "compared_clips is 0"),
        (
            {"to": "tensorrt", "precision": "int8", "ranges": "dynamic"},
            "TensorRT knows calibrated ranges only",
        ),
    ],
)
def test_a_wrong_flag_is_one_line(flags: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        ExportSettings(**flags)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
