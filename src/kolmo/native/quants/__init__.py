"""Fields of quantised blocks, with adaptive contexts: C, its bindings, and the same in Python."""
