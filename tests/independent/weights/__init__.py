"""Readers of small weights: docs/weights-format.md, trellis.md, residual.md, bitshift.md."""
