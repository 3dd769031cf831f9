"""Calibration: errors of weights count by what they do to a network's outputs on samples (docs/calibration.md)."""
