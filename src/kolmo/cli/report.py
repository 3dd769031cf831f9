"""`kolmo report`: results of `kolmo eval` as a page, and as tables for other programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click

from kolmo.cli import options
from kolmo.cli.console import STDOUT, Console, is_terminal, may_overwrite, standard_output
from kolmo.errors import KolmoError

if TYPE_CHECKING:
    from kolmo.report import Leaderboard

PAGE = "report.html"


@click.command("report")
@options.output("The page; - is standard output.", default=PAGE, show_default=True)
@click.option("--title", metavar="TEXT", help="Title of the page.")
@options.mode("Take results in this mode alone: {}.")
@click.option("--models", metavar="TABLE", help="Columns model, cutoff, family, parameters, licence, url; CSV or JSON.")
@click.option("--scores", metavar="TABLE", help="Benchmark scores: a column model, and columns with scores.")
@click.option("--score", "columns", multiple=True, metavar="COLUMN", help="Column with scores; of several, the mean.")
@click.option(
    "--documents",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    metavar="N",
    help="Documents of each corpus that the page shows.",
)
@click.option(
    "--show",
    callback=options.parse_size,
    default="512K",
    show_default=True,
    metavar="SIZE",
    help="Text of documents that the page shows, at most.",
)
@click.option("--published", is_flag=True, help="Add 28 published models to the table of mode paper, marked as such.")
@click.option("--markdown", metavar="OUT", help="Write the tables as Markdown too.")
@click.option("--csv", metavar="OUT", help="Write all metrics: a row for each model, corpus and subset.")
@click.option("--wide", metavar="OUT", help="Write a row for each model of the main table, as kolmo fit reads it.")
@click.option("--opencompass", metavar="OUT", help="Write a summary as OpenCompass does.")
@click.option("-f", "--force", is_flag=True, help="Overwrite.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON object.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS...", type=options.PATH)
def command(
    *,
    results: tuple[str, ...],
    output: str,
    title: str | None,
    mode: str | None,
    models: str | None,
    scores: str | None,
    columns: tuple[str, ...],
    documents: int,
    show: int,
    published: bool,
    markdown: str | None,
    csv: str | None,
    wide: str | None,
    opencompass: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Make a leaderboard of RESULTS, folders of kolmo eval.

    One page with tables, scores, dates and documents; it needs no other file and no network. Each mode, block and
    stride has a table of its own. For all outputs, - is standard output.
    """
    from kolmo.report import leaderboard
    from kolmo.report.board.contents import DEFAULT_TITLE

    wanted = {"page": output, "markdown": markdown, "csv": csv, "wide": wide, "opencompass": opencompass}
    sinks = {kind: path for kind, path in wanted.items() if path is not None}
    if list(sinks.values()).count("-") + as_json > 1:
        raise click.UsageError("only one can have standard output; write the others elsewhere")
    places = [os.path.abspath(path) for path in sinks.values() if path != "-"]
    if double := next((path for path in places if places.count(path) > 1), None):
        raise click.UsageError(f"{os.path.basename(double)} is given twice; give each output a name of its own")
    if columns and scores is None:
        raise click.UsageError("--score names a column of --scores TABLE; add it")
    console = Console(quiet, verbose, as_json, data_on_stdout="-" in sinks.values())
    with console.guarded("report"):
        forced = {path: _may_write(path, force, console) for path in sinks.values()}
        board = leaderboard(
            results,
            title=title or DEFAULT_TITLE,
            mode=mode,
            scores=scores,
            score_columns=columns,
            models=models,
            documents=documents,
            limit=show,
            published=published,
        )
        for kind, path in sinks.items():
            _write(_made(kind, board, console), path, forced[path], console)
        models_there = {entry.model for section in board.sections for entry in section.measured}
        corpora = {column.name for section in board.sections for column in section.columns}
        console.line(
            f"{', '.join(results)}: {len(models_there)} models, {len(corpora)} corpora ({', '.join(sinks.values())})"
        )
        if as_json:
            console.record({"outputs": sinks, **board.record()})
    return console.status


def _made(kind: str, board: Leaderboard, console: Console) -> str:
    if kind == "wide" and len(board.sections) > 1:
        from kolmo.report.board.export import wide_section

        console.warn(f"--wide has one table alone: {wide_section(board).title}; another with --mode")
    makers: dict[str, Callable[[], str]] = {
        "page": board.html,
        "markdown": board.markdown,
        "csv": board.csv,
        "wide": board.wide,
        "opencompass": board.opencompass,
    }
    return makers[kind]()


def _may_write(path: str, force: bool, console: Console) -> bool:
    """Whether an output may be overwritten, asked before the work.

    Raises:
        KolmoError, OSError: it cannot be written there.
    """
    from kolmo.targets import TargetExistsError, check_target

    if path == "-":
        return True
    if os.path.isfile(path) and not force:
        force = may_overwrite(path, console, ask=True)
        if not force:
            raise TargetExistsError(f"{path}: already exists; overwrite it with -f, or choose another name")
    check_target(path, force)
    return force


def _write(text: str, path: str, force: bool, console: Console) -> None:
    from kolmo.targets import Attributes, Target

    sink: str | IO[bytes] = path
    shown = path
    if path == "-":
        sink, shown = _standard(text), STDOUT
    with console.writing_to(shown), Target(sink, force) as target:
        target.file.write(text.encode("utf-8", "backslashreplace"))
        target.keep(Attributes())


def _standard(text: str) -> Any:
    import sys

    if is_terminal(sys.stdout) and text.startswith("<!DOCTYPE"):
        raise KolmoError(f"{STDOUT}: is a terminal, no place for a page; use -o FILE, or a pipe")
    return standard_output(force=True)
