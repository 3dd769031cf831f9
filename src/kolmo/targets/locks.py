"""Locks between processes, which the system frees when a process ends, however it ends.

What it is not: a protection on file systems without locks, or on Windows; there, processes work side by side as if
they were alone.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kolmo.errors import KolmoError

LOCK = ".lock"  # usual name of a folder's lock file
ATTEMPTS = 1000  # to make a lock file that others remove, or whose folder they remove

_held: set[int] = set()  # descriptors of `locked`


def _leave_to_parent() -> None:
    """In a fork: a lock is free when the process that took it has ended, even if this one has not."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def locked(path: str | Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock that a file stands for; the file is there only while the lock is held.

    Threads of one process exclude each other too.

    Args:
        path: of the lock file; its folder is made if there is none.
        busy: what to say if another holds it; None: wait until it is free.

    Raises:
        KolmoError: another holds it, and `busy` is given.
        OSError: the lock file cannot be made.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), LOCK)
        >>> with locked(path, "another run works here"), locked(path, "another run works here"):
        ...     pass
        Traceback (most recent call last):
        kolmo.errors.KolmoError: another run works here
    """
    if sys.platform == "win32":
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield
        return
    descriptor = _take(os.fspath(path), busy)
    _held.add(descriptor)
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:  # else this is a fork, and the lock is its parent's
            _held.discard(descriptor)
            with suppress(OSError):  # its folder is gone, or may not be changed any more
                os.unlink(path)
            unlock(descriptor)
            os.close(descriptor)


def lock_open(descriptor: int, path: str) -> None:
    """Lock an open file until it is closed, where the file system has locks.

    A `Target` keeps its file locked until its context ends. So the file is not taken for an input that may be removed
    while its writer has not yet removed what it was made from.

    Raises:
        KolmoError: another process has locked it.
        FileNotFoundError: it has lost its name meanwhile.
    """
    if try_lock(descriptor) is False:
        raise KolmoError(f"{path}: another process works on it; wait until that has ended")
    if not is_named(descriptor, path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def try_lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file or folder: whether it is locked now, or None where the file system has no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_named(descriptor: int, path: str) -> bool:
    """Whether a path still names an open file or folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def unlock(descriptor: int) -> None:
    """Free a lock now, even if another process has inherited the descriptor."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _take(path: str, busy: str | None) -> int:
    """Open and lock a lock file. Whoever held it before may have removed it meanwhile: then a new one is made."""
    for attempt in range(ATTEMPTS):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # its folder was removed in between
            if attempt + 1 == ATTEMPTS:
                raise
            continue
        try:
            if try_lock(descriptor, wait=busy is None) is False:
                raise KolmoError(busy or "")
            if is_named(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise KolmoError(busy or f"{path}: is taken by other processes all the time; try again later")
