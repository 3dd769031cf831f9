"""An `Explanation` as one HTML page: figures, curve, tables, and the content coloured by cost.

The page needs no other file and no network (`report.frame`). Without scripts everything shows but the tips under the
pointer.
What it is not: it works out no costs (see `explain`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kolmo.report.explain import Explanation, Share
from kolmo.report.frame import asset, head, tail
from kolmo.report.text import NEWLINE, OTHER, Text

EDGES = (0.5, 1, 2, 4, 8, 16, 32)  # bits at which the next colour begins
COLUMNS = 16  # bytes in a row of a hex dump
WINDOW = 256  # bytes of a stretch in the table of a binary's most expensive ones
LONG_ROW = 2048  # bytes after which a line is continued in a row of its own
STRETCH = 4096  # bytes that are shown or left out together
GROUP = 64  # rows that a browser lays out together
BINS = 480  # points of the curve
SHOWN_LINES, SHOWN_WORDS, EXCERPT = 12, 15, 160
PLOT = 1000  # width and height of the curve's own units

Offsets = npt.NDArray[np.int64]


def page(explanation: Explanation, limit: int) -> str:
    """The page, with at most `limit` bytes of the content (one stretch at least)."""
    style, script = (asset(Path(__file__).with_name(f"explain_page.{kind}")) for kind in ("css", "js"))
    title = _shown(explanation.name)
    parts = [*head(f"{title}: where the bits go", style, script), *_summary(explanation, title)]
    if explanation.data:
        rows = _Rows.of(explanation)
        spans = rows.select(explanation, limit)
        parts += _curve(explanation)
        parts += _breakdown(explanation)
        parts += _expensive(explanation, rows, spans)
        parts += _content(explanation, rows, spans)
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
            f"<p>{_plural(totals.size, 'byte')}, {totals.bits:,.0f} bits under the predictor "
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
        invalid = f"; {_plural(totals.invalid, 'byte')} not UTF-8" if totals.invalid else ""
        what = f"{_plural(totals.words, 'word')} in {_plural(totals.lines, 'line')}{invalid}"
        yield "characters", f"{totals.characters:,}", what
    elif totals.size:
        yield "characters", "&ndash;", "no text: every byte is shown for itself"
    yield (
        "code length",
        f"{totals.code_size:,.1f}",
        "bytes: what the probabilities come to, &minus;log<sub>2</sub> of each, summed over the file",
    )
    coded = totals.archive_size - totals.container_size
    stored = f"; {_plural(totals.stored, 'byte')} kept uncoded, since coding does not help" if totals.stored else ""
    if totals.measured:
        yield "coded blocks", f"{coded:,}", f"bytes, measured: what the arithmetic coder wrote{stored}"
    else:
        yield "coded blocks", f"{coded:,}", f"bytes, estimated from the code length{stored}"
    yield "container", f"{totals.container_size:,}", "bytes: header, sizes and checksums of the .kmo format"
    how = "measured: it was made with this predictor" if totals.measured else "estimated: the two lines above"
    if totals.size:
        how += f"; {100 * totals.archive_size / totals.size:.1f} % of the file"
    yield "archive", f"{totals.archive_size:,}", f"bytes, {how}"
    blocks = _plural(totals.blocks, "block") if totals.blocks > 1 else ""
    several = f"; the file is cut into {blocks}, and the predictor starts afresh in each" if blocks else ""
    identity = f"version {explanation.version}, fingerprint {escape(explanation.fingerprint)}"
    yield "predictor", escape(explanation.predictor), identity + several


# The curve


def _curve(explanation: Explanation) -> Iterator[str]:
    size = len(explanation.data)
    bins = min(BINS, size)
    edges = np.linspace(0, size, bins + 1).astype(np.int64)
    total = np.concatenate([[0.0], np.cumsum(np.add.reduceat(explanation.costs, edges[:-1]))])
    reach = bins // 120
    first = np.maximum(np.arange(bins) - reach, 0)
    last = np.minimum(np.arange(bins) + reach + 1, bins)
    near = (total[last] - total[first]) / (edges[last] - edges[first])
    mean = total[1:] / edges[1:]
    top, ticks = _ticks(float(max(near.max(), mean.max())))
    middles = (edges[1:] + edges[:-1]) / 2
    window = int(edges[min(2 * reach + 1, bins)])
    label = f"bits per byte along the file: {near.min():.2f} to {near.max():.2f}, at the end {mean[-1]:.2f} on average"
    pairs = " ".join(f"{a:.2f},{b:.2f}" for a, b in zip(near.tolist(), mean.tolist(), strict=True))
    grid = "".join(f"M0 {PLOT * (1 - tick / top):.1f}H{PLOT}" for tick in ticks)
    blocks = "".join(f"M{PLOT * block / size:.1f} 0V{PLOT}" for block in explanation.blocks[1:])
    yield '<section>\n<h2>Along the file</h2>\n<figure class="chart">\n<ul class="key">'
    yield f"<li>{_swatch('near')}bits per byte, {'average over ' + _plural(window, 'byte') if window > 1 else 'each'}"
    yield f"</li><li>{_swatch('mean')}average from the start</li><output></output></ul>\n"
    yield f'<div class="plot" data-n="{size}" data-p="{pairs}">'
    yield f'<svg viewBox="0 0 {PLOT} {PLOT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
    yield f'<path class="grid" d="{grid}"/><path class="block" d="{blocks}"/>'
    yield f'<path class="near" d="{_path(middles / size, near / top)}"/>'
    yield f'<path class="mean" d="{_path(edges[1:] / size, mean / top)}"/></svg>'
    yield "".join(f'<span style="top:{100 * (1 - tick / top):.2f}%">{tick:g}</span>' for tick in ticks)
    yield '<hr></div>\n<div class="axis">'
    for at in _offset_ticks(size):
        unit = "" if at < size else " byte" if size == 1 else " bytes"
        narrow = ' class="o"' if size / 2 < at < size else ""
        yield f'<span{narrow} style="left:{100 * at / size:.2f}%">{at:,}{unit}</span>'
    yield "</div></figure>\n"
    if explanation.blocks[1:]:
        yield '<p class="note">Dotted lines: a block begins, and the predictor starts afresh.</p>\n'
    yield "</section>\n"


def _swatch(name: str) -> str:
    return f'<svg viewBox="0 0 30 10" aria-hidden="true"><path class="{name}" d="M0 5H30"/></svg>'


def _path(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> str:
    """A line through the points, from edge to edge: x and y from 0 to 1, shape (points,)."""
    places = [0.0, *(PLOT * x).tolist(), PLOT]
    heights = (PLOT * (1 - y)).tolist()
    points = zip(places, [heights[0], *heights, heights[-1]], strict=True)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _ticks(most: float) -> tuple[float, list[float]]:
    """Top of an axis that reaches `most`, and its ticks: three to five of them, at round numbers."""
    most = max(most, 0.01)
    step = 10.0 ** math.floor(math.log10(most))
    step = next(step * factor for factor in (0.2, 0.25, 0.5, 1, 2) if step * factor * 5 >= most)
    count = math.ceil(most / step - 1e-9)
    return count * step, [round(step * k, 9) for k in range(count + 1)]


def _offset_ticks(size: int) -> list[int]:
    """Start, round offsets between, and end; the last round one leaves room for the end's label."""
    unit = 10 ** max(math.floor(math.log10(size)) - 1, 0)
    step = next(unit * factor for factor in (1, 2, 5, 10, 20, 50, 100) if size <= 5 * unit * factor)
    return [0, *(at for at in range(step, size, step) if size - at > size / 6), size]


