"""Predictor x coder: raw blocks <-> coded blocks, many at once, and whole frames of them.

What it is not: it opens no files (see `archive` and `streams`).

    blocks.py    one block: `encode_block`, `decode_block`
    pipeline.py  an ordered parallel map with a bounded number of items in flight
    frames.py    a sequence of raw blocks <-> a frame's bytes
"""
