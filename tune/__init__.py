"""Hyperparameter search: the command, and the spaces it searches."""
