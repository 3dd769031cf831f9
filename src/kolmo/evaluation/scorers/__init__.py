"""Scorers: language models, byte predictors, compressors and servers behind one protocol."""
