"""Results of `kolmo eval` as a leaderboard: from folders to tables, a page, and files for other programs.

    board = kolmo.report.leaderboard("eval-results")
    Path("report.html").write_text(board.html(), "utf-8")

What it is not: it draws nothing (`board.page`) and scores nothing (`kolmo.evaluation`); `board.sections` decides which
results may be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kolmo.errors import KolmoError
from kolmo.evaluation.results.results import Evaluation, Result, load_results
from kolmo.foreign import html_table, short
from kolmo.report.board.contents import DEFAULT_DOCUMENTS, DEFAULT_LIMIT, DEFAULT_TITLE, Board
from kolmo.report.board.fit import scatter
from kolmo.report.board.models import ModelTable, Scores
from kolmo.report.board.published import with_published
from kolmo.report.board.results import CheckedResult
from kolmo.report.board.sections import build_sections


class Leaderboard(Board):
    """A leaderboard: its contents, and what can be made of them."""

    def __repr__(self) -> str:
        return f"Leaderboard({short(self.title)}: {', '.join(self._shown())})"

    def _repr_html_(self) -> str:
        rows = [(one.title, len(one.entries), ", ".join(entry.name for entry in one.entries)) for one in self.sections]
        return html_table(self.title, ("table", "models", "by rank"), rows)

    def _shown(self) -> list[str]:
        """Each table in words."""
        return [f"{short(one.title)} ({len(one.entries)} models)" for one in self.sections]

    def html(self) -> str:
        """The page, as one self-contained HTML file."""
        from kolmo.report.board.page import page

        return page(self)

    def markdown(self) -> str:
        """The tables, in Markdown."""
        from kolmo.report.board.export import markdown

        return markdown(self)

    def csv(self) -> str:
        """All metrics as CSV, with a row for each model, corpus and subset."""
        from kolmo.report.board.export import long_csv

        return long_csv(self)

    def wide(self) -> str:
        """The largest section as CSV, with a row for each model, as `kolmo fit` reads it."""
        from kolmo.report.board.export import wide_csv

        return wide_csv(self)

    def opencompass(self) -> str:
        """Bits per character in the layout of OpenCompass's summaries."""
        from kolmo.report.board.export import opencompass_csv

        return opencompass_csv(self)

    def record(self) -> dict[str, Any]:
        """The content of the page without texts, as plain data for programs."""
        from kolmo.report.board.export import record

        return record(self)


def leaderboard(
    results: str | Path | Evaluation | Sequence[str | Path | Result],
    *,
    title: str = DEFAULT_TITLE,
    mode: str | None = None,
    scores: str | Path | None = None,
    score_columns: Sequence[str] = (),
    models: str | Path | None = None,
    documents: int = DEFAULT_DOCUMENTS,
    limit: int = DEFAULT_LIMIT,
    published: bool = False,
) -> Leaderboard:
    """A leaderboard of results.

    Args:
        results: a folder written by `kolmo eval -o`, or several folders or results.
        title: of the page.
        mode: use only results in this mode.
        scores: a table of benchmark scores: CSV or JSON with a column `model`.
        score_columns: columns of `scores` whose mean is the score; default: those that `kolmo fit` would use.
        models: a table of facts about models: `model`, `cutoff`, `family`, `parameters`, `licence`, `url`.
        documents: number of documents of each corpus that the page shows.
        limit: maximum bytes of text on the page.
        published: whether the 28 published models stand beside the results in mode paper, marked as such.

    Raises:
        KolmoError: a folder has no results, none are given at all, or a result or a table cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    listed = [results] if isinstance(results, str | Path) else list(results)
    given: list[Result] = []
    for one in listed:
        given += [one] if isinstance(one, Result) else _of_folder(one)
    if not given:
        raise KolmoError("there are no results; make some with kolmo eval MODEL --corpus C -o FOLDER")
    known, read = ModelTable(models), Scores.read(scores, score_columns)
    found = [CheckedResult.of(result, known) for result in given]
    if mode is not None:
        found = [one for one in found if one.mode == mode]
        if not found:
            there = ", ".join(sorted({str(one.mode) for one in given}))
            where = ", ".join(str(one) for one in listed if not isinstance(one, Result)) or "these results"
            raise KolmoError(f"{where}: no results in mode {mode}; there are some in {there}")
    sections = build_sections(found)
    if published:
        sections = with_published(sections, known)
    return Leaderboard(title, tuple(sections), scatter(sections, read), documents, limit, read)


def _of_folder(folder: str | Path) -> Sequence[Result]:
    found = load_results(folder)
    if not found:
        raise KolmoError(f"{folder}: contains no results; make some with kolmo eval MODEL --corpus C -o {folder}")
    return found
