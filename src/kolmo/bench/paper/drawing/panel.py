"""A panel of a figure: axes, and curves through points, on a `Canvas`.

What it is not: it knows no compressor (`bench.paper.drawing.places`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kolmo.bench.paper.drawing.canvas import Canvas, Dot, Line, Point, Words

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 28, 42
Scale = Callable[[float], float]


def logarithmic(value: float) -> float:
    """For an axis whose steps are factors of ten."""
    return math.log10(value)


def linear(value: float) -> float:
    """For an axis whose steps are equal."""
    return value


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        label: in the legend.
        points: (x, y), in the order in which they are joined.
        dashed: whether it is drawn so.
        marked: indices of points that are circled.
    """

    label: str
    points: tuple[Point, ...]
    dashed: bool = False
    marked: tuple[int, ...] = ()


@dataclass
class Panel:
    """Axes and what they are named.

    Attributes:
        title, x_name: words above and below.
        x_ticks, y_ticks: values and words of the marks.
        x_scale: of the horizontal axis; the vertical one is linear.
        top: what is above is not drawn.
    """

    title: str
    x_name: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    x_scale: Scale = linear
    top: float = math.inf
    series: list[tuple[Series, str]] = field(default_factory=list)

    def draw(self) -> Canvas:
        """The drawing."""
        canvas = Canvas(WIDTH, HEIGHT, f"{self.title}: {self.x_name}")
        every = [point for series, _ in self.series for point in series.points]
        xs = [self.x_scale(value) for value in [*(x for x, _ in every), *(x for x, _ in self.x_ticks)]]
        ys = [min(y, self.top) for _, y in every] + [y for y, _ in self.y_ticks]
        (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))
        right, high = max(right, left + 1e-9), max(high, low + 1e-9)

        def at(x: float, y: float) -> Point:
            across = (self.x_scale(x) - left) / (right - left)
            up = (y - low) / (high - low)
            return LEFT + (WIDTH - LEFT - RIGHT) * across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up

        canvas.add(Words((LEFT, 16), self.title, bold=True))
        for value, word in self.y_ticks:
            height = at(every[0][0] if every else 1, value)[1]
            canvas.add(Line(((LEFT, height), (WIDTH - RIGHT, height)), "grid"))
            canvas.add(Words((LEFT - 6, height + 4), word, "end"))
        for value, word in self.x_ticks:
            canvas.add(Words((at(value, low)[0], HEIGHT - BOTTOM + 16), word, "middle"))
        canvas.add(Words(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), self.x_name, "middle"))
        ceiling = at(every[0][0] if every else 1, min(self.top, high))[1]
        for series, colour in self.series:
            places = [at(x, y) for x, y in series.points]
            for run in _runs(places, ceiling):
                canvas.add(Line(run, colour, series.dashed, series.label))
            for point in places:
                if point[1] >= ceiling - 1e-9:
                    canvas.add(Dot(point, colour, 2.5, tip=series.label))
        for series, colour in self.series:
            for k in series.marked:
                canvas.add(Dot(at(*series.points[k]), colour, 5.5, True, series.label))
        return canvas


def _runs(places: Sequence[Point], ceiling: float) -> list[tuple[Point, ...]]:
    """The parts of a curve that are not above the ceiling."""
    runs: list[list[Point]] = []
    for a, b in itertools.pairwise(places):
        if part := _below(a, b, ceiling):
            if runs and runs[-1][-1] == part[0]:
                runs[-1].append(part[1])
            else:
                runs.append(list(part))
    return [tuple(run) for run in runs]


def _below(a: Point, b: Point, ceiling: float) -> tuple[Point, Point] | None:
    """The part of a line that is not above the ceiling, in units of the drawing, whose heights grow downwards.

    >>> _below((0, 0), (10, 10), 5), _below((0, 0), (1, 1), 5)
    (((5.0, 5), (10, 10)), None)
    """
    if a[1] < ceiling and b[1] < ceiling:
        return None
    if min(a[1], b[1]) >= ceiling:
        return a, b
    cut = (a[0] + (b[0] - a[0]) * (ceiling - a[1]) / (b[1] - a[1]), ceiling)
    return (cut, b) if a[1] < ceiling else (a, cut)


def legend(labels: Iterable[tuple[str, str]]) -> Canvas:
    """A drawing that names colours, for figures in PNG: (label, colour); as high as it needs."""
    named = list(labels)
    canvas = Canvas(WIDTH, 30 + 20 * len(named), "legend")
    for k, (label, colour) in enumerate(named):
        height = 30 + 20 * k
        canvas.add(Line(((LEFT, height - 4), (LEFT + 24, height - 4)), colour))
        canvas.add(Words((LEFT + 32, height), label))
    return canvas
