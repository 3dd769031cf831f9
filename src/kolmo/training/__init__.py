"""Training: from texts to networks. Needs the extra `train`, but for `settings` and `monitor`."""
