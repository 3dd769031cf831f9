"""`kolmo fit`: scores of benchmarks against bits per character: a line, its error, and what it predicts."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.console import STDIN, STDOUT, Console, may_overwrite, print_lines
from kolmo.cli.inputs import open_input
from kolmo.foreign import short

if TYPE_CHECKING:
    from kolmo.cli.fit_result import FitResult
    from kolmo.fit.areas import Area
    from kolmo.fit.table import Table

PUBLISHED_TITLE = "The published models (Huang et al., 2024)"


def _parse_predictions(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, float]]:
    parsed = []
    for value in values:
        name, _, number = value.rpartition("=")
        try:
            bpc = float(number)
        except ValueError:
            bpc = math.nan
        if not math.isfinite(bpc) or value.startswith("="):
            raise click.BadParameter(f"{value!r} is not a BPC; write 0.42, or NAME=0.42", ctx, param)
        parsed.append((name, bpc))
    return parsed


def _parse_areas(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[Area]:
    from kolmo.fit.areas import Area

    areas = []
    for value in values:
        name, _, columns = value.partition("=")
        bpc, _, scores = columns.partition(":")
        area = Area(name.strip(), *(tuple(part.strip() for part in side.split("+")) for side in (bpc, scores)))
        if not (area.name and all(area.bpc) and all(area.scores)):
            raise click.BadParameter(f"{value!r} is not an area; write NAME=BPC_COLUMN:SCORE_COLUMN", ctx, param)
        areas.append(area)
    return areas


@click.command("fit")
@click.option("--bpc", multiple=True, metavar="COLUMN", help="Column with BPC; of several, the mean.")
@click.option("--score", multiple=True, metavar="COLUMN", help="Column with scores; of several, the mean.")
@click.option(
    "--area",
    "areas",
    multiple=True,
    callback=_parse_areas,
    metavar="NAME=BPC:SCORE[+SCORE...]",
    help="Fit these columns alone too; the score is the mean over areas.",
)
@click.option(
    "--predict",
    "wanted",
    multiple=True,
    callback=_parse_predictions,
    metavar="[NAME=]BPC",
    help="Score to expect of a model with this BPC.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    metavar="P",
    help="Part of new models whose scores the intervals hold.",
)
@click.option("--figure", metavar="OUT", type=options.PATH, help="Draw to OUT, a .png or .svg; needs kolmo[report].")
@click.option("-f", "--force", is_flag=True, help="Overwrite the figure.")
@options.quiet
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("table", required=False, type=options.PATH)
def command(
    *,
    table: str | None,
    bpc: tuple[str, ...],
    score: tuple[str, ...],
    areas: list[Area],
    wanted: list[tuple[str, float]],
    confidence: float,
    figure: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Fit benchmark scores to bits per character.

    TABLE has a line for each model. It is CSV or JSON, with a column model, columns with BPC and columns with scores;
    - is standard input. Without it, the published table of "Compression Represents Intelligence Linearly" is taken.
    Models with BPC and no score are predicted.
    """
    _check_figure(figure)
    console = Console(quiet, json=as_json)
    shown = STDIN if table == "-" else table or "published.csv"
    with console.guarded(shown), console.writing_to(STDOUT):
        from kolmo.cli.fit_result import FitResult
        from kolmo.fit.areas import study

        read = _read(table, shown)
        result = FitResult(shown, study(read, bpc=bpc, score=score, areas=areas), wanted, confidence, figure)
        if figure is not None:
            if os.path.isfile(figure) and not force:
                force = may_overwrite(figure, console, ask=table != "-")
            _draw(result, figure, PUBLISHED_TITLE if table is None else os.path.basename(shown), force, console)
        for note in result.studies.notes:
            console.warn(f"{shown}: {note}")
        if as_json:
            console.record(result.record())
        elif not quiet:
            print_lines(result.text().split("\n"))
    return console.status


def _read(path: str | None, shown: str) -> Table:
    from kolmo.fit.table import MAX_TABLE_BYTES, parse_table, published

    if path is None:
        return published()
    with open_input(path, force=False) as file:
        return parse_table(file.read(MAX_TABLE_BYTES + 1), shown)  # one more, to be refused


def _check_figure(path: str | None) -> None:
    from kolmo.fit.figure import FORMATS

    if path is not None and _format(path) not in FORMATS:
        raise click.UsageError(f"--figure {path}: is neither .png nor .svg; name it so")


def _format(path: str) -> str:
    return os.path.splitext(path)[1].lower().lstrip(".")


def _draw(result: FitResult, path: str, title: str, force: bool, console: Console) -> None:
    from kolmo.fit.figure import draw
    from kolmo.targets import Attributes, Target

    with console.writing_to(path), Target(path, force) as target:
        draw(
            result.studies,
            target.file,
            format=_format(path),
            level=result.level,
            title=short(title, 200),
            also=result.asked(),
        )
        target.keep(Attributes())
