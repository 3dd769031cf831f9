"""Bytes against CPU time, as SVG: one point a tool, and the line of those that none beats in both.

What it is not: it measures nothing (`bench.files`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kolmo.fit.labels import Box, Label, place
from kolmo.foreign import html

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50
FONT_SIZE = 12
RADIUS = 4.5
LETTER_WIDTH = 0.54  # of a letter on average, in sizes of the text


@dataclass(frozen=True)
class ToolPoint:
    """A tool: its label, packed bytes a raw byte, CPU seconds a raw megabyte; whether it is kolmo."""

    label: str
    rate: float
    seconds: float
    own: bool


def front(points: Sequence[ToolPoint]) -> list[ToolPoint]:
    """The points that no other one beats in both size and time, the fastest first.

    >>> [p.label for p in front([ToolPoint("a", 0.5, 1, False), ToolPoint("b", 0.6, 2, False)])]
    ['a']
    """
    result: list[ToolPoint] = []
    for point in sorted(points, key=lambda one: (one.seconds, one.rate)):
        if not result or point.rate < result[-1].rate:
            result.append(point)
    return result


def pareto(points: Sequence[ToolPoint], title: str) -> str:
    """The picture; "" for no points.

    Args:
        points: with times above 0.
        title: for readers that do not see it.
    """
    if not points:
        return ""
    low, high = min(p.seconds for p in points), max(p.seconds for p in points)
    low, high = low / 1.6, high * 1.6
    most = max(p.rate for p in points) * 1.08
    least = min(p.rate for p in points) * 0.92

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(seconds / low) / math.log(high / low)

    def y(rate: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (most - rate) / (most - least)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html(title)}">']
    for exponent in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        at = x(10.0**exponent)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{10.0**exponent:g}</text>')
    step = _step(most - least)
    for k in range(math.ceil(least / step), math.floor(most / step) + 1):
        at = y(k * step)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{100 * k * step:g} %</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">CPU seconds for each MB, compressing (logarithmic)'
        "</text>"
    )
    line = " ".join(f"{x(p.seconds):.1f},{y(p.rate):.1f}" for p in front(points))
    parts.append(f'<polyline class="front" points="{line}"/>')
    places = [(x(point.seconds), HEIGHT - y(point.rate)) for point in points]  # upwards, as labels are placed
    labels = [
        Label(*at, LETTER_WIDTH * FONT_SIZE * len(point.label), FONT_SIZE * 1.1)
        for at, point in zip(places, points, strict=True)
    ]
    dots = [Box(u - RADIUS, v - RADIUS, u + RADIUS, v + RADIUS) for u, v in places]
    ends = [(x(p.seconds), HEIGHT - y(p.rate)) for p in front(points)]
    for (u, v), (w, z) in pairwise(ends):  # labels avoid the line too
        steps = [k / 20 for k in range(21)]
        dots += [Box(a - 2, b - 2, a + 2, b + 2) for a, b in ((u + (w - u) * t, v + (z - v) * t) for t in steps)]
    boxes = place(labels, dots, Box(LEFT, BOTTOM, WIDTH - RIGHT, HEIGHT - TOP))
    for point, box in zip(points, boxes, strict=True):
        kind = "own" if point.own else "peer"
        tip = f"{point.label}: {100 * point.rate:.2f} %, {point.seconds:.3g} s for each MB"
        parts.append(
            f'<circle class="{kind}" cx="{x(point.seconds):.1f}" cy="{y(point.rate):.1f}" r="{RADIUS}">'
            f"<title>{html(tip)}</title></circle>"
        )
        parts.append(f'<text x="{box.left:.1f}" y="{HEIGHT - box.bottom - 3:.1f}">{html(point.label)}</text>')
    return "".join([*parts, "</svg>"])


def _step(span: float) -> float:
    """A round distance of lines, about five in the span."""
    power: float = 10.0 ** math.floor(math.log10(span / 5))
    return next(power * k for k in (1, 2, 5, 10) if power * k * 6 >= span)
