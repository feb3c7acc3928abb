"""Chapters on what the figures mean: strengths, limits, robustness."""
