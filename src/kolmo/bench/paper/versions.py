"""What figures depend on besides data and rules: kolmo's own code, and the libraries of classical compressors.

What it is not: `identity` of a predictor, which names its weights and what its files promise, and stays the same when
another choice of kinds packs the same format better.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
CODE = ("bits.py", "codec", "coder", "container", "native", "predictors", "safetensors.py", "weights")
SUFFIXES = frozenset({".py", ".so", ".pyd", ".bin", ".safetensors"})


@cache
def code_version() -> str:
    """16 hexadecimal digits over all files of kolmo that packed bytes of predictors can depend on."""
    return fingerprint(PACKAGE / name for name in CODE)


def fingerprint(paths: Iterable[Path]) -> str:
    """16 hexadecimal digits over names and contents of files, and of those in folders, that end in `SUFFIXES`."""
    digest = hashlib.sha256()
    for top in paths:
        found = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.suffix in SUFFIXES)
        for path in found:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(top.parent).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def library_version(distribution: str) -> str:
    """Version of an installed distribution; "" where it is not known.

    >>> library_version("no-such-distribution")
    ''
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
