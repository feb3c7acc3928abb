"""Frames of videos for the page, decoded in child processes."""
