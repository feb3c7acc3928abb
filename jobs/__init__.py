"""The commands: each file is a config and a ``main`` that calls the library and prints."""
