"""Exact products with the payloads of the bitshift trellis (docs/bitshift.md)."""
