"""Shrunk checkpoints in use: expanded, or streamed by modules of torch."""
