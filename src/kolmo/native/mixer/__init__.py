"""The context mixer: C for each vector path, its bindings, and the same in NumPy."""
