"""The content of an explanation's page, each token or byte coloured by its cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from kolmo.report.page.markup import escaped, joined, plural, shown_bits
from kolmo.report.page.rows import HEX_COLUMNS, STRETCH_TABLE_BYTES, Rows, Span, byte_place
from kolmo.report.text import NEWLINE, OTHER, Text

if TYPE_CHECKING:
    from kolmo.report.explain import Explanation

COLOUR_EDGES_BITS = (0.5, 1, 2, 4, 8, 16, 32)  # bits at which the next colour begins
GROUP_ROWS = 64  # rows that a browser lays out together


def content(explanation: Explanation, rows: Rows, spans: list[Span]) -> Iterator[str]:
    """The content in rows, coloured by cost, as pieces of HTML."""
    text = explanation.text
    size = len(explanation.data)
    ends = np.append(rows.offsets[1:], size)
    shown = sum(int(ends[span.last - 1] - rows.offsets[span.first]) for span in spans if span.shown)
    yield f"<section>\n<h2>{'The text' if text else 'The bytes'}</h2>\n"
    if shown < size:
        yield (
            f"<p>A selection: {shown:,} of {size:,} bytes, the head of the file and the stretches that cost most "
            f"for each byte. <code>--show</code> sets how much is shown.</p>\n"
        )
    what = "Each word, run of spaces or sign" if text else "Each byte"
    yield (
        f'<p class="note">{what} is coloured by what it costs. Point at one or tap it for its cost and place; '
        "with the keyboard, go there with Tab and walk with the arrow keys.</p>\n"
    )
    yield '<div class="bar"><div class="scale">bits<ul class="legend">'
    for level, label in enumerate(_levels()):
        yield f'<li class="c{level}">{label}</li>'
    yield "</ul></div>"
    if text:
        yield (
            '<fieldset class="mode"><legend>of each</legend>'
            '<label><input type="radio" name="mode" value="token" checked>word</label>'
            '<label><input type="radio" name="mode" value="character">character</label></fieldset>'
        )
    edges = ",".join(f"{edge:g}" for edge in COLOUR_EDGES_BITS)
    widest = 0 if text else int((ends - rows.offsets).max())
    style = f' style="--row:{3 * widest + 2}ch"' if widest > HEX_COLUMNS else ""
    label = 'role="group" aria-label="the content, coloured"'
    yield f'</div>\n<div id="text" tabindex="0" {label} data-edges="{edges}"{style}>\n'
    kind = "r head" if text else "r h head"
    yield f'<div class="{kind}" aria-hidden="true"><a>{"line" if text else "offset"}</a><b>bits</b><s hidden></s>'
    yield "</div>\n" if text else "<code></code></div>\n"
    costs = np.add.reduceat(explanation.costs, rows.offsets)
    visible = np.concatenate([costs[span.first : span.last] for span in spans if span.shown])
    full = float(np.quantile(visible, 0.99)) or 1.0  # a few huge lines must not flatten all other bars
    for span in spans:
        if not span.shown:
            yield _gap(explanation, rows, span, int(ends[span.last - 1]))
            continue
        for first in range(span.first, span.last, GROUP_ROWS):
            last = min(first + GROUP_ROWS, span.last)
            yield f'<div class="g" style="contain-intrinsic-size:auto {1.3 * (last - first):.0f}rem">\n'
            bars = np.minimum(costs[first:last] / full, 1.0).tolist()
            sums = costs[first:last].tolist()
            yield from (
                _text_rows(explanation, text, rows, first, last, sums, bars)
                if text
                else _hex_rows(explanation, rows, first, last, sums, bars)
            )
            yield "</div>\n"
    yield "</div>\n</section>\n"


def _gap(explanation: Explanation, rows: Rows, span: Span, end: int) -> str:
    start = int(rows.offsets[span.first])
    bits = float(explanation.costs[start:end].sum())
    lines = ""
    if len(rows.numbers):
        first, last = int(rows.numbers[span.first]), int(rows.numbers[span.last - 1])
        lines = f" (line {first:,})" if first == last else f" (lines {first:,} to {last:,})"
    return (
        f'<p class="gap">{plural(end - start, "byte")} from {start:,} on{lines} are left out: '
        f"{bits / (end - start):.2f} bits per byte.</p>\n"
    )


def _text_rows(
    explanation: Explanation, text: Text, rows: Rows, first: int, last: int, sums: list[float], bars: list[float]
) -> Iterator[str]:
    """Rows `first` to `last` - 1 of a text; `sums` (bits) and `bars` (0 to 1) are of these rows."""
    tokens, token_end = rows.tokens[first:last].tolist(), len(text.tokens)
    bounds = [*tokens, int(rows.tokens[last]) if last < len(rows.tokens) else token_end]
    places = [*text.tokens[bounds[0] : bounds[-1]].tolist()]
    places.append(int(text.tokens[bounds[-1]]) if bounds[-1] < token_end else len(text.starts))
    low, high = places[0], places[-1]
    begin, end = int(text.starts[low]), byte_place(text, high, explanation)
    starts = (text.starts[low:high] - begin).astype(np.int64)
    costs = np.add.reduceat(explanation.costs[begin:end], starts)
    levels = np.searchsorted(
        COLOUR_EDGES_BITS, np.add.reduceat(costs, np.array(places[:-1]) - low), side="right"
    ).tolist()
    thousandths = [str(cost) for cost in np.rint(1000 * costs).astype(np.int64).tolist()]
    sizes = np.diff(starts, append=end - begin).tolist()
    classes = text.classes[low:high].tolist()
    for row in range(first, last):
        number = int(rows.numbers[row])
        new = not row or rows.numbers[row - 1] != number
        anchor, label = (f' id="L{number}"', f'<a href="#L{number}">{number}</a>') if new else ("", "<a>+</a>")
        pieces = []
        for token in range(bounds[row - first] - bounds[0], bounds[row - first + 1] - bounds[0]):
            start, stop = places[token] - low, places[token + 1] - low
            kind, level = classes[start], levels[token]
            colour = f"c{level}" if level else ""
            if kind == NEWLINE:
                total = sum(map(int, thousandths[start:stop]))
                span = f' data-n="{stop - start}"' if stop - start > 1 else ""
                pieces.append(f'<i class="{joined("n", colour)}" data-b={total}{span}></i>')
            elif kind == OTHER:
                shown = escaped(text.string[low + start])
                attributes = f'class="{joined("e", colour)}" data-b={thousandths[start]} data-n={sizes[start]}'
                pieces.append(f"<i {attributes}>{shown}</i>")
            else:
                shown = escape(text.string[low + start : low + stop])
                colour = f"class={colour} " if colour else ""
                pieces.append(f"<i {colour}data-b={','.join(thousandths[start:stop])}>{shown}</i>")
        yield (
            f'<div class="r"{anchor} data-o={int(rows.offsets[row])} data-l={number}>{label}'
            f"<b>{shown_bits(sums[row - first])}</b><s style=width:{100 * bars[row - first]:.0f}%></s>"
            f"<code>{''.join(pieces)}</code></div>\n"
        )


def _hex_rows(
    explanation: Explanation, rows: Rows, first: int, last: int, sums: list[float], bars: list[float]
) -> Iterator[str]:
    """Rows `first` to `last` - 1 of a hex dump; `sums` (bits) and `bars` (0 to 1) are of these rows."""
    size = len(explanation.data)
    for row in range(first, last):
        start = int(rows.offsets[row])
        end = int(rows.offsets[row + 1]) if row + 1 < len(rows.offsets) else size
        piece, costs = explanation.data[start:end], explanation.costs[start:end]
        levels = np.searchsorted(COLOUR_EDGES_BITS, costs, side="right").tolist()
        cells = "".join(
            f"<i class=c{level}>{byte:02x}</i>" if level else f"<i>{byte:02x}</i>"
            for byte, level in zip(piece, levels, strict=True)
        )
        thousandths = ",".join(map(str, np.rint(1000 * costs).astype(np.int64).tolist()))
        shown = escape("".join(chr(byte) if 32 <= byte < 127 else "·" for byte in piece))
        stretch = -(-start // STRETCH_TABLE_BYTES) * STRETCH_TABLE_BYTES
        anchor = f" id=O{stretch}" if stretch < end else ""
        yield (
            f'<div class="r h"{anchor} data-o={start} data-b={thousandths}><a>{start:08x}</a>'
            f"<b>{shown_bits(sums[row - first])}</b><s style=width:{100 * bars[row - first]:.0f}%></s>"
            f"<code>{cells}</code><q>{shown}</q></div>\n"
        )


def _levels() -> Iterable[str]:
    yield f"&lt; {COLOUR_EDGES_BITS[0]:g}"
    for low, high in pairwise(COLOUR_EDGES_BITS):
        yield f"{low:g}&ndash;{high:g}"
    yield f"&ge; {COLOUR_EDGES_BITS[-1]:g}"
