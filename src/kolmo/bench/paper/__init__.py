"""The experiment of "Language Modeling Is Compression" (Deletang et al., 2024) on data of one's own, audited.

codecs.py         compressors under one interface: what is packed is unpacked and compared
cells.py          one figure: a compressor on a set of chunks, whole or in chunks, with the paper's mask or without
positions.py      bits by the place in the context; figure.py draws them
continuations.py  what compressors expect after the first part of a text, a picture, a sound; continued.py shows it
run.py            all figures; resumable
published.py      the paper's figures
report.py         tables, CSV, JSON, a page

docs/paper.md describes the rules.
"""
