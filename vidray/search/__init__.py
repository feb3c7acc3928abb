"""A search for the best settings: what to try next, one trial, all trials on Ray, the winners."""