# Where the bits go


def _breakdown(explanation: Explanation) -> Iterator[str]:
    yield '<section>\n<h2>By kind</h2>\n<div class="two">\n'
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
            f'<td>{100 * cost:.1f} %</td><td class="x">{_meter(cost, part)}</td>'
            f"<td>{share.bits / share.count:.2f}</td></tr>\n"
        )
    head = ["kind", "bytes" if unit == "byte" else "chars", "cost, bytes", "share", "", f"bits per {unit}"]
    note = (
        "The bar is the share of the cost, the upright mark the share of the bytes: "
        "what reaches past its mark costs more than the average."
    )
    return f'<div>{_table(head, rows, hidden=(1, 2))}<p class="note">{note}</p></div>\n'


def _amounts(share: Share) -> str:
    """The first cells of a row: label, count, cost in bytes."""
    label = f'<tr><th scope="row">{share.label}</th>'
    return f'{label}<td class="o">{share.count:,}</td><td class="o">{share.bits / 8:,.0f}</td>'


def _positions(shares: tuple[Share, ...]) -> str:
    most = max(share.bits / share.count for share in shares)
    rows = [
        f"{_amounts(share)}"
        f'<td class="x">{_meter(share.bits / share.count / most)}</td><td>{share.bits / share.count:.2f}</td></tr>\n'
        for share in shares
    ]
    count, bits = sum(share.count for share in shares), sum(share.bits for share in shares)
    first = shares[0]
    rest = f", a later one {(bits - first.bits) / (count - first.count):.2f}" if count > first.count else ""
    head = ["place in a word", "chars", "cost, bytes", "", "bits per char."]
    return (
        f"<div>{_table(head, rows, hidden=(1, 2))}"
        f'<p class="note">The first letter of a word costs {first.bits / first.count:.2f} bits{rest}; '
        f"first letters are {100 * first.bits / bits if bits else 0:.0f} % of what words cost.</p></div>\n"
    )


