"""The tables of an explanation's page: cost by kind, the most expensive lines and words."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from kolmo.report.page.markup import meter, shown, table
from kolmo.report.page.rows import STRETCH_TABLE_BYTES, Rows, Span, byte_place

if TYPE_CHECKING:
    from kolmo.report.explain import Explanation
    from kolmo.report.sums import Share

SHOWN_LINES, SHOWN_WORDS, EXCERPT_CHARACTERS = 12, 15, 160


def breakdown(explanation: Explanation) -> Iterator[str]:
    """The tables of cost by class of character and by place in a word, as pieces of HTML."""
    what = "byte" if explanation.text is None else "character"
    yield f'<section>\n<h2>By class of {what}</h2>\n<div class="two">\n'
    yield _classes(explanation)
    if explanation.positions:
        yield _positions(explanation.positions)
    yield "</div>\n</section>\n"


def _classes(explanation: Explanation) -> str:
    totals = explanation.totals
    unit = "byte" if explanation.text is None else "char."
    rows = []
    for share in explanation.classes:
        cost, part = share.bits / totals.bits if totals.bits else 0.0, share.size / totals.size
        rows.append(
            f"{_amounts(share)}"
            f'<td>{100 * cost:.1f} %</td><td class="x">{meter(cost, part)}</td>'
            f"<td>{share.bits / share.count:.2f}</td></tr>\n"
        )
    head = ["class", "bytes" if unit == "byte" else "chars", "cost, bytes", "share", "", f"bits per {unit}"]
    note = (
        "The bar is the share of the cost, the upright mark the share of the bytes: "
        "what reaches past its mark costs more than the average."
    )
    return f'<div>{table(head, rows, hidden=(1, 2))}<p class="note">{note}</p></div>\n'


def _amounts(share: Share) -> str:
    """The first cells of a row: label, count, cost in bytes."""
    label = f'<tr><th scope="row">{share.label}</th>'
    return f'{label}<td class="o">{share.count:,}</td><td class="o">{share.bits / 8:,.0f}</td>'


def _positions(shares: tuple[Share, ...]) -> str:
    most = max(share.bits / share.count for share in shares)
    rows = [
        f"{_amounts(share)}"
        f'<td class="x">{meter(share.bits / share.count / most)}</td><td>{share.bits / share.count:.2f}</td></tr>\n'
        for share in shares
    ]
    count, bits = sum(share.count for share in shares), sum(share.bits for share in shares)
    first = shares[0]
    rest = f", a later one {(bits - first.bits) / (count - first.count):.2f}" if count > first.count else ""
    head = ["place in a word", "chars", "cost, bytes", "", "bits per char."]
    return (
        f"<div>{table(head, rows, hidden=(1, 2))}"
        f'<p class="note">The first letter of a word costs {first.bits / first.count:.2f} bits{rest}; '
        f"first letters are {100 * first.bits / bits if bits else 0:.0f} % of what words cost.</p></div>\n"
    )


def expensive(explanation: Explanation, rows: Rows, spans: list[Span]) -> Iterator[str]:
    """The tables of the most expensive lines (or stretches) and words (or byte values), as pieces of HTML."""
    yield '<section class="two wide">\n'
    yield _lines(explanation, rows, spans) if explanation.text else _stretches(explanation, rows, spans)
    binary = explanation.text is None
    yield f"<div><h2>Most expensive {'byte values' if binary else 'words'} in total</h2>\n"
    words = explanation.words[:SHOWN_WORDS]
    most = max((word.bits for word in words), default=0.0) or 1.0
    cells = [
        f'<tr><td class="w">{_word(word.word, binary)}</td><td>{word.count:,}</td><td>{word.bits / word.count:.1f}</td>'
        f'<td>{word.bits / 8:,.0f}</td><td class="x">{meter(word.bits / most)}</td></tr>\n'
        for word in words
    ]
    head = ["byte" if binary else "word", "times", "bits each", "cost, bytes", ""]
    yield table(head, cells) if words else '<p class="note">There are no words.</p>'
    yield "</div>\n</section>\n"


def _word(word: str, binary: bool) -> str:
    if not binary:
        return shown(word)
    character = chr(int(word, 16))
    return f"{word} {escape(character)}" if "!" <= character <= "~" else word


def _lines(explanation: Explanation, rows: Rows, spans: list[Span]) -> str:
    text = explanation.text
    assert text is not None
    costs = explanation.lines()
    order = np.argsort(-costs, kind="stable")[:SHOWN_LINES]
    cells = []
    for line in order.tolist():
        start = int(text.lines[line])
        end = int(text.lines[line + 1]) if line + 1 < len(text.lines) else len(text.starts)
        excerpt = text.string[start : min(end, start + EXCERPT_CHARACTERS)].strip() + (
            "…" if end - start > EXCERPT_CHARACTERS else ""
        )
        row = int(np.searchsorted(rows.offsets, text.starts[start]))
        number = _link(f"L{line + 1}", f"{line + 1:,}", row, spans)
        size = byte_place(text, end, explanation) - int(text.starts[start])
        cells.append(
            f'<tr><td>{number}</td><td>{costs[line]:,.0f}</td><td class="o">{costs[line] / size:.2f}</td>'
            f'<td class="q">{shown(excerpt)}</td></tr>\n'
        )
    head = ["line", "bits", "per byte", "text"]
    return f"<div><h2>Most expensive lines</h2>\n{table(head, cells, hidden=(2,), left=3)}</div>\n"


def _stretches(explanation: Explanation, rows: Rows, spans: list[Span]) -> str:
    starts = np.arange(0, len(explanation.data), STRETCH_TABLE_BYTES)
    costs = np.add.reduceat(explanation.costs, starts)
    cells = []
    for place in np.argsort(-costs, kind="stable")[:SHOWN_LINES].tolist():
        start = place * STRETCH_TABLE_BYTES
        piece = explanation.data[start : start + STRETCH_TABLE_BYTES]
        row = int(np.searchsorted(rows.offsets, start, side="right")) - 1
        number = _link(f"O{start}", f"{start:08x}", row, spans)
        ascii_only = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in piece[:96])
        cells.append(
            f"<tr><td>{number}</td><td>{costs[place]:,.0f}</td>"
            f'<td class="o">{costs[place] / len(piece):.2f}</td><td class="q">{escape(ascii_only)}</td></tr>\n'
        )
    head = ["offset", "bits", "per byte", "bytes, as ASCII"]
    title = f"Most expensive stretches of {STRETCH_TABLE_BYTES} bytes"
    return f"<div><h2>{title}</h2>\n{table(head, cells, hidden=(2,), left=3)}</div>\n"


def _link(anchor: str, label: str, row: int, spans: list[Span]) -> str:
    shown = any(span.first <= row < span.last and span.shown for span in spans)
    return f'<a href="#{anchor}">{label}</a>' if shown else label
