"""The search of the bitshift trellis (docs/bitshift.md)."""
