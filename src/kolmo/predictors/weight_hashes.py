"""Hashes of weight files, kept between runs: reading gigabytes to hash them takes seconds at each start.

A hash is kept in a small file of the user's cache, under what the file system says of each file: device, inode, size,
time of its content and, where the system has one, of its last change of any kind. A file that was written, copied or
renamed has others, and is hashed again. What it is not: a protection from somebody who can set the clock or write to
the disk directly; without the cache's file all is hashed again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from kolmo.errors import KolmoError
from kolmo.predictors.model_locations import add_entry, cache_folder, read_entries

HASH_BYTES = 8
MAX_HASHES = 1000  # models; the oldest entries go first
SETTLED_SECONDS = 2.0  # age from which a file's times tell a later change apart, on file systems with coarse times


def index() -> Path:
    """The file that holds the hashes, in the user's folder for caches."""
    return cache_folder() / "hashes.json"


def kept_hash(kind: str, paths: Sequence[Path], compute: Callable[[], bytes]) -> bytes:
    """The hash of files: the one that is kept, or else a computed one, which is kept.

    A cache that is damaged, or cannot be written, is not an error.

    Args:
        kind: how the hash is computed; another way, or another version of it, needs another name.
        paths: of the files that it depends on.
        compute: computes it from these files; what it raises is raised.

    Returns:
        the hash, 8 bytes.

    Example:
        >>> kept_hash("nothing", [], lambda: b"8 bytes.")
        b'8 bytes.'
    """
    name = _name(kind, paths)
    if name is None:
        return compute()
    with suppress(OSError, RuntimeError, ValueError):  # RuntimeError: the user has no home folder
        if len(found := bytes.fromhex(read_entries(index()).get(name, ""))) == HASH_BYTES:
            return found
    value = compute()
    if _name(kind, paths) == name:  # else a file changed meanwhile
        with suppress(OSError, RuntimeError, KolmoError):
            add_entry(index(), name, value.hex(), MAX_HASHES)
    return value


def _name(kind: str, paths: Sequence[Path]) -> str | None:
    """The name of an entry; None where a file is missing, or changed so recently that its next change may not show."""
    parts = [kind]
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError:
            return None
        newest = max(facts.st_mtime, facts.st_ctime)
        if not newest < time.time() - SETTLED_SECONDS:
            return None
        parts.append(f"{facts.st_dev}.{facts.st_ino}.{facts.st_size}.{facts.st_mtime_ns}.{facts.st_ctime_ns}")
    return " ".join(parts) if paths else None
