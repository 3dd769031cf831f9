"""Deflate streams made as zlib makes them."""