def _expensive(explanation: Explanation, rows: _Rows, spans: list[_Span]) -> Iterator[str]:
    yield '<section class="two wide">\n'
    yield _lines(explanation, rows, spans) if explanation.text else _stretches(explanation, rows, spans)
    binary = explanation.text is None
    yield f"<div><h2>Most expensive {'byte values' if binary else 'words'} in total</h2>\n"
    words = explanation.words[:SHOWN_WORDS]
    most = max((word.bits for word in words), default=0.0) or 1.0
    table = [
        f'<tr><td class="w">{_word(word.word, binary)}</td><td>{word.count:,}</td><td>{word.bits / word.count:.1f}</td>'
        f'<td>{word.bits / 8:,.0f}</td><td class="x">{_meter(word.bits / most)}</td></tr>\n'
        for word in words
    ]
    head = ["byte" if binary else "word", "times", "bits each", "cost, bytes", ""]
    yield _table(head, table) if words else '<p class="note">There are no words.</p>'
    yield "</div>\n</section>\n"


def _word(word: str, binary: bool) -> str:
    if not binary:
        return _shown(word)
    character = chr(int(word, 16))
    return f"{word} {escape(character)}" if "!" <= character <= "~" else word


def _lines(explanation: Explanation, rows: _Rows, spans: list[_Span]) -> str:
    text = explanation.text
    assert text is not None
    costs = explanation.lines()
    order = np.argsort(-costs, kind="stable")[:SHOWN_LINES]
    table = []
    for line in order.tolist():
        start = int(text.lines[line])
        end = int(text.lines[line + 1]) if line + 1 < len(text.lines) else len(text.starts)
        excerpt = text.string[start : min(end, start + EXCERPT)].strip() + ("…" if end - start > EXCERPT else "")
        row = int(np.searchsorted(rows.offsets, text.starts[start]))
        number = _link(f"L{line + 1}", f"{line + 1:,}", row, spans)
        size = _byte_place(text, end, explanation) - int(text.starts[start])
        table.append(
            f'<tr><td>{number}</td><td>{costs[line]:,.0f}</td><td class="o">{costs[line] / size:.2f}</td>'
            f'<td class="q">{_shown(excerpt)}</td></tr>\n'
        )
    head = ["line", "bits", "per byte", "text"]
    return f"<div><h2>Most expensive lines</h2>\n{_table(head, table, hidden=(2,), left=3)}</div>\n"


def _stretches(explanation: Explanation, rows: _Rows, spans: list[_Span]) -> str:
    starts = np.arange(0, len(explanation.data), WINDOW)
    costs = np.add.reduceat(explanation.costs, starts)
    table = []
    for place in np.argsort(-costs, kind="stable")[:SHOWN_LINES].tolist():
        start = place * WINDOW
        piece = explanation.data[start : start + WINDOW]
        number = _link(f"O{start}", f"{start:08x}", start // COLUMNS, spans)
        ascii_only = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in piece[:96])
        table.append(
            f"<tr><td>{number}</td><td>{costs[place]:,.0f}</td>"
            f'<td class="o">{costs[place] / len(piece):.2f}</td><td class="q">{escape(ascii_only)}</td></tr>\n'
        )
    head = ["offset", "bits", "per byte", "bytes, as ASCII"]
    title = f"Most expensive stretches of {WINDOW} bytes"
    return f"<div><h2>{title}</h2>\n{_table(head, table, hidden=(2,), left=3)}</div>\n"


def _link(anchor: str, label: str, row: int, spans: list[_Span]) -> str:
    shown = any(span.first <= row < span.last and span.shown for span in spans)
    return f'<a href="#{anchor}">{label}</a>' if shown else label


