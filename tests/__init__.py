"""Tests: one file for each module, beside what makes their videos and their bucket."""
