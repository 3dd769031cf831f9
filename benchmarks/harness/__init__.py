"""What the benchmark commands share, for Python's standard library and kolmo alone.

files.py      the benchmark files, built from what KOLMO_DATA points to
tools.py      the compressors and their command lines
measuring.py  one process and its cost; one round trip; all tools on all files
tables.py     cells to Markdown
scaling.py    two cores against one; endless streams
report.py     the machine, the versions, the whole report
"""
