"""The trellis code of weights: C, its bindings, and the same in NumPy."""
