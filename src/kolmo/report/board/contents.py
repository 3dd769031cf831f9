"""The contents of a leaderboard: tables, the scatter of benchmark scores, and how much text the page shows.

What it is not: it computes none of them (`board.leaderboard`), and writes nothing (`board.page`, `board.export`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kolmo.report.board.fit import Scatter
from kolmo.report.board.models import Scores
from kolmo.report.board.sections import Section

DEFAULT_TITLE = "Leaderboard"
DEFAULT_DOCUMENTS = 12  # of each corpus
DEFAULT_LIMIT = 512 << 10  # bytes of text on the page


@dataclass(frozen=True, eq=False, repr=False)
class Board:
    """The contents of a leaderboard.

    Attributes:
        title: title of the page.
        sections: tables, the largest first.
        scatter: benchmark scores against bits per character.
        documents, limit: number of documents of each corpus, and bytes of text in total, that the page shows.
        scores: benchmark scores of the user's.
    """

    title: str
    sections: tuple[Section, ...]
    scatter: Scatter
    documents: int = DEFAULT_DOCUMENTS
    limit: int = DEFAULT_LIMIT
    scores: Scores = field(default_factory=Scores)
