"""The experiments of "Language Modeling Is Compression" (Deletang et al., 2024) on data of one's own, audited.

codecs.py        compressors under one interface: what is packed is unpacked and compared
facts.py         what a model is: parameters, bytes, training; shrinking.py has models with small weights
cells.py         one figure: a compressor on a set of chunks, whole or in chunks, with the paper's mask or without
positions.py     bits by the place in the context
sizes.py         rates with the model counted, against model and data size
vocabularies.py  rates of text against its vocabulary
run.py           all figures; resumable
published.py     the paper's figures
report.py        tables, CSV, JSON, a page; drawing/ has its figures

docs/paper.md describes the rules.
"""
