"""Results of `kolmo eval` as a leaderboard: from folders to tables, a page, and files for other programs.

    board = kolmo.report.leaderboard("eval-results")
    Path("report.html").write_text(board.html(), "utf-8")

What it is not: it draws nothing (`board.page`), and scores nothing (`kolmo.evaluation`); which results may be
compared is for `board.sections`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kolmo.errors import KolmoError
from kolmo.evaluation.results.results import Evaluation, Result, load_results
from kolmo.report.board.contents import DEFAULT_DOCUMENTS, DEFAULT_LIMIT, DEFAULT_TITLE, Board
from kolmo.report.board.fit import scatter
from kolmo.report.board.models import Known, Scores
from kolmo.report.board.results import Found
from kolmo.report.board.sections import build_sections


class Leaderboard(Board):
    """The contents of a leaderboard, and what can be made of them."""

    def html(self) -> str:
        """The page: one file that needs no other."""
        from kolmo.report.board.page import page

        return page(self)

    def markdown(self) -> str:
        """The tables, in Markdown."""
        from kolmo.report.board.export import markdown

        return markdown(self)

    def csv(self) -> str:
        """All metrics, a row for each model, corpus and subset."""
        from kolmo.report.board.export import long_csv

        return long_csv(self)

    def wide(self) -> str:
        """The largest section alone, a row for each model, as `kolmo fit` reads it."""
        from kolmo.report.board.export import wide_csv

        return wide_csv(self)

    def opencompass(self) -> str:
        """Bits per character as OpenCompass's summaries have them."""
        from kolmo.report.board.export import opencompass_csv

        return opencompass_csv(self)

    def record(self) -> dict[str, Any]:
        """What the page shows, without texts, for programs."""
        from kolmo.report.board.export import record

        return record(self)


def leaderboard(
    results: str | Path | Evaluation | Sequence[Result],
    *,
    title: str = DEFAULT_TITLE,
    mode: str | None = None,
    scores: str | Path | None = None,
    score_columns: Sequence[str] = (),
    models: str | Path | None = None,
    documents: int = DEFAULT_DOCUMENTS,
    limit: int = DEFAULT_LIMIT,
) -> Leaderboard:
    """A leaderboard of results.

    Args:
        results: a folder that `kolmo eval -o` has made, or results.
        title: of the page.
        mode: take the results in this mode alone.
        scores: a table of benchmark scores: CSV or JSON with a column `model`.
        score_columns: its columns whose mean is the score; by default those that `kolmo fit` would take.
        models: a table of what is known of models: `model`, `cutoff`, `family`, `parameters`, `licence`, `url`.
        documents: how many documents of each corpus the page shows.
        limit: bytes of text that it shows, at most.

    Raises:
        KolmoError: there are no results, or one of them, or a table, cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    where = str(results) if isinstance(results, str | Path) else "results"
    given = load_results(results) if isinstance(results, str | Path) else list(results)
    if not given:
        raise KolmoError(f"{where}: holds no results; make some with kolmo eval MODEL --corpus C -o {where}")
    known, read = Known(models), Scores.read(scores, score_columns)
    found = [Found.of(result, known) for result in given]
    if mode is not None:
        found = [one for one in found if one.mode == mode]
        if not found:
            there = ", ".join(sorted({str(one.mode) for one in given}))
            raise KolmoError(f"{where}: holds no results in mode {mode}; there are some in {there}")
    sections = tuple(build_sections(found))
    return Leaderboard(title, sections, scatter(sections, read), documents, limit, read)
