"""Models of data: the protocol (`base`), the registry, and one file per predictor, imported on demand."""
