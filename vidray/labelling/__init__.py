"""The nightly labels: what is left to do, one video's label, and the table that is committed."""

from vidray.labelling.commits import read_labels

__all__ = ["read_labels"]
