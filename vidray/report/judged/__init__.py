"""Chapters on judged models: compared, their costs, each by itself."""
