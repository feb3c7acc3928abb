"""Chapters that look inside: mistakes, reasons, maps."""
