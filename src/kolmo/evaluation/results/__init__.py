"""Rows of code lengths, where they are stored, and every metric computed from them."""
