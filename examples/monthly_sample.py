"""A small segment as Common Crawl has them, made of the sample text: what `monthly_benchmark.sh` collects from.

    python examples/monthly_sample.py segment.warc.wet.gz

Each page is a stretch of `sample.txt` with the menu that all pages have; so lines are shared, and pages differ in how
well they read. Standard library only. What it is not: fresh text; the real command is in the script's last lines.
"""

from __future__ import annotations

import gzip
import sys
from datetime import datetime, timedelta
from pathlib import Path

PAGES, CHARACTERS = 24, 2400
MENU = "Home | News | Contact\nThis site uses cookies."


def record(number: int, text: str, day: datetime) -> bytes:
    """One record of a WET file, as a gzip member."""
    block = f"Page {number}\n{MENU}\n{text}\n".encode()
    head = (
        "WARC/1.0\r\nWARC-Type: conversion\r\n"
        f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: {day.isoformat()}Z\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0)


def main(target: str) -> None:
    """Write the segment."""
    text = Path(__file__).with_name("sample.txt").read_text("ascii").replace("\r", "")
    with open(target, "wb") as file:
        for number in range(PAGES):
            page = text[number * CHARACTERS : (number + 1) * CHARACTERS]
            file.write(record(number, page, datetime(2026, 10, 1, 8) + timedelta(days=number)))


if __name__ == "__main__":
    main(sys.argv[1])
