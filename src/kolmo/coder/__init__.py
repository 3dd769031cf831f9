"""The arithmetic coder: integers in, bytes out. It knows nothing of models."""
