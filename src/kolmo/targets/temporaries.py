"""Temporary files and folders: locked while a process writes them, and removed when none does any more.

A process that is killed leaves its temporary file behind. The next process that writes to the same folder removes it:
a temporary that can be locked has no living writer. Locks of some shared file systems hold within one machine only, so
a name begins with digits that stand for the machine. What it is not: a remover of anything without a temporary name,
of what another machine or user made, or of anything on a file system without locks.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import stat
import sys
from contextlib import suppress
from functools import cache
from typing import IO

from kolmo.targets.locks import is_named, try_lock

PREFIX, SUFFIX = ".kolmo-", ".tmp"  # of temporary names, which are short whatever the target's name is
TEMPORARY = re.compile(r"\.kolmo-[a-z0-9_]{8}\.tmp")
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_searched: set[tuple[int, int]] = set()  # device and inode of the folders that this process has tidied


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that a `Target` or `TargetFolder` has begun."""
    return TEMPORARY.fullmatch(name) is not None


@cache
def own_prefix() -> str:
    """How the temporary names that processes of this machine choose begin."""
    return PREFIX + hashlib.blake2b(platform.node().encode(), digest_size=2).hexdigest()


def begin_file(folder: str) -> tuple[IO[bytes], int | None, str]:
    """A new temporary file, the descriptor that keeps it locked even when it is closed (None on Windows), its path."""
    _search_once(folder)
    while True:
        path = _new_path(folder)
        try:
            descriptor = os.open(path, NEW_FILE, 0o600)
            file = os.fdopen(descriptor, "w+b")
            if sys.platform == "win32":
                return file, None, path
            if try_lock(descriptor) is not False and is_named(descriptor, path):
                return file, os.dup(descriptor), path
            file.close()  # another process takes it for an abandoned one, and removes it
        except FileExistsError:
            continue
        except BaseException:  # a signal, most of all
            with suppress(OSError):
                os.unlink(path)
            raise


def begin_folder(folder: str) -> tuple[int | None, str]:
    """A new temporary folder: the descriptor that keeps it locked (None on Windows), and its path."""
    _search_once(folder)
    while True:
        path = _new_path(folder)
        try:
            os.mkdir(path, 0o700)
            if sys.platform == "win32":
                return None, path
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if try_lock(descriptor) is not False and is_named(descriptor, path):
                return descriptor, path
            os.close(descriptor)  # as above
        except FileExistsError:
            continue
        except FileNotFoundError:  # removed before it was opened, or there is no such folder
            if not os.path.isdir(folder):
                raise
        except BaseException:
            with suppress(OSError):
                os.rmdir(path)
            raise


def remove_abandoned(folder: str) -> None:
    """Remove the temporaries in a folder that this user's processes on this machine left there, and none writes now."""
    if sys.platform == "win32":
        return
    with suppress(OSError), os.scandir(folder or ".") as entries:
        own = own_prefix()
        for path in [entry.path for entry in entries if entry.name.startswith(own) and is_temporary(entry.name)]:
            with suppress(OSError):
                _remove(path)


def _new_path(folder: str) -> str:
    return os.path.join(os.path.abspath(folder), f"{own_prefix()}{os.urandom(2).hex()}{SUFFIX}")


def _search_once(folder: str) -> None:
    """Tidy a folder when this process first writes to it, and not for each file."""
    with suppress(OSError):
        status = os.stat(folder or ".")
        if (place := (status.st_dev, status.st_ino)) not in _searched:
            _searched.add(place)
            remove_abandoned(folder)


def _remove(path: str) -> None:
    """Remove a temporary, unless another process has locked it, or it belongs to another user."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or not try_lock(descriptor) or not is_named(descriptor, path):
            return
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(status.st_mode):
            os.unlink(path)
    finally:
        os.close(descriptor)
