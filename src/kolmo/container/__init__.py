"""The `.kmo` container of docs/format.md: bytes <-> headers, blocks and indexes.

What it is not: it neither predicts nor codes (see `codec`), knows predictors by name only, and makes no
threads.

    wire.py        integers and exact reads, with the offset in every error
    structures.py  header, block head, footer: dataclasses <-> bytes
    frames.py      whole frames forward: `FrameWriter`, `FrameReader`
    index.py       where every block of a seekable file lies
"""
