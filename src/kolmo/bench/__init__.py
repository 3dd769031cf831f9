"""Benchmarks on data of one's own.

peers.py      the compressors beside kolmo: programs, and libraries of Python
worker.py     a library as a program, so that its time and memory are measured like the others'
processes.py  one process and what it took
files.py      every tool on every file: sizes, speeds, memory
tables.py     the results as text, Markdown, CSV, HTML
figure.py     bytes against time, as SVG
"""
