"""Hyperfunctions: the protocol and how one is found (`base`), and one file per family, imported on demand."""
