"""Output folders that appear whole under their name, or not at all. What it is not: a writer of the files in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress

from kolmo.errors import KolmoError
from kolmo.targets.checks import check_parent, exists
from kolmo.targets.files import umask
from kolmo.targets.locks import unlock
from kolmo.targets.renaming import TargetExistsError, exchange, naming, rename_new, sync_folder, syncing
from kolmo.targets.temporaries import begin_folder


class TargetFolder:
    """An output folder that appears whole under its name, or not at all.

    An empty folder of that name is taken; another is replaced by force, if `replaceable` says so of it.

    Attributes:
        path: of the temporary folder, to write into.
    """

    def __init__(self, target: str, force: bool, replaceable: Callable[[str], bool]) -> None:
        self._target, self._force, self._replaceable = os.path.normpath(target), force, replaceable
        self._refuse_existing()
        check_parent(self._target)
        with naming(target):
            exists(self._target)
            self._lock, self.path = begin_folder(os.path.dirname(self._target) or ".")

    def __enter__(self) -> TargetFolder:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            unlock(self._lock)
            os.close(self._lock)
            self._lock = None

    def keep(self) -> None:
        """The content is complete: give the folder its mode and its name."""
        self._refuse_existing()
        with suppress(OSError):
            os.chmod(self.path, 0o777 & ~umask())
        if not os.path.lexists(self._target):
            rename_new(self.path, self._target)
            return
        with syncing(self._target):
            _sync_content(self.path)
        if self._force:
            exchange(self.path, self._target)  # what was replaced is removed at the exit
        else:
            self._take_empty()
        sync_folder(self._target)

    def _take_empty(self) -> None:
        """Take the place of an empty folder, unless another process has filled it meanwhile."""
        if os.name == "nt":  # a rename takes no name that is taken
            os.rmdir(self._target)
        try:
            os.rename(self.path, self._target)
        except OSError:
            self._refuse_existing()
            raise

    def _refuse_existing(self) -> None:
        target = self._target
        if not os.path.lexists(target) or (_is_folder(target) and not os.listdir(target)):
            return
        if not self._force:
            raise TargetExistsError(f"{target}: already exists; use force=True to overwrite it")
        if not _is_folder(target) or not self._replaceable(target):
            raise KolmoError(f"{target}: is not a folder that may be replaced; choose another name, or remove it first")


def _sync_content(folder: str) -> None:
    """Bring all files of a folder to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "r+b") as file:
                os.fsync(file.fileno())


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
