"""Weights: where they come from, and how a file of them is read."""
