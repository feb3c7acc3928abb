"""Learning: examples by split, the training loop, and what it is fed."""
