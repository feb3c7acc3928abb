"""How good a model is, how sure that is, what it costs, and how models compare."""

from vidray.evaluation.metrics import compute_metrics

__all__ = ["compute_metrics"]
