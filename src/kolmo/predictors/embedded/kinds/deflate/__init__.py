"""Deflate streams as a kind of data: where they are, with which setting they are made again, and their model."""
