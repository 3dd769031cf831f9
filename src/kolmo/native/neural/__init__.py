"""Context mixer and network together: bindings with guesses of the next bytes, and the same in NumPy."""
