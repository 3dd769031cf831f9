"""Models of transformers: backends, folders and ids of the hub, and hashes that identify a model."""
