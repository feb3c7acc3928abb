"""Networks for clips: an architecture a file, built by name."""
