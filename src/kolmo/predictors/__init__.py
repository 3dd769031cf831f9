"""Models of data: their base class (`base`), the registry, and the predictors by kind, imported on demand."""
