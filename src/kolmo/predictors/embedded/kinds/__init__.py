"""Kinds of data in a block, and the models made for each: pictures, sounds, programs, records, floats (docs/kinds.md)."""
