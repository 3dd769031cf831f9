"""Kernels: hot loops in C, and the same functions in NumPy, which are the specification and the fallback."""
