"""Settings of an export, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from vidray.errors import UserError
from vidray.models.names import NOT_OFFERED, ExportPrecision, Ranges, Runtime


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What runs the network, in which number format, and how far its answers may differ."""

    to: Runtime
    """Runtime to export for."""
    precision: ExportPrecision = "float32"
    """Number format in which a deep model computes. That of the export's weights, too."""
    data: str | None = None
    """Finished run of jobs/extract.py for classical models, of jobs/clips.py for deep ones. Clips
    of split train give the ranges for int8; on those of
    split val the network and its export are compared. If not given, made clips are compared."""
    ranges: Ranges | None = None
    """Where int8 takes the ranges of its inputs from: calibrated ones are fixed beforehand, of
    clips; dynamic ones are measured in each forward pass, for linear layers only. If not given,
    dynamic for transformers and calibrated for other networks."""
    calibration_clips: int | None = None
    """Clips that calibrated ranges are taken of. If not given, 128."""
    compared_clips: int = 200
    """Clips at the most on which the network and its export are compared."""
    least_agreement: float = 0.99
    """Share of the compared clips that must keep their label; below it nothing is exported. For
    int8, layers are left in float until it is reached."""

    def __post_init__(self) -> None:
        if why := NOT_OFFERED.get((self.to, self.precision)):
            raise UserError(f"--to {self.to} --precision {self.precision} is not offered: {why}")
        if not 0 <= self.least_agreement <= 1:
            raise UserError(f"least_agreement is {self.least_agreement}: it must be 0 to 1")
        for name in ("calibration_clips", "compared_clips"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 100_000:
                raise UserError(f"{name} is {value}: it must be 1 to 100000")
        for name in ("ranges", "calibration_clips"):
            if self.precision != "int8" and getattr(self, name) is not None:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} has no effect on {self.precision}: leave it out")
        if self.to == "tensorrt" and self.ranges == "dynamic":
            raise UserError("TensorRT knows calibrated ranges only: leave --ranges out")