def _table(head: list[str], rows: list[str], *, hidden: tuple[int, ...] = (), left: int = 0) -> str:
    """A table; narrow screens leave out the columns `hidden`; 0 and `left` are set to the left."""
    cells = []
    for number, label in enumerate(head):
        kind = " ".join(["num"] * (number not in (0, left)) + ["o"] * (number in hidden))
        cells.append(f'<th scope="col" class="{kind}">{label}</th>' if kind else f'<th scope="col">{label}</th>')
    return f"<table><thead><tr>{''.join(cells)}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table>\n"


def _meter(share: float, mark: float | None = None) -> str:
    tick = "" if mark is None else f'<u style="left:{100 * mark:.1f}%"></u>'
    return f'<span class="meter"><s style="width:{100 * share:.1f}%"></s>{tick}</span>'


# The content


@dataclass(frozen=True)
class _Span:
    """Rows `first` to `last` - 1, shown or left out."""

    first: int
    last: int
    shown: bool


@dataclass(frozen=True)
class _Rows:
    """The content in rows: lines, pieces of long lines, or 16 bytes of a hex dump.

    Attributes:
        offsets: byte at which each row begins, shape (rows,).
        tokens: index of each row's first token (byte, of a binary), shape (rows,).
        numbers: line number from 1 of each row, shape (rows,); none for a binary.
    """

    offsets: Offsets
    tokens: Offsets
    numbers: Offsets

    @classmethod
    def of(cls, explanation: Explanation) -> _Rows:
        """Cut a content of at least one byte into rows."""
        text = explanation.text
        if text is None:
            starts = np.arange(0, len(explanation.data), COLUMNS)
            return cls(starts, starts, np.zeros(0, np.int64))
        tokens = text.starts[text.tokens].astype(np.int64)
        lines = text.starts[text.lines].astype(np.int64)
        ends = np.append(lines[1:], len(explanation.data))
        cuts: list[int] = []
        for line in np.flatnonzero(ends - lines > LONG_ROW).tolist():
            at, end = int(lines[line]), int(ends[line])
            while end - at > LONG_ROW:
                at = int(tokens[np.searchsorted(tokens, at + LONG_ROW, side="right") - 1])  # a token is shorter
                cuts.append(at)
        offsets = np.union1d(lines, np.array(cuts, np.int64))
        numbers = np.searchsorted(lines, offsets, side="right")
        return cls(offsets, np.searchsorted(tokens, offsets), numbers)

    def select(self, explanation: Explanation, limit: int) -> list[_Span]:
        """Which rows to show: all that fit the limit, else the head and the stretches that cost most per byte."""
        size, count = len(explanation.data), len(self.offsets)
        if size <= limit:
            return [_Span(0, count, True)]
        stretch = min(STRETCH, max(limit // 16, 4 * COLUMNS))
        firsts = np.unique(self.offsets // stretch, return_index=True)[1]
        starts = self.offsets[firsts]
        sizes = np.diff(starts, append=size)
        costs = np.add.reduceat(explanation.costs, starts) / sizes
        head = max(int(np.searchsorted(starts + sizes, limit // 4, side="right")), 1)
        chosen = np.zeros(len(firsts), np.bool_)
        chosen[:head] = True
        left = limit - int(sizes[:head].sum())
        for place in np.argsort(-costs, kind="stable").tolist():
            if not chosen[place] and sizes[place] <= left:
                chosen[place] = True
                left -= int(sizes[place])
            if left < stretch // 4:
                break
        changes = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=2))  # the first row always begins one
        bounds = [*firsts[changes].tolist(), count]
        return [
            _Span(first, last, bool(chosen[at]))
            for at, first, last in zip(changes.tolist(), bounds[:-1], bounds[1:], strict=True)
        ]


def _content(explanation: Explanation, rows: _Rows, spans: list[_Span]) -> Iterator[str]:
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
    edges = ",".join(f"{edge:g}" for edge in EDGES)
    yield f'</div>\n<div id="text" tabindex="0" role="group" aria-label="the content, coloured" data-edges="{edges}">\n'
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
        for first in range(span.first, span.last, GROUP):
            last = min(first + GROUP, span.last)
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


def _gap(explanation: Explanation, rows: _Rows, span: _Span, end: int) -> str:
    start = int(rows.offsets[span.first])
    bits = float(explanation.costs[start:end].sum())
    lines = ""
    if len(rows.numbers):
        first, last = int(rows.numbers[span.first]), int(rows.numbers[span.last - 1])
        lines = f" (line {first:,})" if first == last else f" (lines {first:,} to {last:,})"
    return (
        f'<p class="gap">{_plural(end - start, "byte")} from {start:,} on{lines} are left out: '
        f"{bits / (end - start):.2f} bits per byte.</p>\n"
    )


def _text_rows(
    explanation: Explanation, text: Text, rows: _Rows, first: int, last: int, sums: list[float], bars: list[float]
) -> Iterator[str]:
    """Rows `first` to `last` - 1 of a text; `sums` (bits) and `bars` (0 to 1) are of these rows."""
    tokens, token_end = rows.tokens[first:last].tolist(), len(text.tokens)
    bounds = [*tokens, int(rows.tokens[last]) if last < len(rows.tokens) else token_end]
    places = [*text.tokens[bounds[0] : bounds[-1]].tolist()]
    places.append(int(text.tokens[bounds[-1]]) if bounds[-1] < token_end else len(text.starts))
    low, high = places[0], places[-1]
    begin, end = int(text.starts[low]), _byte_place(text, high, explanation)
    starts = (text.starts[low:high] - begin).astype(np.int64)
    costs = np.add.reduceat(explanation.costs[begin:end], starts)
    levels = np.searchsorted(EDGES, np.add.reduceat(costs, np.array(places[:-1]) - low), side="right").tolist()
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
                pieces.append(f'<i class="{_joined("n", colour)}" data-b={total}{span}></i>')
            elif kind == OTHER:
                shown = _escaped(text.string[low + start])
                attributes = f'class="{_joined("e", colour)}" data-b={thousandths[start]} data-n={sizes[start]}'
                pieces.append(f"<i {attributes}>{shown}</i>")
            else:
                shown = escape(text.string[low + start : low + stop])
                colour = f"class={colour} " if colour else ""
                pieces.append(f"<i {colour}data-b={','.join(thousandths[start:stop])}>{shown}</i>")
        yield (
            f'<div class="r"{anchor} data-o={int(rows.offsets[row])} data-l={number}>{label}'
            f"<b>{_bits(sums[row - first])}</b><s style=width:{100 * bars[row - first]:.0f}%></s>"
            f"<code>{''.join(pieces)}</code></div>\n"
        )


def _hex_rows(
    explanation: Explanation, rows: _Rows, first: int, last: int, sums: list[float], bars: list[float]
) -> Iterator[str]:
    """Rows `first` to `last` - 1 of a hex dump; `sums` (bits) and `bars` (0 to 1) are of these rows."""
    for row in range(first, last):
        start = int(rows.offsets[row])
        piece = explanation.data[start : start + COLUMNS]
        costs = explanation.costs[start : start + COLUMNS]
        levels = np.searchsorted(EDGES, costs, side="right").tolist()
        cells = "".join(
            f"<i class=c{level}>{byte:02x}</i>" if level else f"<i>{byte:02x}</i>"
            for byte, level in zip(piece, levels, strict=True)
        )
        thousandths = ",".join(map(str, np.rint(1000 * costs).astype(np.int64).tolist()))
        shown = escape("".join(chr(byte) if 32 <= byte < 127 else "·" for byte in piece))
        anchor = f" id=O{start}" if start % WINDOW == 0 else ""
        yield (
            f'<div class="r h"{anchor} data-o={start} data-b={thousandths}><a>{start:08x}</a>'
            f"<b>{_bits(sums[row - first])}</b><s style=width:{100 * bars[row - first]:.0f}%></s>"
            f"<code>{cells}</code><q>{shown}</q></div>\n"
        )


def _levels() -> Iterable[str]:
    yield f"&lt; {EDGES[0]:g}"
    for low, high in pairwise(EDGES):
        yield f"{low:g}&ndash;{high:g}"
    yield f"&ge; {EDGES[-1]:g}"


def _byte_place(text: Text, character: int, explanation: Explanation) -> int:
    """Byte offset of a character, or of the end."""
    return int(text.starts[character]) if character < len(text.starts) else len(explanation.data)


def _bits(bits: float) -> str:
    return f"{bits:.1f}" if bits < 99.95 else f"{bits:,.0f}"


def _joined(*names: str) -> str:
    return " ".join(name for name in names if name)


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _escaped(character: str) -> str:
    r"""A character that shows nothing, or must not act, as an escape; a byte that is no UTF-8 as \xHH."""
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point & 0xFF:02x}"
    return escape(character.encode("unicode_escape").decode("ascii"))


def _shown(text: str) -> str:
    """Text for HTML, with all that is not printable (controls, directions, bytes that are no UTF-8) as escapes."""
    return "".join(escape(c) if c.isprintable() else _escaped(c) for c in text)
