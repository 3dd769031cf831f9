"""Kinds of data in a block, and a model for each: pictures, sounds, programs, records, floats (docs/kinds.md)."""
