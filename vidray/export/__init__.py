"""Networks of model folders, written for other runtimes, and how far their answers then differ."""
