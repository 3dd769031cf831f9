"""Where batches are scored: in this process, in worker processes, on a Ray cluster."""
