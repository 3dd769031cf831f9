"""From the arguments to the files: `-`, folders, symbolic links, pipes, as zstd treats them.

What it is not: it reads nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from kolmo.cli.console import Console, standard_input
from kolmo.errors import KolmoError
from kolmo.targets import descriptor_of, is_temporary

SUFFIX = ".kmo"


def expand(arguments: Sequence[str], console: Console, *, recursive: bool, force: bool, packed: bool) -> Iterator[str]:
    """The files to work on; "-" is standard input, which no argument means too.

    Whatever cannot be worked on gets one line, and the others follow.

    Args:
        arguments: files, folders, "-".
        console: takes the messages about what is left out.
        recursive: go into folders.
        force: follow symbolic links, read pipes and devices.
        packed: of a folder, take the files that end in .kmo; else those that do not.
    """
    for path in arguments or ("-",):
        if path == "-":
            yield path
            continue
        failures = console.failures
        with console.guarded(path):
            try:
                status = _follow(path)
            except FileNotFoundError:
                raise KolmoError(f"{path}: no such file; check the name") from None
            if _is_skipped_link(path, force):
                console.warn(f"{path}: is a symbolic link, skipped; use -f to follow it")
                if len(arguments) == 1:
                    console.status = 1
                continue
            if not stat.S_ISDIR(status.st_mode):
                check_input(path, force=force)
            elif not recursive:
                raise KolmoError(f"{path}: is a folder, skipped; use -r to go into it")
        if console.failures > failures:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, console, force, packed)
        else:
            yield path


def check_input(path: str, *, force: bool) -> None:
    """Refuse what cannot be read as a file: it is not there, a folder, a socket; a pipe or device without force.

    What this process has open already, like /dev/stdin or the /dev/fd/63 of a shell's <(command), is read.

    Raises:
        KolmoError: it is refused.
        OSError: it is not there.
    """
    mode = _follow(path).st_mode
    if stat.S_ISDIR(mode):
        raise KolmoError(f"{path}: is a folder; name a file in it")
    if stat.S_ISSOCK(mode):
        raise KolmoError(f"{path}: is a socket, which cannot be read as a file")
    if not (stat.S_ISREG(mode) or force or descriptor_of(path) is not None):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise KolmoError(f"{path}: is {kind}, not a regular file, skipped; use -f to read it all the same")


def check_weights(path: str) -> None:
    """Refuse what cannot be read at any place, as weights are; files and folders are left to their reader.

    Raises:
        KolmoError: it is a pipe, a socket or a device, or not there.
    """
    mode = _follow(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise KolmoError(f"{path}: is neither a file nor a folder; weights are read at any place, so copy it to a file")


@contextmanager
def open_input(path: str, *, force: bool) -> Iterator[IO[bytes]]:
    """A file, or standard input for "-".

    Raises:
        KolmoError: standard input is a terminal; or the path is a folder, a socket, or without force a pipe.
        OSError: it cannot be opened.
    """
    if path == "-":
        yield standard_input(force=force)
        return
    check_input(path, force=force)
    with open(path, "rb") as file:
        yield file


def _follow(path: str) -> os.stat_result:
    """What a path stands for.

    Raises:
        KolmoError: it is a symbolic link that leads nowhere.
        OSError: nothing has this name, or it cannot be reached.
    """
    try:
        return os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise KolmoError(f"{path}: is a symbolic link to nothing; check where it points to") from None
        raise


def _is_skipped_link(path: str, force: bool) -> bool:
    if force or descriptor_of(path) is not None or not os.path.islink(path):
        return False
    return os.path.isfile(path) or os.path.isdir(path)


def _walk(folder: str, console: Console, force: bool, packed: bool) -> Iterator[str]:
    """The files in a folder and those below it; folders that cannot be read are reported."""

    def report(error: OSError) -> None:
        with console.guarded(folder):
            raise error

    done = {_identity(folder)}
    for parent, folders, names in os.walk(folder, onerror=report, followlinks=force):
        folders[:] = sorted(name for name in folders if not is_temporary(name))
        if force:  # links may lead back
            for name in folders.copy():
                identity = _identity(os.path.join(parent, name))
                if identity in done:
                    folders.remove(name)
                done.add(identity)
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name.endswith(SUFFIX) != packed or is_temporary(name) or (os.path.islink(path) and not force):
                continue
            if os.path.isfile(path) or not os.path.lexists(path):
                yield path
            elif os.path.islink(path) and not os.path.exists(path):
                console.warn(f"{path}: is a symbolic link to nothing, skipped")
            else:
                console.warn(f"{path}: is not a regular file, skipped")


def _identity(folder: str) -> tuple[int, int] | str:
    """What tells a folder from all others, by whatever path it is met."""
    try:
        status = os.stat(folder)
    except OSError:
        return folder
    return status.st_dev, status.st_ino
