"""Python's own shapes of compression: whole contents, incremental objects, file objects.

whole.py        `compress`, `decompress`
incremental.py  `Compressor`, `Decompressor`, like those of bz2 and lzma
file.py         `open`, `KolmoFile`, like those of gzip
"""
