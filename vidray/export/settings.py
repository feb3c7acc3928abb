"""Settings of an export, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from vidray.models.names import ExportPrecision, Runtime


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What runs the network, and in which number format."""

    to: Runtime
    """Runtime to export for."""
    precision: ExportPrecision = "float32"
    """Number format in which a deep model computes. The fastest is int8, which is calibrated
    on clips of split train."""
