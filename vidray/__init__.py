"""vidray: a bucket of videos in, features and labels out, on Ray."""

__version__ = "0.1.0"
