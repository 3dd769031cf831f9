"""The exact recurrent network: C for each vector path, its bindings, and the same in NumPy."""
