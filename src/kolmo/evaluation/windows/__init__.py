"""Evaluation modes: how texts are cut into windows of tokens, and windows are grouped into batches."""
