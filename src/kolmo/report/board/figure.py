"""Scores against bits per character, as inline SVG: published models, their line, and this leaderboard's models on it.

Each picture comes twice, for wide and for narrow screens, since text in an SVG shrinks with it.
What it is not: it fits nothing (`board.fit`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from kolmo.fit import Fit, Prediction
from kolmo.fit.labels import Box, Label, place
from kolmo.foreign import html
from kolmo.report.board.fit import PlacedModel, Scatter
from kolmo.report.board.words import listing, plural

SIZES = (("wide", 960, 500), ("narrow", 400, 420))  # class, width, height
OWN_SIZES = (("wide", 960, 340), ("narrow", 400, 320))
FONT_SIZE = 12  # of the text
LETTER_WIDTH = 0.54  # width of a letter on average, in sizes of the text
LEVEL = 0.95
LINE_STEPS = 40
MAX_NAMES = 40


@dataclass(frozen=True)
class Mark:
    """A point with a name.

    Attributes:
        kind: its class: point, placed, scored.
        bpc, score: where it is.
        name: beside it.
        tip: under the pointer.
        span: an interval of the score, or None.
    """

    kind: str
    bpc: float
    score: float
    name: str
    tip: str
    span: Prediction | None = None


def figures(found: Scatter) -> Iterator[str]:
    """The section about scores."""
    yield '<section id="scores">\n<h2>Bits per character and benchmark scores</h2>\n'
    fit = found.fit
    drawn = [one for one in found.placed if one.drawn]
    yield (
        f"<p>Through {plural(len(found.points), 'published model')} (Huang et al., 2024) goes the line {_line(fit)}, "
        f"with &rho; = {_signed(fit.rho)} and e = {fit.error:.3f}."
    )
    if found.placed:
        yield f" {_where(found)}"
    yield "</p>\n"
    marks = [
        Mark("point", one.bpc, one.score or 0.0, one.model, f"{one.model}: BPC {one.bpc:.3f}, score {one.score:.3f}")
        for one in found.points
    ]
    marks += [_placed(one) for one in drawn]
    if found.fractions:
        marks += [
            Mark("scored", one.bpc, score, "", f"{one.name}: BPC {one.bpc:.3f}, score {score:.3f} by your table")
            for one, score in found.scored
        ]
    yield '<figure class="scatter">\n<ul class="key">'
    yield f"<li>{_swatch('point')}published</li><li>{_swatch('band')}95 % for one more model</li>"
    if drawn:
        yield f"<li>{_swatch('placed')}this leaderboard, predicted</li>"
    if found.fractions and found.scored:
        yield f"<li>{_swatch('scored')}this leaderboard, your scores</li>"
    yield "</ul>\n"
    for name, width, height in SIZES:
        yield "".join(_picture(marks, fit, "average score of the published benchmarks", 1.0, name, width, height))
    yield "</figure>\n"
    beyond = [one.name for one in found.placed if not one.drawn]
    if beyond:
        yield (
            f'<p class="note">Not drawn, since the line leads to no score between 0 and 1 there: '
            f"{html(listing(beyond))}.</p>\n"
        )
    yield from _own(found)
    yield "</section>\n"


def _where(found: Scatter) -> str:
    what = "The models of this leaderboard stand on it"
    if found.exact:
        return (
            f"{what} as predictions. They were measured as the published ones were (cc, python and arxiv_math, mode "
            "paper), so the comparison is exact where all documents were taken."
        )
    return (
        f"{what} as rough guesses: the comparison is exact only for the corpora cc, python and arxiv_math in mode "
        f"paper, and these numbers are of {html(found.section[0].lower() + found.section[1:])}."
    )


def _placed(one: PlacedModel) -> Mark:
    span = one.predicted
    beyond = "" if one.covered else "; beyond the published models"
    tip = f"{one.name}: BPC {one.bpc:.3f}, predicted {span.score:.3f} ({span.low:.3f} to {span.high:.3f}{beyond})"
    return Mark("placed", one.bpc, span.score, one.name, tip, span)


def _own(found: Scatter) -> Iterator[str]:
    """The user's scores, against the line through them."""
    if found.note:
        yield f'<p class="note">{html(found.note)}.</p>\n'
    if found.own is None:
        return
    own = found.own
    yield "<h3>Your scores</h3>\n"
    yield (
        f"<p>Through the {plural(own.count, 'model')} of this leaderboard that your table has scores of goes the line "
        f"{_line(own)}, with &rho; = {_signed(own.rho)} and e = {own.error:.3g}.</p>\n"
    )
    marks = [
        Mark("scored", one.bpc, score, one.name, f"{one.name}: BPC {one.bpc:.3f}, score {score:.4g}")
        for one, score in found.scored
    ]
    yield '<figure class="scatter">\n'
    for name, width, height in OWN_SIZES:
        yield "".join(_picture(marks, own, "score of your table", None, name, width, height))
    yield "</figure>\n"


