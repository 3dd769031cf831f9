"""Renames that never replace by accident, and names on the disk.

The calls of POSIX replace whatever has the new name, and cannot exchange two folders. Linux can do both in one step
(renameat2). Elsewhere a look before the rename leaves a moment for another process, and folders are exchanged in two
steps. What it is not: a choice of names.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kolmo.errors import KolmoError

WORKING_FOLDER = -100  # AT_FDCWD of Linux
NO_REPLACE, EXCHANGE = 1, 2  # flags of renameat2
UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}  # by the kernel, the file system, a sandbox


class TargetExistsError(KolmoError):
    """The output exists and may not be overwritten."""


def rename_new(old: str, new: str) -> None:
    """Rename a file or folder to a name that nothing has.

    Raises:
        TargetExistsError: something has it.
        OSError: it cannot be renamed.
    """
    try:
        if not _renamed(old, new, NO_REPLACE):
            refuse_existing(new)
            os.rename(old, new)
    except FileExistsError:  # of Windows
        refuse_existing(new)
        raise


def exchange(old: str, new: str) -> None:
    """Give two folders each other's names.

    Raises:
        OSError: it cannot be done; both have their own names.
    """
    if _renamed(old, new, EXCHANGE):
        return
    aside = old + ".old"
    os.rename(new, aside)
    try:
        os.rename(old, new)
    except OSError:
        os.rename(aside, new)
        raise
    os.rename(aside, old)


def refuse_existing(path: str) -> None:
    """Raise an error if anything has this name.

    Raises:
        TargetExistsError: something has it.
    """
    if os.path.lexists(path):
        raise TargetExistsError(f"{path}: already exists; use force=True to overwrite it")


def sync_folder(path: str) -> None:
    """Bring the name of a file or folder to the disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    with syncing(path):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming(target: str) -> Iterator[None]:
    """Name the target in errors, not the temporary file that was to become it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = target, None
        raise


@contextmanager
def syncing(target: str) -> Iterator[None]:
    """Say of errors within that the target is not safe on the disk."""
    try:
        yield
    except OSError as error:
        words = f"cannot be brought safely to the disk ({error.strerror}), so nothing is removed for it"
        raise OSError(error.errno, words, target) from None


def _renamed(old: str, new: str, flag: int) -> bool:
    """Whether Linux renamed it, with a flag of renameat2; False where it knows no such call.

    Raises:
        TargetExistsError: the new name is taken, and the flag is `NO_REPLACE`.
        OSError: it refuses for another reason.
    """
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, a C library from before 2018
        return False
    paths = os.fsencode(old), os.fsencode(new)
    if call(WORKING_FOLDER, paths[0], WORKING_FOLDER, paths[1], flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNSUPPORTED:
        return False
    if number == errno.EEXIST:
        raise TargetExistsError(f"{new}: already exists; use force=True to overwrite it")
    raise OSError(number, os.strerror(number), old, None, new)
