"""Residuals that restore weights exactly: C, its bindings, and the same in NumPy."""
