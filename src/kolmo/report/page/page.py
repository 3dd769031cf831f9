"""An `Explanation` as one HTML page: figures, curve, tables, and the content coloured by cost.

The page needs no other file and no network (`kolmo.page_frame`). Without scripts everything is shown but the tips under
the pointer.
What it is not: it computes no costs (see `explain`).
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.page_frame import asset, head, tail
from kolmo.predictors.parts import described, shares
from kolmo.report.page.content import content
from kolmo.report.page.curve import curve
from kolmo.report.page.markup import plural, shown
from kolmo.report.page.pictures import pictures
from kolmo.report.page.rows import Rows
from kolmo.report.page.tables import breakdown, expensive

if TYPE_CHECKING:
    from kolmo.report.explain import Explanation


def page(explanation: Explanation, limit: int) -> str:
    """The page, with at most `limit` bytes of the content (one stretch at least)."""
    style, script = (asset(Path(__file__).with_name(f"page.{kind}")) for kind in ("css", "js"))
    title = shown(explanation.name)
    drawn = list(pictures(explanation))
    parts = [*head(f"{title}: where the bits go", style, script, images=bool(drawn)), *_summary(explanation, title)]
    if explanation.data:
        rows = Rows.of(explanation)
        spans = rows.select(explanation, limit)
        parts += curve(explanation)
        parts += drawn
        parts += breakdown(explanation)
        parts += expensive(explanation, rows, spans)
        parts += content(explanation, rows, spans)
        parts.append(tail(script))
    else:
        parts.append(f"<p>The file is empty: there is nothing to predict.</p>\n{tail()}")
    return "".join(parts)


# Summary


def _summary(explanation: Explanation, title: str) -> Iterator[str]:
    totals = explanation.totals
    rate = totals.bits_per_byte
    yield f"<h1>{title}: where the bits go</h1>\n"
    if rate is not None:
        yield (
            f"<p>{plural(totals.size, 'byte')}, {totals.bits:,.0f} bits under the predictor "
            f"{escape(explanation.predictor)}. What it expects is cheap, what surprises it costs.</p>\n"
        )
    per_character = totals.bits_per_character
    figures = [
        ("size", f"{totals.size:,}", "byte" if totals.size == 1 else "bytes"),
        ("code length", f"{totals.code_size:,.0f}", "bytes"),
        ("bits per byte", "&ndash;" if rate is None else f"{rate:.3f}", ""),
        *([] if per_character is None else [("bits per character", f"{per_character:.3f}", "")]),
        ("archive" if totals.measured else "archive, estimated", f"{totals.archive_size:,}", "bytes"),
    ]
    yield '<dl class="figures">'
    for label, value, unit in figures:
        yield f"<div><dt>{label}</dt><dd>{value} <small>{unit}</small></dd></div>"
    yield '</dl>\n<table class="facts"><tbody>\n'
    for label, value, why in _facts(explanation):
        yield f'<tr><th scope="row">{label}</th><td>{value}</td><td class="why">{why}</td></tr>\n'
    yield "</tbody></table>\n"


def _facts(explanation: Explanation) -> Iterator[tuple[str, str, str]]:
    """Rows of the table under the figures: what, how much, what it means; in HTML."""
    totals = explanation.totals
    if totals.characters is not None and totals.lines is not None and totals.words is not None:
        invalid = f"; {plural(totals.invalid, 'byte')} not UTF-8" if totals.invalid else ""
        what = f"{plural(totals.words, 'word')} in {plural(totals.lines, 'line')}{invalid}"
        yield "characters", f"{totals.characters:,}", what
    elif totals.size:
        yield "characters", "&ndash;", "no text: every byte is shown for itself"
    if explanation.parts:
        kinds = ", ".join(map(shown, described(shares(explanation.parts))))
        yield "kinds", f"{len(explanation.parts):,}", f"parts, and what the predictor took them for: {kinds}"
    yield (
        "code length",
        f"{totals.code_size:,.1f}",
        "bytes: what the probabilities come to, &minus;log<sub>2</sub> of each, summed over the file",
    )
    coded = totals.archive_size - totals.container_size
    stored = f"; {plural(totals.stored, 'byte')} kept uncoded, since coding does not help" if totals.stored else ""
    if totals.measured:
        yield "coded blocks", f"{coded:,}", f"bytes, measured: what the arithmetic coder wrote{stored}"
    else:
        yield "coded blocks", f"{coded:,}", f"bytes, estimated from the code length{stored}"
    yield "container", f"{totals.container_size:,}", "bytes: header, sizes and checksums of the .kmo format"
    how = "measured: it was made with this predictor" if totals.measured else "estimated: the two lines above"
    if explanation.overhead:
        how += f"; {escape(explanation.overhead)}"
    if totals.size:
        how += f"; {100 * totals.archive_size / totals.size:.1f} % of the file"
    yield "archive", f"{totals.archive_size:,}", f"bytes, {how}"
    blocks = plural(totals.blocks, "block") if totals.blocks > 1 else ""
    several = f"; the file is cut into {blocks}, and the predictor starts afresh in each" if blocks else ""
    identity = f"version {explanation.version}, fingerprint {escape(explanation.fingerprint)}"
    yield "predictor", escape(explanation.predictor), identity + several
