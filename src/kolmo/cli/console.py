"""What the verbs share towards the person: messages, one line per file, progress, questions, exit status.

Standard output is for data (and JSON lines, unless the data goes there); all else goes to standard error.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import click

from kolmo.cli.arguments import as_flags
from kolmo.errors import KolmoError
from kolmo.foreign import line, short

STDIN, STDOUT = "(stdin)", "(stdout)"
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors that only an output has
MAX_TITLE_CHARACTERS = 40  # of the title of a progress bar
MAX_SILENT_BYTES = 1 << 14  # raw bytes that the reference kernels code without a warning: they take up to a minute
REMEDIES = {
    errno.ENOSPC: "free some space and repeat; the input is kept",
    errno.EDQUOT: "free some space and repeat; the input is kept",
    errno.EFBIG: "raise the limit (ulimit -f), or choose another file system; the input is kept",
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "check the name",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose another place with -o",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "check where the symbolic link points to",
}


@dataclass
class Console:
    """How to talk, and how it went so far: `status` becomes the exit status."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    data_on_stdout: bool = False
    status: int = 0
    warned: bool = False
    failures: int = 0
    deaf: bool = False

    def say(self, message: str) -> None:
        """A line for the person, with nothing in it that a terminal would obey, and not without end."""
        say(message)

    def warn(self, message: str) -> None:
        """A line that -q silences."""
        if not self.quiet:
            self.say(message)

    def warn_if_slow(self, size: int | None) -> None:
        """Say once that the C kernels are missing: to a person, and wherever `size` raw bytes will take long.

        Args:
            size: raw bytes of the work; None: nobody knows.
        """
        from kolmo.native.dispatch import SLOW, describe

        seen = self.verbose or is_terminal(sys.stderr)
        if SLOW and not self.warned and (seen or size is None or size > MAX_SILENT_BYTES):
            self.warned = True
            self.warn(describe())

    def fail(self, message: str, path: str) -> None:
        """An error with one file: the others go on."""
        message = as_flags(message)
        self.status = 1
        self.failures += 1
        self.say(message)
        if self.json:
            self.record({"file": path, "error": message})

    def record(self, content: dict[str, Any]) -> None:
        """One JSON line. Texts are exact; numbers that JSON does not have (NaN and infinity) are null."""
        self._write(json.dumps(_finite(content), allow_nan=False), err=self.data_on_stdout)

    def _write(self, text: str, *, err: bool) -> None:
        if self.deaf:
            return
        try:
            click.echo(text, err=err)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.deaf, self.status = True, 1
            if not err:
                give_up(sys.stdout)
                say(f"{STDOUT}: {error.strerror or error}; what was to be printed is lost")

    def line(self, text: str) -> None:
        """The line of a finished file, for a terminal or -v."""
        wanted = self.verbose or (is_terminal(sys.stderr) and not self.data_on_stdout)
        if wanted and not self.quiet:
            show(line(text))

    def shows_progress(self) -> bool:
        """Whether anyone would see a bar."""
        return not self.quiet and is_terminal(sys.stderr)

    def wants_size(self) -> bool:
        """Whether to find out the raw size before the work: for the bar, or for a warning."""
        from kolmo.native.dispatch import SLOW

        return SLOW or self.shows_progress()

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[Any]:
        """A bar on a terminal; yields what to call with the bytes done, or None."""
        if not self.shows_progress():
            yield None
            return
        from tqdm import tqdm

        with tqdm(
            total=total,
            desc=short(title, MAX_TITLE_CHARACTERS),
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            delay=0.3,
        ) as bar:
            yield bar.update

    @contextmanager
    def writing_to(self, target: str) -> Iterator[None]:
        """Name the output in errors of writing, which do not name it themselves."""
        try:
            yield
        except OSError as error:
            if error.filename is None and error.errno in WRITING:
                error.filename = target
            raise

    @contextmanager
    def guarded(self, path: str) -> Iterator[None]:
        """Turn errors with one file into a message and exit status 1."""
        try:
            yield
        except BrokenPipeError:
            give_up(sys.stdout)
            raise SystemExit(141) from None
        except KolmoError as error:
            self.fail(str(error), path)
        except OSError as error:
            if error.filename == STDOUT:
                give_up(sys.stdout)
            self.fail(_describe(error, path), path)
        except MemoryError:
            self.fail(f"{path}: not enough memory; use fewer threads (-T 1) or smaller blocks", path)


def say(message: str) -> None:
    """A line for the person on standard error; where even that cannot be written, nothing."""
    show(f"kolmo: {line(as_flags(message))}")


def show(text: str) -> None:
    """A text on standard error, if that can be written."""
    try:
        click.echo(text, err=True)
    except OSError:
        give_up(sys.stderr)


def give_up(stream: IO[Any] | None) -> None:
    """Let a standard stream lead nowhere, since what it still holds would fail the last flush, with status 120."""
    with suppress(OSError, ValueError, AttributeError):
        assert stream is not None
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, with nothing in them that a terminal would obey, and none of them without end.

    Raises:
        OSError: they cannot be written; what follows them is let go, so that this is said once.
    """
    try:
        click.echo("\n".join(map(line, lines)))
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(sys.stdout)
        error.filename = STDOUT
        raise


def may_overwrite(target: str, console: Console, *, ask: bool) -> bool:
    """Ask on a terminal, as zstd does; elsewhere no."""
    if not (ask and is_terminal(sys.stdin) and is_terminal(sys.stderr)) or console.quiet:
        return False
    click.echo(f"kolmo: {short(target, 200)} already exists; overwrite (y/n)? ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def standard_input(*, force: bool) -> IO[bytes]:
    """Standard input as bytes; a terminal only by force.

    Raises:
        KolmoError: it is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise KolmoError(f"{STDIN}: is closed; name a file, or pipe data in")
    if is_terminal(sys.stdin) and not force:
        raise KolmoError(f"{STDIN}: is a terminal; name a file, pipe data in, or use -f to type it")
    _let_wait(sys.stdin.buffer)
    return sys.stdin.buffer


def standard_output(*, force: bool) -> IO[bytes]:
    """Standard output for binary data; a terminal only by force.

    Raises:
        KolmoError: it is a terminal, or closed.
    """
    if sys.stdout is None or sys.stdout.closed:
        raise KolmoError(f"{STDOUT}: is closed; use -o FILE, or a pipe")
    if is_terminal(sys.stdout) and not force:
        raise KolmoError(f"{STDOUT}: is a terminal, no place for binary data; use -o FILE, a pipe, or -f")
    _let_wait(sys.stdout.buffer)
    return sys.stdout.buffer


def _let_wait(stream: IO[bytes]) -> None:
    """Make a descriptor a blocking one, which a parent may have handed over otherwise.

    A read of one that has no data yet returns what looks like the end, and a write to a full pipe fails.
    """
    with suppress(OSError, AttributeError):  # no descriptor below, or none that can be set on this system
        os.set_blocking(stream.fileno(), True)


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a person sits at the stream."""
    return stream is not None and not stream.closed and stream.isatty()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _describe(error: OSError, path: str) -> str:
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else path
    remedy = REMEDIES.get(error.errno or 0)
    return f"{where}: {error.strerror or error}" + (f"; {remedy}" if remedy else "")
