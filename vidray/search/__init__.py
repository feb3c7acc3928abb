"""Hyperparameter search: proposals, one trial, all trials on Ray, the winners."""
