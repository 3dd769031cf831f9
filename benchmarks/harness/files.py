"""The benchmark files: what each is, and how it is joined from the texts that KOLMO_DATA points to."""

from __future__ import annotations

import os
import random
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

KB = 1000
MB = 1000 * KB
PLAIN, PACKED, RESTORED = "{plain}", "{packed}", "{restored}"  # placeholders in a tool's command lines


@dataclass(frozen=True)
class Source:
    """A benchmark file: what it is, the parts it is joined from, and how many bytes of them it takes."""

    file: str
    about: str
    parts: tuple[str, ...] = ()  # paths below bench/text
    limit: int | None = None
    expected: int | None = None  # its size, where a wrong one would make the table incomparable


ENG_PARTS = tuple(f"canterbury/{name}.txt" for name in ("alice29", "asyoulik", "lcet10", "plrabn12"))
SOURCES = {
    "eng": Source("eng.txt", "alice29, asyoulik, lcet10, plrabn12 (Canterbury), joined", ENG_PARTS, expected=1_185_883),
    "py": Source("py.txt", "the standard library's top-level *.py, sorted by name, joined, first 1 MiB", limit=1 << 20),
    "alice29": Source("alice29.txt", "Canterbury", ENG_PARTS[:1], expected=152_089),
    **{
        f"{name}-{size // KB}k": Source(f"{name}-{size // KB}k.txt", f"first {size:,} bytes", (part,), limit=size)
        for name, part in zip(("alice29", "asyoulik", "lcet10", "plrabn12"), ENG_PARTS, strict=True)
        for size in (4 * KB, 20 * KB)
    },
    "py-4k": Source("py-4k.py", "first 4,000 bytes of py", limit=4 * KB),
    "py-20k": Source("py-20k.py", "first 20,000 bytes of py", limit=20 * KB),
    "enwik5": Source("enwik5", "first 100,000 bytes of enwik9", ("enwik5",), expected=100_000),
    "dickens-2m": Source("dickens-2m", "Silesia, first 2,000,000 bytes", ("dickens",), limit=2 * MB),
    "dickens": Source("dickens", "Silesia", ("dickens",)),
    "world192": Source("world192.txt", "Canterbury (large)", ("world192.txt",)),
    "xml": Source("xml", "Silesia", ("xml",)),
    "twitter.json": Source("twitter.json", "JSON", ("twitter.json",)),
    "citm_catalog.json": Source("citm_catalog.json", "JSON", ("citm_catalog.json",)),
    "twitter-250k": Source("twitter-250k.json", "the first 250,000 bytes of twitter.json", ("twitter.json",), 250 * KB),
    "log-250k": Source(
        "broker.log", "messages of a Kafka broker (elastic/examples), 250,000 bytes", ("broker.log",), 250 * KB
    ),
    "py-250k": Source("py-250k.py", "first 250,000 bytes of py", limit=250 * KB),
    "fresh-english": Source("fresh-english.md", "notes of nanochat, 2025 and 2026", ("fresh/english.md",)),
    "fresh-python": Source("fresh-python.py", "source of nanochat, 2025 and 2026", ("fresh/python.py",)),
    "fresh-german": Source("fresh-german.md", "the Rust book in German, at 2026-05-10", ("fresh/german.md",)),
    "fresh-french": Source("fresh-french.md", "React's documentation in French, at 2025-06-10", ("fresh/french.md",)),
    "fresh-cpp": Source("fresh-cpp.h", "files added to simdjson from 2025 on", ("fresh/cpp.h",)),
    "kennedy.xls": Source("kennedy.xls", "Canterbury", ("canterbury/kennedy.xls",)),
    "geo": Source("geo", "Calgary", ("calgary/geo",)),
    "obj2": Source("obj2", "Calgary", ("calgary/obj2",)),
    "pic": Source("pic", "Calgary", ("calgary/pic",)),
    "sum": Source("sum", "Canterbury", ("canterbury/sum",)),
    "random": Source("random.bin", "random.Random(1).randbytes(65536)"),
}
HEADLINE = ("eng", "py", "alice29")
FRESH = tuple(name for name in SOURCES if name.startswith("fresh-"))  # made by fresh_texts.py
ON_REQUEST = ("dickens", "twitter-250k", "log-250k", "py-250k", *FRESH)  # not part of a run that names no files
SCALING = Source("scaling.bin", "dickens, xml, world192, joined and cut", ("dickens", "xml", "world192.txt"), 16 * MB)


def text_folder() -> Path:
    """The folder of benchmark texts that KOLMO_DATA points to."""
    data = os.environ.get("KOLMO_DATA")
    if not data:
        raise SystemExit("set the environment variable KOLMO_DATA to the folder that holds bench/text")
    folder = Path(data) / "bench" / "text"
    if not folder.is_dir():
        raise SystemExit(f"{folder}: no such folder; KOLMO_DATA must be the folder that holds bench/text")
    return folder


def build(source: Source, work: Path) -> Path:
    """Write one benchmark file into `work`."""
    target = work / source.file
    if source.file == "random.bin":
        target.write_bytes(random.Random(1).randbytes(65536))
        return target
    if source.parts:
        paths = [text_folder() / part for part in source.parts]
    else:
        paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    left = source.limit if source.limit is not None else sys.maxsize
    with target.open("wb") as out:
        for path in paths:
            with path.open("rb") as part:
                while chunk := part.read(min(left, 1 << 16)):
                    left -= out.write(chunk)
    size = target.stat().st_size
    if (source.expected or source.limit or size) != size:
        raise SystemExit(f"{source.file}: {size:,} bytes, expected {source.expected or source.limit:,}")
    return target
