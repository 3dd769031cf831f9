"""Streams and files <-> the container: what the command line does, as functions.

streams.py  binary streams, in constant memory
files.py    files: a temporary name, then a rename; times and modes kept
listing.py  what a file holds, without decoding it
"""
