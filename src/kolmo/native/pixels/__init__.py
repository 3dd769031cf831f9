"""The network that predicts pixels (docs/pixels.md)."""
