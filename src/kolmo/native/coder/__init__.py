"""The binary arithmetic coder: C, its bindings, and the same in Python."""
