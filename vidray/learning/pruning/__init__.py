"""Structured pruning: whole channels of a trained network are removed, and it is fine-tuned.

settings: the flag; groups: which channels go together; importance: what each is worth; choice: how
many go; start: the network that the training begins with, decided once and stored.
"""
