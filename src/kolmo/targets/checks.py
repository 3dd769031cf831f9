"""Whether an output can be written, seen before the work. What it is not: a promise; others may write there too."""

from __future__ import annotations

import errno
import os
import re

from kolmo.errors import KolmoError
from kolmo.targets.renaming import TargetExistsError

DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,6})")
STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


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
    check_parent(path)
    if exists(path) and not force:
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
    while not exists(at):
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


def exists(path: str) -> bool:
    """Whether there is anything of this name.

    Raises:
        OSError: it cannot be told, as where the name is too long.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def check_parent(path: str) -> None:
    """See that the folder of a path is there.

    Raises:
        OSError: it is not.
    """
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        number = errno.ENOTDIR if os.path.lexists(folder) else errno.ENOENT
        raise OSError(number, os.strerror(number), path)
