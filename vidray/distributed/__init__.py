"""Ray: the cluster, the pipeline over videos, training on several workers, the sandbox."""
