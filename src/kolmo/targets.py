"""Output files and folders: written under a temporary name in the target's folder, then renamed.

When something fails, nothing half-written stays. What it is not: it asks no questions (see `cli`), and reads nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from kolmo.errors import KolmoError


class TargetExistsError(KolmoError):
    """The output exists and may not be overwritten."""


@dataclass(frozen=True)
class Attributes:
    """Name, time (ns since 1970), permission bits and size of a file; None where there are none."""

    name: str | None = None
    mtime: int | None = None
    mode: int | None = None
    size: int | None = None


class Target:
    """An output file that appears whole under its name, or not at all.

    Streams, and targets that are no regular files (a device, a pipe), are written directly.
    """

    def __init__(self, target: str | IO[bytes], force: bool) -> None:
        self._force = force
        self._temporary: str | None = None
        if not isinstance(target, str):
            self._path, self.file = "", target
            return
        self._path = target
        if _is_special(target):
            self.file = open(target, "wb")  # noqa: SIM115 - __exit__ closes it
            return
        self._refuse_existing(target)
        folder, name = os.path.split(target)
        with _naming(target):
            descriptor, self._temporary = tempfile.mkstemp(".tmp", f".{name[:100]}.", folder or ".")
        self.file = os.fdopen(descriptor, "w+b")

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *error: object) -> None:
        if self._path:
            with suppress(OSError):  # a full disk again, at the last flush
                self.file.close()
        if self._temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)

    @property
    def place(self) -> str:
        """Path of the file that is being written; empty of a stream."""
        return self._temporary or self._path

    def keep(self, attributes: Attributes) -> None:
        """The content is complete: give it its time, its mode and its name."""
        self._finish(self._path, attributes)

    def keep_partial(self, attributes: Attributes) -> str:
        """Keep what was written so far beside the target; returns the error's last words."""
        if self._temporary is None:
            self.file.flush()
            return "the whole blocks before it, if any, were written"
        size = self.file.tell()
        if not size:
            return "nothing of it could be recovered"
        partial = self._path + ".partial"
        try:
            self._finish(partial, Attributes(mode=attributes.mode))
        except TargetExistsError:
            return f"its first {size} bytes are good, but {partial} exists (-f overwrites it)"
        return f"its first {size} bytes are good and kept in {partial}"

    def _finish(self, path: str, attributes: Attributes) -> None:
        if self._temporary is None:
            self.file.flush()
            return
        self.file.close()
        mode = 0o666 & ~_umask() if attributes.mode is None else attributes.mode & 0o777
        with suppress(OSError):  # a file system without modes or times still takes the content
            os.chmod(self._temporary, mode)
            if attributes.mtime is not None:
                os.utime(self._temporary, ns=(attributes.mtime, attributes.mtime))
        self._refuse_existing(path)
        os.replace(self._temporary, path)
        self._temporary = None

    def _refuse_existing(self, path: str) -> None:
        if not self._force and os.path.lexists(path):
            raise TargetExistsError(f"{path}: already exists; use -f to overwrite it")


class TargetFolder:
    """An output folder that appears whole under its name, or not at all.

    An empty folder of that name is taken; another is replaced by force, if `replaceable` says so of it.

    Attributes:
        path: of the temporary folder, to write into.
    """

    def __init__(self, target: str, force: bool, replaceable: Callable[[str], bool]) -> None:
        self._target, self._force, self._replaceable = os.path.normpath(target), force, replaceable
        self._refuse_existing()
        parent, name = os.path.split(self._target)
        with _naming(target):
            self.path = tempfile.mkdtemp(".tmp", f".{name[:100]}.", parent or ".")

    def __enter__(self) -> TargetFolder:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def keep(self) -> None:
        """The content is complete: give the folder its mode and its name."""
        self._refuse_existing()
        with suppress(OSError):
            os.chmod(self.path, 0o777 & ~_umask())
        if not os.path.isdir(self._target):
            os.rename(self.path, self._target)
            return
        old = self.path + ".old"
        os.rename(self._target, old)
        try:
            os.rename(self.path, self._target)
        except OSError:
            os.rename(old, self._target)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _refuse_existing(self) -> None:
        target = self._target
        if not os.path.lexists(target) or (_is_folder(target) and not os.listdir(target)):
            return
        if not self._force:
            raise TargetExistsError(f"{target}: already exists; use -f to overwrite it")
        if not _is_folder(target) or not self._replaceable(target):
            raise KolmoError(f"{target}: is not a folder that may be replaced; choose another name, or remove it first")


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


@contextmanager
def _naming(target: str) -> Iterator[None]:
    """Name the target in errors, not the temporary file that was to become it."""
    try:
        yield
    except OSError as error:
        error.filename = target
        raise


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
