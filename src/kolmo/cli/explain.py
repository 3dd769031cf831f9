"""`kolmo explain`: a page, or JSON, about where the bits of a file go."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.console import STDIN, STDOUT, Console, is_terminal, may_overwrite, standard_output
from kolmo.cli.flags import LevelCommand
from kolmo.cli.inputs import check_input, open_input
from kolmo.errors import KolmoError

if TYPE_CHECKING:
    from kolmo.predictors.base import Predictor
    from kolmo.report import Explanation

SUFFIX = ".html"


@click.command("explain", cls=LevelCommand)
@options.levels
@click.option("-m", "--predictor", metavar="SPEC", help="Predictor in place of a level, like cm:9 or network:FOLDER.")
@options.output("Write the page to OUT; - is standard output.")
@click.option(
    "--show",
    callback=options.parse_size,
    default="200K",
    show_default=True,
    metavar="SIZE",
    help="Show so much of the content; of more, its head and the most expensive stretches.",
)
@options.language_models
@click.option("-f", "--force", is_flag=True, help="Overwrite; input and page from and to terminals.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print totals and the cost of each line; a page only with -o.")
@click.argument("file", default="-", type=options.PATH)
def command(
    *,
    file: str,
    predictor: str | None,
    output: str | None,
    show: int,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    device: str | None,
    batch: int | None,
    level: int | None = None,
) -> int:
    """Show where the bits of FILE go, in FILE.html.

    The page colours every word, or byte, by what it costs under the predictor. Without FILE, and for -, standard
    input is explained, on standard output.
    """
    if as_json and output == "-":
        raise click.UsageError("--json takes standard output; write the page elsewhere with -o FILE")
    settings = options.run_settings(device=device, batch=batch)
    chosen = options.chosen_predictor(predictor, level, settings)
    to_stdout = output == "-" or (output is None and file == "-" and not as_json)
    console = Console(quiet, verbose, as_json, data_on_stdout=to_stdout)
    shown = STDIN if file == "-" else file
    with console.guarded(shown):
        if file != "-":
            check_input(file, force=force)
        if to_stdout:
            _refuse_terminal(force=force)
            sink: str | IO[bytes] | None = standard_output(force=True)
        else:
            sink = output or (None if as_json else file + SUFFIX)
        if isinstance(sink, str):
            if file != "-" and os.path.exists(sink) and os.path.exists(file) and os.path.samefile(file, sink):
                raise KolmoError(f"{file}: input and output are the same file; choose another with -o")
            if os.path.isfile(sink) and not force:
                force = may_overwrite(sink, console, ask=file != "-")
        _explain(file, shown, sink, chosen, show, force, console)
    return console.status


def _explain(
    path: str,
    shown: str,
    sink: str | IO[bytes] | None,
    predictor: Predictor,
    limit: int,
    force: bool,
    console: Console,
) -> None:
    from kolmo.targets import Attributes, Target

    target = STDOUT if sink is not None and not isinstance(sink, str) else sink
    with console.writing_to(target or STDOUT), nullcontext() if sink is None else Target(sink, force) as out:
        with open_input(path, force=force) as file:
            explanation = _read_and_score(file, shown, predictor, console)
        if out is not None:
            out.file.write(explanation.html(limit=limit).encode())
            out.keep(Attributes())
    totals = explanation.totals
    if totals.bits_per_byte is None:
        cost = "empty"
    else:
        cost = f"{totals.bits_per_byte:.3f} bits per byte, {totals.code_size:,.0f} of {totals.size:,} bytes"
    console.line(f"{shown:<20} : {cost}" + (f" ({target})" if target else ""))
    if console.json:
        console.record({"file": shown, "output": target, **explanation.record()})


def _read_and_score(file: IO[bytes], shown: str, predictor: Predictor, console: Console) -> Explanation:
    from kolmo.report import explain
    from kolmo.report.explain import MAX_CONTENT_BYTES

    data = file.read(MAX_CONTENT_BYTES + 1)  # one more, to be refused
    console.warn_if_slow(len(data))
    with console.progress(shown, len(data)) as progress:
        return explain(data, predictor, name=os.path.basename(shown), progress=progress)


def _refuse_terminal(*, force: bool) -> None:
    """A page on a terminal helps nobody.

    Raises:
        KolmoError: standard output is one, and this is not forced.
    """
    import sys

    if is_terminal(sys.stdout) and not force:
        raise KolmoError(f"{STDOUT}: is a terminal, no place for a page; use -o FILE, a pipe, or -f")
