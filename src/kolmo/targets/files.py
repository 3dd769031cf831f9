"""Output files that appear whole under their name, or not at all. What it is not: a check before the work."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from kolmo.errors import KolmoError
from kolmo.targets.checks import check_target, descriptor_of, is_special
from kolmo.targets.locks import unlock
from kolmo.targets.renaming import TargetExistsError, naming, rename_new, sync_folder, syncing
from kolmo.targets.temporaries import begin_file

PARTIAL = ".partial"
MAX_NAME_BYTES = 255  # of a file's name, on all common file systems


@dataclass(frozen=True)
class Attributes:
    """What a file has beside its content; None where it is not known.

    Times are in nanoseconds since 1970, negative before; `mode` holds permission bits, `size` is in bytes, `owner` and
    `group` are the system's numbers.
    """

    name: str | None = None
    mtime: int | None = None
    mode: int | None = None
    size: int | None = None
    atime: int | None = None
    owner: int | None = None
    group: int | None = None


class Target:
    """An output file that appears whole under its name, or not at all.

    Streams, and targets that are not regular files (a device, a pipe), are written directly.

    Args:
        target: path, or a binary stream.
        force: overwrite an existing file.
        durable: bring the file and its name to the disk before `keep` returns.

    Raises:
        TargetExistsError: the target exists and `force` is not set.
        KolmoError: it is a folder.
        OSError: its folder is not there, its name is too long, or nothing can be written there.
    """

    def __init__(self, target: str | IO[bytes], force: bool, *, durable: bool = False) -> None:
        self._force, self._durable = force, durable
        self._temporary: str | None = None
        self._lock: int | None = None  # a descriptor that keeps the temporary file locked until it has its name
        self._direct = False
        if not isinstance(target, str):
            self._path, self.file = "", target
            return
        self._path = target
        if is_special(target):
            self._direct = True
            self.file = _open_special(target, force)
            return
        check_target(target, force)
        with naming(target):
            self.file, self._lock, self._temporary = begin_file(os.path.dirname(target) or ".")

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *error: object) -> None:
        if self._path:
            with suppress(OSError):  # a full disk again, at the last flush
                self.file.close()
        if self._temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)
        if self._lock is not None:
            unlock(self._lock)
            os.close(self._lock)
            self._lock = None

    @property
    def whole(self) -> bool:
        """Whether a regular file is made, which can stand for its input; not of streams, devices and pipes."""
        return bool(self._path) and not self._direct

    @property
    def place(self) -> str:
        """Path of the file that is being written; empty of a stream."""
        return self._temporary or self._path

    def keep(self, attributes: Attributes) -> None:
        """The content is complete: give the file its attributes and its name.

        Raises:
            TargetExistsError: a file of that name was made meanwhile.
            OSError: it cannot be completed; or it has its name, and cannot be brought to the disk.
        """
        self._finish(self._path, attributes)

    def keep_partial(self, attributes: Attributes) -> str:
        """Keep what was written so far beside the target; returns the error's last words."""
        if self._temporary is None:
            self.file.flush()
            return "the whole blocks before it, if any, were written"
        size = self.file.tell()
        if not size:
            return "nothing of it could be recovered"
        partial = _partial_name(self._path)
        try:
            self._finish(partial, replace(attributes, mtime=None, atime=None))
        except TargetExistsError:
            return f"its first {size} bytes are good, but {partial} exists (force=True overwrites it)"
        return f"its first {size} bytes are good and kept in {partial}"

    def _finish(self, path: str, attributes: Attributes) -> None:
        self.file.flush()
        if self._temporary is None:
            return
        durable = self._durable or os.path.lexists(path)
        _set_attributes(self.file.fileno(), self._temporary, attributes)
        if durable:
            with syncing(path):
                os.fsync(self.file.fileno())
        self.file.close()
        with naming(path):
            if self._force:
                os.replace(self._temporary, path)
            else:
                rename_new(self._temporary, path)
        self._temporary = None
        if durable:
            sync_folder(path)


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to write and read, which gets the name `path` when the block ends without an error.

    Args:
        path: of the file; an older one is replaced, and its folder must be there.
        durable: bring the file to the disk even where it replaces none.

    Raises:
        KolmoError: `path` is a folder.
        OSError: nothing can be written there, or not all of it.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with replacing(os.path.join(folder, "x")) as file:
        ...     _ = file.write(b"whole")
        >>> os.listdir(folder)
        ['x']
    """
    with Target(os.fspath(path), True, durable=durable) as target:
        yield target.file
        target.keep(Attributes())


def publish(partial: str, path: str, *, durable: bool = False) -> None:
    """Rename a complete file that was written under a temporary name in the same folder, by the policy above.

    Args:
        partial: path of the complete file.
        path: its path from now on; an older file is replaced.
        durable: bring the file to the disk even if it replaces none.

    Raises:
        OSError: the file cannot be renamed, or not be brought to the disk.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "x")
        >>> _ = open(path + ".partial", "w").write("whole")
        >>> publish(path + ".partial", path)
        >>> open(path).read()
        'whole'
    """
    durable = durable or os.path.lexists(path)
    if durable:
        with syncing(path), open(partial, "r+b") as file:
            os.fsync(file.fileno())
    with naming(path):
        os.replace(partial, path)
    if durable:
        sync_folder(path)


def _open_special(path: str, force: bool) -> IO[bytes]:
    number = descriptor_of(path)
    if number is not None:
        with naming(path):
            return os.fdopen(os.dup(number), "wb")
    if stat.S_ISBLK(os.stat(path).st_mode) and not force:
        raise KolmoError(f"{path}: is a block device; use force=True to write over what it holds")
    return open(path, "wb")


def _partial_name(path: str) -> str:
    """The path with `.partial`, cut where its name would be too long."""
    folder, name = os.path.split(path)
    while len(os.fsencode(name + PARTIAL)) > MAX_NAME_BYTES:
        name = name[:-1]
    return os.path.join(folder, name + PARTIAL)


def umask() -> int:
    """The permission bits that new files of this process do not get."""
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)  # for a moment, files that other threads make are private
    os.umask(mask)
    return mask


def _set_attributes(descriptor: int, path: str, attributes: Attributes) -> None:
    """Owner and group, then mode, then times, each as far as the system allows it.

    Where the group cannot be set, its members are others: then group and others get what both had (as xz does).
    """
    mode = 0o666 & ~umask() if attributes.mode is None else attributes.mode & 0o777
    if hasattr(os, "fchown"):
        now = os.fstat(descriptor)
        if attributes.group is not None and attributes.group != now.st_gid:
            try:
                os.fchown(descriptor, -1, attributes.group)
            except OSError:
                both = (mode >> 3) & mode & 0o7
                mode = (mode & 0o700) | (both << 3) | both
        if attributes.owner is not None and attributes.owner != now.st_uid:
            with suppress(OSError):
                os.fchown(descriptor, attributes.owner, -1)
    place: int | str = descriptor if os.utime in os.supports_fd and os.chmod in os.supports_fd else path
    with suppress(OSError):  # a file system without modes or times still takes the content
        os.chmod(place, mode)
    if attributes.mtime is not None:
        atime = attributes.mtime if attributes.atime is None else attributes.atime
        with suppress(OSError, OverflowError):
            os.utime(place, ns=(atime, attributes.mtime))