def _line(fit: Fit) -> str:
    return escape(str(fit)).replace(" - ", " &minus; ").replace(" * ", " &middot; ")


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "&minus;")


def _swatch(kind: str) -> str:
    shape = {
        "band": '<rect class="band" width="20" height="10"/><path class="fit" d="M0 5H20"/>',
        "point": '<circle class="point" cx="10" cy="5" r="4"/>',
        "placed": '<path class="placed" d="M10 0L15 5L10 10L5 5Z"/>',
        "scored": '<rect class="scored" x="6" y="1" width="8" height="8"/>',
    }[kind]
    return f'<svg viewBox="0 0 20 10" aria-hidden="true">{shape}</svg>'


# The picture


@dataclass(frozen=True)
class _Axes:
    """From BPC and score to the picture's units; y downwards."""

    left: float
    right: float
    bottom: float
    top: float
    box: Box  # in units, y upwards from the lower edge

    def x(self, bpc: float) -> float:
        return self.box.left + (bpc - self.left) / (self.right - self.left) * (self.box.right - self.box.left)

    def y(self, score: float) -> float:
        return self.box.bottom + (score - self.bottom) / (self.top - self.bottom) * (self.box.top - self.box.bottom)


def _picture(
    marks: Sequence[Mark], fit: Fit, label: str, top: float | None, name: str, width: int, height: int
) -> Iterator[str]:
    """One picture; `top` is the highest score that there can be, None where nobody knows."""
    axes = _axes(marks, top, Box(44, 40, width - 8, height - 14))
    about = f"{label} against bits per character: {plural(len(marks), 'point')}"
    yield f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{about}" font-size="{FONT_SIZE}">'

    def at(bpc: float, score: float) -> str:
        return f"{axes.x(bpc):.1f} {height - axes.y(score):.1f}"

    for value, text in _ticks(axes.bottom, axes.top):
        yield f'<path class="grid" d="M{at(axes.left, value)}L{at(axes.right, value)}"/>'
        yield f'<text class="tick" x="38" y="{height - axes.y(value) + 4:.1f}" text-anchor="end">{text}</text>'
    for value, text in _ticks(axes.left, axes.right):
        yield f'<path class="grid" d="M{at(value, axes.bottom)}L{at(value, axes.top)}"/>'
        yield f'<text class="tick" x="{axes.x(value):.1f}" y="{height - 22}" text-anchor="middle">{text}</text>'
    middle = (axes.box.left + axes.box.right) / 2
    yield f'<text class="axis" x="{middle:.0f}" y="{height - 4}" text-anchor="middle">bits per character</text>'
    yield f'<text class="axis" x="{axes.box.left:.0f}" y="10">{escape(label)}</text>'
    steps = [axes.left + (axes.right - axes.left) * k / LINE_STEPS for k in range(LINE_STEPS + 1)]
    spans = [fit.predict(bpc, LEVEL) for bpc in steps]
    upper = [at(bpc, _within(span.high, axes)) for bpc, span in zip(steps, spans, strict=True)]
    lower = [at(bpc, _within(span.low, axes)) for bpc, span in zip(steps, spans, strict=True)]
    yield f'<path class="band" d="M{"L".join([*upper, *reversed(lower)])}Z"/>'
    on_line = [(bpc, fit.score(bpc)) for bpc in steps if axes.bottom <= fit.score(bpc) <= axes.top]
    if len(on_line) > 1:
        yield f'<path class="fit" d="M{"L".join(at(*point) for point in on_line)}"/>'
    for mark in marks:
        yield _drawn(mark, axes, height)
    yield from _names(marks, axes, fit, height, everything=name == "wide")
    yield "</svg>\n"


