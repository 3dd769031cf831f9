"""Tokens of a language model as binary decisions: C, its bindings, and the same in NumPy."""
