"""Data of several kinds as chunks of bytes, cut as in "Language Modeling Is Compression" (Deletang et al., 2024).

chunks.py    text, pictures, sounds and random bytes in chunks; the paper's masks
sources.py   texts, pictures and sounds of a file, a folder or a data set
decoding.py  files of pictures and sounds as arrays
datasets.py  rows of data sets, through the `datasets` library
"""
