"""The source files of one commit: what is taken, and under which reason the rest is left out.

What it is not: it compares no two files, and does not look at what is written in them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kolmo.collection.github.git import Commit, TreeEntry
from kolmo.collection.github.languages import Language

MAX_FILE_BYTES = 1 << 20
LFS_MARK = b"version https://git-lfs.github.com/spec/"
MAX_LFS_BYTES = 1024  # of a pointer
ASCII_SPACES = bytes(code for code in range(128) if chr(code).isspace())
LINK, SUBMODULE = "120000", "160000"
BATCH_FILES = 1000  # objects that git is asked for at once

REASONS = ("submodule", "symlink", "path_not_utf8", "too_large", "lfs_pointer", "not_utf8", "binary")


@dataclass(frozen=True)
class SourceFile:
    """A file as it is in a commit.

    Attributes:
        path: in the repository, with "/" between folders.
        content: all of it, line ends and byte order mark as they are.
        digest: SHA-256 of its bytes.
        squeezed: MD5 of the text without white space.
    """

    path: str
    content: str
    digest: bytes
    squeezed: bytes


def source_files(commit: Commit, language: Language, dropped: Counter[str]) -> Iterator[SourceFile]:
    """The files of a language in a commit, in the order of their paths' bytes.

    Args:
        commit: a fetched one.
        language: which files are meant.
        dropped: gets the number of files left out, by reason (one of `REASONS`).

    Raises:
        GitError: the commit cannot be read to its end.
    """
    batch: list[tuple[str, TreeEntry]] = []
    for entry in commit.entries():
        if entry.mode == SUBMODULE:
            dropped["submodule"] += 1
            continue
        path = entry.path.decode("utf-8", "replace")
        if not language.has(path):
            continue
        if entry.mode == LINK:
            dropped["symlink"] += 1
        elif "\ufffd" in path and not _is_utf8(entry.path):
            dropped["path_not_utf8"] += 1
        else:
            batch.append((path, entry))
        if len(batch) == BATCH_FILES:
            yield from _read(commit, batch, dropped)
            batch = []
    yield from _read(commit, batch, dropped)


def source_file(path: str, data: bytes | None) -> SourceFile | str:
    r"""A file from its bytes, or the reason why it is left out; None stands for one that is too large.

    >>> source_file("a.py", b"\xff")
    'not_utf8'
    """
    if data is None or len(data) > MAX_FILE_BYTES:
        return "too_large"
    if data.startswith(LFS_MARK) and len(data) <= MAX_LFS_BYTES:
        return "lfs_pointer"
    if b"\0" in data:
        return "binary"
    try:
        content = data.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8"
    return SourceFile(path, content, hashlib.sha256(data).digest(), squeezed_digest(content))


def squeezed_digest(text: str) -> bytes:
    r"""MD5 of a text without its white space, which tells apart no two layouts of one text.

    >>> squeezed_digest("a = 1\n") == squeezed_digest("a=1")
    True
    """
    if text.isascii():
        squeezed = text.encode("ascii").translate(None, ASCII_SPACES)
    else:
        squeezed = "".join(text.split()).encode("utf-8")
    return hashlib.md5(squeezed, usedforsecurity=False).digest()


def _read(commit: Commit, batch: list[tuple[str, TreeEntry]], dropped: Counter[str]) -> Iterator[SourceFile]:
    contents = commit.contents([entry.oid for _, entry in batch], MAX_FILE_BYTES)
    for (path, _), data in zip(batch, contents, strict=True):
        one = source_file(path, data)  # made anew for each path, so that no other file's content can stand under it
        if isinstance(one, str):
            dropped[one] += 1
        else:
            yield one


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
