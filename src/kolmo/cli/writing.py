"""What `compress` and `decompress` share: options, where each output goes, and the loop over the files.

What it is not: it neither compresses nor decompresses; the verb brings the function that does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

import click

from kolmo.cli import options
from kolmo.cli.console import STDIN, STDOUT, Console, may_overwrite, standard_input, standard_output
from kolmo.cli.inputs import expand
from kolmo.cli.options import Function
from kolmo.errors import KolmoError
from kolmo.progress import Progress
from kolmo.targets import TargetExistsError, check_target, is_special

if TYPE_CHECKING:
    from kolmo.archive.streams import Summary


@dataclass(frozen=True)
class Writing:
    """The shared options, by their parameters' names."""

    files: tuple[str, ...]
    to_stdout: bool
    output: str | None
    force: bool
    remove: bool
    recursive: bool
    update: bool
    threads: int
    quiet: bool
    verbose: bool
    as_json: bool

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            click.UsageError: they do.
        """
        if self.output not in (None, "-") and (len(self.files) > 1 or self.recursive):
            raise click.UsageError("-o takes one input; use -c > FILE to put several into one file")
        if self.to_stdout and self.output not in (None, "-"):
            raise click.UsageError(f"-c writes to standard output and -o to {self.output}; give one of them")
        if self.update and (self.to_stdout or self.output == "-"):
            raise click.UsageError("-u compares with the output's file, which standard output is not; leave one out")
        if self.files.count("-") > 1:
            raise click.UsageError("standard input can be read once; give - once")


def writing_options(function: Function) -> Function:
    """Declare the options of `Writing`."""
    for declare in (
        click.argument("files", nargs=-1, type=options.PATH),
        options.json_lines,
        options.verbose,
        options.quiet,
        options.threads,
        options.recursive,
        click.option(
            "-u",
            "--update",
            is_flag=True,
            help="Skip inputs whose output is as new or newer; overwrite older outputs.",
        ),
        click.option(
            "--rm",
            "remove",
            is_flag=True,
            help="Remove each input when its output is safe on the disk; keep it if it changed meanwhile.",
        ),
        click.option("-k", "--keep", is_flag=True, expose_value=False, callback=_keep, help="Keep inputs (default)."),
        click.option(
            "-f",
            "--force",
            is_flag=True,
            help="Overwrite; follow links; read pipes and devices; data from and to terminals.",
        ),
        options.output("Write to OUT; - is standard output."),
        click.option("-c", "--stdout", "to_stdout", is_flag=True, help="Write to standard output."),
    ):
        function = declare(function)
    return function


def _keep(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.params["remove"] = False


class Verb(Protocol):
    """What tells compressing from decompressing."""

    @property
    def packs(self) -> bool:
        """Whether outputs are .kmo files."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Lines about the last file, for -v."""
        ...

    def target(self, path: str) -> str:
        """The output's path for an input's."""
        ...

    def total(self, path: str) -> int | None:
        """Raw bytes to expect, for the progress bar."""
        ...

    def matches(self, path: str, target: str) -> bool:
        """Whether an output has the size that belongs to an input, by what is found without decoding."""
        ...

    def run(
        self,
        source: str | IO[bytes],
        target: str | IO[bytes],
        *,
        force: bool,
        remove: bool,
        progress: Progress | None,
    ) -> Summary:
        """Do it."""
        ...


def each_file(job: Writing, verb: Verb) -> int:
    """Work on every input; one that fails does not stop the others. Returns the exit status."""
    to_stdout = job.to_stdout or job.output == "-"
    console = Console(job.quiet, job.verbose, job.as_json)
    inputs = expand(job.files, console, recursive=job.recursive, force=job.force, packed=not verb.packs)
    for path in inputs:
        console.data_on_stdout = to_stdout or (path == "-" and job.output is None)
        with console.guarded(STDIN if path == "-" else path):
            _one_file(job, verb, path, console)
    return console.status


def _one_file(job: Writing, verb: Verb, path: str, console: Console) -> None:
    source: str | IO[bytes] = standard_input(force=job.force) if path == "-" else path
    shown = STDIN if path == "-" else path
    force, remove = job.force, job.remove and path != "-"
    if console.data_on_stdout:
        target: str | IO[bytes] = standard_output(force=force or not verb.packs)
        shown_target, remove = STDOUT, False
    else:
        target = shown_target = job.output or verb.target(path)
        if os.path.exists(target) and path != "-" and os.path.exists(path) and os.path.samefile(path, target):
            raise KolmoError(f"{path}: input and output are the same file; choose another with -o")
        if is_special(target):
            if remove:
                console.warn(f"{path}: is kept, since {target} is not a regular file")
            remove = False
        elif os.path.isfile(target) and not force:
            standing = _standing(verb, path, target)
            if standing == "current" and (job.recursive or job.update):
                _tell_skipped(console, path, target, remove)
                return
            if job.update and standing == "newer" and not verb.packs:
                _tell_skipped(console, path, target, remove)
                return
            force = (job.update and standing == "older") or may_overwrite(target, console, ask=path != "-")
            if standing == "older" and not force:
                raise TargetExistsError(f"{target}: already exists, older than {path}; -u renews it, -f overwrites any")
        check_target(target, force)
    # Regular files only: to look into a pipe would be to take from it.
    total = verb.total(path) if os.path.isfile(path) and console.wants_size() else None
    console.warn_if_slow(total)
    start = time.perf_counter()
    with console.writing_to(shown_target), console.progress(shown, total) as progress:
        summary = verb.run(source, target, force=force, remove=remove, progress=progress)
    seconds = time.perf_counter() - start
    _tell(console, verb, shown, shown_target, summary, seconds)


def _standing(verb: Verb, path: str, target: str) -> str:
    """Of an output that is there: "current", "older" than its input, or "newer" and not what would be made of it."""
    if path == "-" or not os.path.isfile(path):
        return "newer"
    if os.stat(target).st_mtime_ns < os.stat(path).st_mtime_ns:
        return "older"
    try:
        return "current" if verb.matches(path, target) else "newer"
    except (KolmoError, OSError):
        return "newer"


def _tell_skipped(console: Console, path: str, target: str, remove: bool) -> None:
    if remove:
        console.warn(f"{path}: {target} is there already, skipped; test that, then remove {path} yourself")
    else:
        console.line(f"{path:<20} : skipped, {target} is up to date")
    if console.json:
        console.record({"file": path, "output": target, "skipped": True})


def _tell(console: Console, verb: Verb, path: str, target: str, summary: Summary, seconds: float) -> None:
    raw, packed = summary.raw_size, summary.packed_size
    if verb.packs:
        rate = f"{100 * packed / raw:6.2f}%" if raw else "  empty"
        console.line(f"{path:<20} :{rate}   ({raw:6} => {packed:6} bytes, {target})")
    else:
        console.line(f"{path:<20} : {raw} bytes")
    if console.verbose:
        for note in verb.notes:
            console.line(f"{'':<20}   {note}")
    if console.json:
        record: dict[str, Any] = {"file": path, "output": target, "raw_size": raw, "packed_size": packed}
        record["rate"] = packed / raw if raw else None
        record["seconds"] = round(seconds, 3)
        console.record(record)
