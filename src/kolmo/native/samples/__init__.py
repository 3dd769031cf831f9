"""The network that predicts samples of sound, and mixtures of distributions of a sample (docs/samples.md)."""
