"""From the arguments to the files: `-`, folders, symbolic links, as zstd treats them.

What it is not: it opens nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from kolmo.cli.console import Console

SUFFIX = ".kmo"


def expand(arguments: Sequence[str], console: Console, *, recursive: bool, force: bool, packed: bool) -> Iterator[str]:
    """The files to work on; "-" is standard input, which no argument means too.

    Args:
        arguments: files, folders, "-".
        console: takes the messages about what is left out.
        recursive: go into folders.
        force: follow symbolic links.
        packed: of a folder, take the files that end in .kmo; else those that do not.
    """
    for path in arguments or ("-",):
        if path == "-":
            yield path
        elif not os.path.lexists(path):
            console.fail(f"{path}: no such file; check the name", path)
        elif os.path.islink(path) and not force and (os.path.isfile(path) or os.path.isdir(path)):
            console.warn(f"{path}: is a symbolic link, skipped; use -f to follow it")
            if len(arguments) == 1:
                console.status = 1
        elif not os.path.isdir(path):
            yield path
        elif recursive:
            yield from _walk(path, force, packed)
        else:
            console.fail(f"{path}: is a folder, skipped; use -r to go into it", path)


def _walk(folder: str, force: bool, packed: bool) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name.endswith(SUFFIX) == packed and os.path.isfile(path) and (force or not os.path.islink(path)):
                yield path
