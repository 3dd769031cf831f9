"""The only writer of whole files and folders: under a temporary name beside the target, then renamed into place.

When something fails, or the process is killed, the target is as it was before, and nothing half-written has its name.
After a power cut the same holds for all that this policy brings to the disk (fsync) before and after the rename:

- what replaces an older file or folder of that name, which would otherwise be lost;
- what the caller declares `durable`, since something else is removed for it, or since it took long to make.

A new file that is neither is not synced: after a power cut it may be missing or empty, and the command can be repeated.

`Target` and `TargetFolder` are for outputs that a user names, with attributes and a question of overwriting;
`replacing` is for files of the program's own: caches, logs, checkpoints, results; `publish` is for those that
outlive the process under a temporary name, such as downloads that are resumed.

What it is not: it asks no questions (see `cli`), and reads nothing.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from kolmo.errors import KolmoError

PREFIX, SUFFIX = ".kolmo-", ".tmp"  # of temporary names, which are short whatever the target's name is
TEMPORARY = re.compile(r"\.kolmo-[a-z0-9_]{8}\.tmp")
DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,6})")
STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
PARTIAL = ".partial"
MAX_NAME_BYTES = 255  # of a file's name, on all common file systems


class TargetExistsError(KolmoError):
    """The output exists and may not be overwritten."""


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
        with _naming(target):
            descriptor, self._temporary = tempfile.mkstemp(SUFFIX, PREFIX, os.path.dirname(target) or ".")
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
            with _syncing(path):
                os.fsync(self.file.fileno())
        self.file.close()
        self._refuse_existing(path)
        with _naming(path):
            os.replace(self._temporary, path)
        self._temporary = None
        if durable:
            _sync_folder(path)

    def _refuse_existing(self, path: str) -> None:
        if not self._force and os.path.lexists(path):
            raise TargetExistsError(f"{path}: already exists; use force=True to overwrite it")


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
        with _syncing(path), open(partial, "r+b") as file:
            os.fsync(file.fileno())
    with _naming(path):
        os.replace(partial, path)
    if durable:
        _sync_folder(path)


class TargetFolder:
    """An output folder that appears whole under its name, or not at all.

    An empty folder of that name is taken; another is replaced by force, if `replaceable` says so of it.

    Attributes:
        path: of the temporary folder, to write into.
    """

    def __init__(self, target: str, force: bool, replaceable: Callable[[str], bool]) -> None:
        self._target, self._force, self._replaceable = os.path.normpath(target), force, replaceable
        self._refuse_existing()
        _check_parent(self._target)
        with _naming(target):
            _look(self._target)
            self.path = tempfile.mkdtemp(SUFFIX, PREFIX, os.path.dirname(self._target) or ".")

    def __enter__(self) -> TargetFolder:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def keep(self) -> None:
        """The content is complete: give the folder its mode and its name."""
        self._refuse_existing()
        with suppress(OSError):
            os.chmod(self.path, 0o777 & ~umask())
        if not os.path.isdir(self._target):
            os.rename(self.path, self._target)
            return
        with _syncing(self._target):
            _sync_content(self.path)
        old = self.path + ".old"
        os.rename(self._target, old)
        try:
            os.rename(self.path, self._target)
        except OSError:
            os.rename(old, self._target)
            raise
        _sync_folder(self._target)
        shutil.rmtree(old, ignore_errors=True)

    def _refuse_existing(self) -> None:
        target = self._target
        if not os.path.lexists(target) or (_is_folder(target) and not os.listdir(target)):
            return
        if not self._force:
            raise TargetExistsError(f"{target}: already exists; use force=True to overwrite it")
        if not _is_folder(target) or not self._replaceable(target):
            raise KolmoError(f"{target}: is not a folder that may be replaced; choose another name, or remove it first")


def check_target(path: str, force: bool) -> None:
    """See, before the work, that a file of this name can be written.

    Raises:
        TargetExistsError: it exists and `force` is not set.
        KolmoError: it is a folder.
        OSError: its folder is not there, its name is too long, or nothing can be written there.

    Example:
        >>> check_target("no-such-folder/x", force=False)
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'no-such-folder/x'
    """
    if is_special(path):
        return
    if os.path.isdir(path):
        raise KolmoError(f"{path}: is a folder; name a file in it")
    _check_parent(path)
    if _look(path) and not force:
        raise TargetExistsError(f"{path}: already exists; use force=True to overwrite it")
    folder = os.path.dirname(path) or "."
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), path)


def check_folder(path: str) -> None:
    """See, before the work, that a folder of this name is there or can be made, with those above it.

    Raises:
        KolmoError: something on the way to it is not a folder.
        OSError: a name is too long, or nothing can be written there.
    """
    at = path
    while not _look(at):
        at = os.path.dirname(at.rstrip(os.sep)) or "."
    if not os.path.isdir(at):
        raise KolmoError(f"{path}: {'' if at == path else at + ' '}is not a folder; choose another place")
    if not os.access(at, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)


def is_special(path: str) -> bool:
    """Whether a path names what is written directly: a device, a pipe, a descriptor of this process."""
    if descriptor_of(path) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def descriptor_of(path: str) -> int | None:
    """The descriptor of this process that a path like /dev/stdout or /dev/fd/3 names, or None."""
    match = DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else STREAMS.get(path)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that a `Target` has begun."""
    return TEMPORARY.fullmatch(name) is not None


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


def _open_special(path: str, force: bool) -> IO[bytes]:
    number = descriptor_of(path)
    if number is not None:
        with _naming(path):
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


def _look(path: str) -> bool:
    """Whether there is anything of this name.

    Raises:
        OSError: it cannot be told, as where the name is too long.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _check_parent(path: str) -> None:
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        number = errno.ENOTDIR if os.path.lexists(folder) else errno.ENOENT
        raise OSError(number, os.strerror(number), path)


def _sync_folder(path: str) -> None:
    """Bring the name of a file or folder to the disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    with _syncing(path):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_content(folder: str) -> None:
    """Bring all files of a folder to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "r+b") as file:
                os.fsync(file.fileno())


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


@contextmanager
def _naming(target: str) -> Iterator[None]:
    """Name the target in errors, not the temporary file that was to become it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = target, None
        raise


@contextmanager
def _syncing(target: str) -> Iterator[None]:
    """Say of errors within that the target is not safe on the disk."""
    try:
        yield
    except OSError as error:
        words = f"cannot be brought safely to the disk ({error.strerror}), so nothing is removed for it"
        raise OSError(error.errno, words, target) from None
