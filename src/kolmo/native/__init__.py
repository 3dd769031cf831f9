"""The native room: hot loops in C, and the same functions in NumPy (the specification and the fallback)."""
