"""Input files: opened with their attributes, and removed when their output is safe.

What it is not: it writes nothing. A file is removed only if it is, to the last look, the one that was read: a line that
another program appends meanwhile, or a new file of the same name, is not lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from kolmo.errors import KolmoError
from kolmo.targets import Attributes, lock_open


class InputKeptError(KolmoError):
    """The output is complete, but the input could not be removed, or is no longer what was read."""


@dataclass(frozen=True)
class Source:
    """An open input.

    Attributes:
        stream: to read from.
        attributes: its own; those of a stream are not known.
        path: its path; None of a stream.
        status: what the system said of it when it was opened; None of a stream.
    """

    stream: IO[bytes]
    attributes: Attributes
    path: str | None = None
    status: os.stat_result | None = None

    def remove(self) -> None:
        """Remove the file under its path; a stream is left alone.

        Raises:
            InputKeptError: it is another file by now, has changed, or cannot be removed.
        """
        if self.path is None or self.status is None:
            return
        try:
            if reason := _difference(self.status, os.lstat(self.path)):
                raise InputKeptError(f"{self.path}: {reason}, so it is kept; its output is complete for what was read")
            os.unlink(self.path)
        except OSError as error:
            raise InputKeptError(
                f"{self.path}: cannot be removed ({error.strerror}), so it is kept; its output is complete"
            ) from None


def _difference(before: os.stat_result, now: os.stat_result) -> str | None:
    """Why a path does not name the file that was read, as it was; None where it does."""
    if stat.S_ISLNK(now.st_mode):
        return "is a symbolic link"
    if not stat.S_ISREG(now.st_mode):
        return "is not a regular file"
    if (before.st_dev, before.st_ino) != (now.st_dev, now.st_ino):
        return "is another file than the one that was read"
    # The time of the last change of status too: programs can set the other one back.
    if any(getattr(before, name) != getattr(now, name) for name in ("st_size", "st_mtime_ns", "st_ctime_ns")):
        return "has changed since it was opened"
    return None


@contextmanager
def open_source(source: str | IO[bytes], *, to_remove: bool = False) -> Iterator[Source]:
    """A path's file, or a stream, which stays open.

    Args:
        source: a path, or a binary stream.
        to_remove: whether the file is to be removed: then no other process may work on it so.

    Raises:
        KolmoError: another process works on a file that is to be removed.
        OSError: the file cannot be opened.
    """
    if not isinstance(source, str):
        yield Source(source, Attributes())
        return
    with open(source, "rb") as stream:
        status = os.fstat(stream.fileno())
        if to_remove and stat.S_ISREG(status.st_mode):
            lock_open(stream.fileno(), source)
        yield Source(stream, _attributes(source, status), source, status)


def _attributes(path: str, status: os.stat_result) -> Attributes:
    """Attributes as far as a header and another file hold them: names in UTF-8, modes and sizes of regular files."""
    name: str | None = os.path.basename(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        name = None
    if not stat.S_ISREG(status.st_mode):
        return Attributes(name, status.st_mtime_ns)
    return Attributes(
        name,
        status.st_mtime_ns,
        stat.S_IMODE(status.st_mode),
        status.st_size,
        status.st_atime_ns,
        status.st_uid,
        status.st_gid,
    )
