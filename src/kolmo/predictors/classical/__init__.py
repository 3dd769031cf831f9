"""Classical compressors as predictors."""
