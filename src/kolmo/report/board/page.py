"""A `Board` as one HTML page: tables, scores, dates, and documents coloured by what each token costs.

The page needs no other file and no network, and says so to the browser (Content-Security-Policy): only this module's
own script runs, whatever names and texts hold. Without scripts everything shows but the documents.
What it is not: it works out no numbers (`leaderboard`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from kolmo.foreign import html
from kolmo.page_frame import asset, head, tail
from kolmo.report.board.contents import Board
from kolmo.report.board.documents import payload
from kolmo.report.board.figure import figures
from kolmo.report.board.results import CorpusVersion
from kolmo.report.board.sections import Entry
from kolmo.report.board.table import section_tables
from kolmo.report.board.words import compact, plural

EDGES = (0.5, 1, 2, 4, 8, 16, 32)  # bits at which the next colour begins
STEPS = (0.5, 2, 6)  # bits of difference at which the next colour begins, to either side
YEARS_APART = 8  # ticks of the time line, at most


def page(board: Board) -> str:
    """The page."""
    style, script = (asset(Path(__file__).with_name("assets") / f"leaderboard.{kind}") for kind in ("css", "js"))
    title = html(board.title)
    documents = payload(board)
    parts = [*head(title, style, script), *_summary(board, title, documents is not None)]
    for place, section in enumerate(board.sections):
        parts += section_tables(section, place)
    parts += _dates(board)
    parts += figures(board.scatter)
    if documents is not None:
        parts += _documents(documents)
    parts.append(tail(script))
    return "".join(parts)


# Summary


def _summary(board: Board, title: str, documents: bool) -> Iterator[str]:
    models = {entry.model for section in board.sections for entry in section.models}
    references = {entry.model for section in board.sections for entry in section.entries if entry.reference}
    corpora = _corpora(board)
    characters = sum(column.characters for column in corpora)
    names = len({column.name for column in corpora})
    what = plural(len(models), "model") if models else ""
    if references:
        what += f"{' and ' if what else ''}{plural(len(references), 'reference')}"
    yield f"<h1>{title}</h1>\n"
    yield (
        f'<p class="lead">{what} on {names} {"corpus" if names == 1 else "corpora"}, {compact(characters)} characters. '
        "Bits per character are what a text costs a model that predicts it: lower is better.</p>\n"
    )
    links = [(f"section-{k}", section.title) for k, section in enumerate(board.sections)]
    if _dated(board):
        links.append(("dates", "Dates"))
    links.append(("scores", "Scores"))
    if documents:
        links.append(("documents", "Documents"))
    items = "".join(f'<li><a href="#{anchor}">{html(name)}</a></li>' for anchor, name in links)
    yield f"<nav><ul>{items}</ul></nav>\n"


def _corpora(board: Board) -> list[CorpusVersion]:
    found = {(column.name, column.digest): column for section in board.sections for column in section.columns}
    return list(found.values())


# Dates


def _dated(board: Board) -> bool:
    return any(column.first for column in _corpora(board))


def _dates(board: Board) -> Iterator[str]:
    """Corpora as bars from their first to their last day, and the days up to which models have seen text."""
    corpora = [column for column in _corpora(board) if _day(column.first) and _day(column.last)]
    if not corpora:
        return
    models: dict[str, Entry] = {}
    for section in board.sections:
        for entry in section.models:
            models.setdefault(entry.model, entry)
    dated = sorted(
        (entry for entry in models.values() if entry.facts.cutoff), key=lambda entry: (entry.facts.cutoff, entry.model)
    )
    days = [_day(text) for column in corpora for text in (column.first, column.last)]
    days += [_day(entry.facts.cutoff) for entry in dated]
    low, high = min(days), max(days)
    room = max((high - low) // 20, 30)
    low, high = low - room, high + room

    def at(day: int) -> str:
        return f"{100 * (day - low) / (high - low):.2f}%"

    yield '<section id="dates">\n<h2>Corpora and training cutoffs</h2>\n'
    yield (
        '<p class="note">What a model may have been trained on says little about it. Bars are corpora, from the first '
        "to the last date of their documents; marks are the training cutoffs that models' makers state.</p>\n"
    )
    yield '<div class="dates">\n<div class="row axis"><span></span><span class="track">'
    yield "".join(f'<i style="left:{at(day)}">{label}</i>' for day, label in _date_ticks(low, high))
    yield "</span></div>\n"
    for column in sorted(corpora, key=lambda column: (column.first, column.name)):
        first, last = _day(column.first), _day(column.last)
        width = f"{100 * (last - first) / (high - low):.2f}%"
        seen = [entry.model for entry in dated if column.first <= entry.facts.cutoff]
        flag = f'<em class="flag">may be contaminated for {len(seen)} of {len(dated)}</em>' if seen else ""
        dates = column.first if first == last else f"{column.first} to {column.last}"
        yield (
            f'<div class="row corpus" title="{html(", ".join(seen))}"><span>{html(column.name)}<small>{html(dates)}'
            f'</small>{flag}</span><span class="track"><b style="left:{at(first)};width:{width}"></b></span></div>\n'
        )
    for entry in dated:
        cutoff = entry.facts.cutoff
        yield (
            f'<div class="row"><span>{html(entry.model)}<small>{html(entry.facts.stated)}</small></span>'
            f'<span class="track"><s style="width:{at(_day(cutoff))}"></s><u style="left:{at(_day(cutoff))}"></u>'
            "</span></div>\n"
        )
    yield "</div>\n"
    unknown = [name for name, entry in models.items() if not entry.facts.cutoff]
    if unknown:
        names = ", ".join(html(name) for name in unknown[:12]) + (
            f" and {len(unknown) - 12} more" * (len(unknown) > 12)
        )
        yield (
            f'<p class="note">No training cutoff is known of {names}; give them in a table with <code>--models</code>.'
            "</p>\n"
        )
    yield "</section>\n"


def _day(text: str) -> int:
    """Days since the year 1; 0 for text that is not a date."""
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        return 0


def _date_ticks(low: int, high: int) -> list[tuple[int, str]]:
    """Starts of years, or of months where all is within two years."""
    first, last = date.fromordinal(low), date.fromordinal(high)
    months = [(year, month) for year in range(first.year, last.year + 2) for month in range(1, 13)]
    if high - low > 730:
        step = -(-(last.year - first.year + 1) // YEARS_APART)
        days = [(date(year, 1, 1), str(year)) for year, month in months if month == 1 and year % step == 0]
    else:
        step = next(step for step in (1, 2, 3, 6) if (high - low) / 30.4 / step <= YEARS_APART or step == 6)
        days = [(date(year, month, 1), f"{year}-{month:02}") for year, month in months if (month - 1) % step == 0]
    return [(day.toordinal(), label) for day, label in days if low <= day.toordinal() <= high - (high - low) // 14]


# Documents


def _documents(found: dict[str, Any]) -> Iterator[str]:
    corpora = found["corpora"]
    count = sum(len(corpus["documents"]) for corpus in corpora)
    texts = any(document["text"] is not None for corpus in corpora for document in corpus["documents"])
    data = json.dumps({**found, "edges": EDGES, "steps": STEPS}, ensure_ascii=False, separators=(",", ":"))
    data = data.encode("utf-8", "backslashreplace").decode()  # lone surrogates of names
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    yield '<section id="documents">\n<h2>Documents</h2>\n'
    yield (
        f'<p class="note">{plural(count, "document")}: those whose bits per character differ most between models, and '
        "some typical ones."
    )
    if not texts:
        yield " The tables keep no texts (<code>kolmo eval --no-text</code>), so there are none to show."
    yield '</p>\n<noscript><p class="note">The documents need scripts, which are off here.</p></noscript>\n'
    yield (
        '<div class="live explorer">\n<div class="controls">'
        '<label>table <select id="x-section"></select></label>'
        '<label>corpus <select id="x-corpus"></select></label>'
        '<label>model A <select id="x-a"></select></label>'
        '<label>model B <select id="x-b"></select></label>'
        '<fieldset><legend>show</legend><label><input type="radio" name="x-view" value="a">A</label>'
        '<label><input type="radio" name="x-view" value="both">A beside B</label>'
        '<label><input type="radio" name="x-view" value="difference">A &minus; B</label></fieldset></div>\n'
        '<div class="panes">\n'
        '<div class="list"><table id="x-list"><thead><tr></tr></thead><tbody></tbody></table></div>\n'
        '<div class="reader"><div id="x-head"></div><div id="x-legend"></div><div id="x-text"></div></div>\n'
        "</div>\n</div>\n"
        f'<script type="application/json" id="x-data">{data}</script>\n</section>\n'
    )