def _axes(marks: Sequence[Mark], top: float | None, box: Box) -> _Axes:
    across = [mark.bpc for mark in marks]
    up = [mark.score for mark in marks] + [
        value for mark in marks if mark.span for value in (mark.span.low, mark.span.high)
    ]
    if top is not None:  # a scale that has ends
        up = [min(max(value, 0.0), top) for value in up]
    left, right = _margin(min(across), max(across), 0.08)
    bottom, upper = _margin(min(up), max(up), 0.08)
    if top is not None:
        bottom, upper = max(bottom, 0.0), min(upper, top)
    return _Axes(left, right, bottom, upper, box)


def _margin(low: float, high: float, part: float) -> tuple[float, float]:
    width = max(high - low, 1e-6)
    return low - part * width, high + part * width


def _within(value: float, axes: _Axes) -> float:
    return min(max(value, axes.bottom), axes.top)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Four to eight round numbers between, as they are written."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * part for part in (1, 0.5, 0.25, 0.2, 0.1) if (high - low) / (step * part) >= 4)
    digits = max(0, -math.floor(math.log10(step)) + (round(step / 10 ** math.floor(math.log10(step)), 6) == 2.5))
    first = math.ceil(low / step - 1e-9)
    return [(k * step, f"{k * step:.{digits}f}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _drawn(mark: Mark, axes: _Axes, height: int) -> str:
    x, y = axes.x(mark.bpc), height - axes.y(_within(mark.score, axes))
    tip = f"<title>{html(mark.tip)}</title>"
    if mark.kind == "point":
        return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4">{tip}</circle>'
    if mark.kind == "scored":
        return f'<rect class="scored" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9">{tip}</rect>'
    stem = ""
    if mark.span is not None:
        low, high = (height - axes.y(_within(value, axes)) for value in (mark.span.low, mark.span.high))
        stem = (
            f'<path class="stem" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"/>'
        )
    return f'<g>{tip}{stem}<path class="placed" d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6Z"/></g>'


def _names(marks: Sequence[Mark], axes: _Axes, fit: Fit, height: int, *, everything: bool) -> Iterator[str]:
    """Names beside their points, where there is room; on narrow screens those of this leaderboard alone."""
    named = [mark for mark in marks if mark.name and (everything or mark.kind != "point")]
    if len(named) > MAX_NAMES:
        named = [mark for mark in named if mark.kind != "point"][:MAX_NAMES]
    labels = [
        Label(
            axes.x(mark.bpc),
            axes.y(_within(mark.score, axes)),
            LETTER_WIDTH * FONT_SIZE * len(_short(mark.name)) + 2,
            FONT_SIZE + 1.0,
        )
        for mark in named
    ]
    obstacles = []
    for mark in marks:
        x, y = axes.x(mark.bpc), axes.y(_within(mark.score, axes))
        obstacles.append(Box(x - 6, y - 6, x + 6, y + 6))
        if mark.span is not None:
            low, high = (axes.y(_within(value, axes)) for value in (mark.span.low, mark.span.high))
            obstacles.append(Box(x - 4, low, x + 4, high))
    for k in range(4 * LINE_STEPS + 1):
        bpc = axes.left + (axes.right - axes.left) * k / LINE_STEPS / 4
        x, y = axes.x(bpc), axes.y(fit.score(bpc))
        obstacles.append(Box(x - 2, y - 2, x + 2, y + 2))
    for mark, label, box in zip(named, labels, place(labels, obstacles, axes.box), strict=True):
        x, y = min(max(label.x, box.left), box.right), min(max(label.y, box.bottom), box.top)
        if math.hypot(x - label.x, y - label.y) > 1.3 * FONT_SIZE:
            yield f'<path class="lead" d="M{label.x:.1f} {height - label.y:.1f}L{x:.1f} {height - y:.1f}"/>'
        middle, base = (box.left + box.right) / 2, height - box.bottom - 0.22 * FONT_SIZE
        yield (
            f'<text class="name {mark.kind}" x="{middle:.1f}" y="{base:.1f}" text-anchor="middle">'
            f"{html(_short(mark.name))}</text>"
        )


def _short(name: str) -> str:
    bare = "".join(c for c in name if c.isprintable())
    bare = bare.rstrip("/").rpartition("/")[2] or bare  # its folder or organisation aside
    return bare if len(bare) <= 28 else bare[:27] + "…"
