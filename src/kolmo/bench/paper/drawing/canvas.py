"""A drawing of lines, dots and words, written as SVG for a page and as PNG with Pillow.

Colours of lines and dots are classes of the style sheet, c0 to c7, or `grid` for lines of the background. What it is
not: it knows no axes (`bench.paper.drawing.panel`).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from kolmo.errors import MissingExtraError
from kolmo.foreign import html
from kolmo.installing import install

COLOURS = {  # of the style sheet, on white
    **{"c0": "#0072b2", "c1": "#d55e00", "c2": "#009e73", "c3": "#cc79a7", "c4": "#e69f00", "c5": "#56b4e9"},
    **{"c6": "#7a5195", "c7": "#8c8c8c", "grid": "#dddddd", "ink": "#1b1b1b"},
}
SCALE = 2  # pixels of a PNG for each unit of the drawing
FONT_SIZE = 12
DASH = 5.0  # units of a dash and of a gap
ANCHORS = {"start": "l", "middle": "m", "end": "r"}

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line through points; `tip` is shown where a mouse is over it."""

    points: tuple[Point, ...]
    colour: str
    dashed: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Dot:
    """A dot; a hollow one has a rim alone."""

    at: Point
    colour: str
    radius: float = 4.0
    hollow: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Words:
    """A word or line: its anchor is at the point, on its base line."""

    at: Point
    text: str
    anchor: str = "start"
    bold: bool = False


@dataclass
class Canvas:
    """A drawing of a width and height, in units of a pixel of the page.

    Example:
        >>> canvas = Canvas(100, 50, "a line")
        >>> canvas.add(Line(((0, 0), (100, 50)), "c0"))
        >>> canvas.svg().count("<polyline")
        1
    """

    width: int
    height: int
    label: str
    items: list[Line | Dot | Words] = field(default_factory=list)

    def add(self, item: Line | Dot | Words) -> None:
        """Draw on top."""
        self.items.append(item)

    def svg(self) -> str:
        """An element for a page whose style sheet is `bench.css`."""
        parts = [f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{html(self.label)}">']
        for item in self.items:
            tip = f"<title>{html(item.tip)}</title>" if not isinstance(item, Words) and item.tip else ""
            if isinstance(item, Line):
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in item.points)
                dashes = f' stroke-dasharray="{DASH:g} {DASH:g}"' if item.dashed else ""
                parts.append(f'<polyline class="{item.colour}" points="{points}"{dashes}>{tip}</polyline>')
            elif isinstance(item, Dot):
                kind = f"{item.colour} {'hollow' if item.hollow else 'full'}"
                place = f'cx="{item.at[0]:.1f}" cy="{item.at[1]:.1f}" r="{item.radius:g}"'
                parts.append(f'<circle class="{kind}" {place}>{tip}</circle>')
            else:
                kind = ' class="title"' if item.bold else ""
                place = f'x="{item.at[0]:.1f}" y="{item.at[1]:.1f}" text-anchor="{item.anchor}"'
                parts.append(f"<text{kind} {place}>{html(item.text)}</text>")
        return "".join([*parts, "</svg>"])


def png(canvases: Sequence[Canvas], columns: int = 2) -> bytes:
    """Drawings of equal width side by side, as PNG on white; each row is as high as its highest one.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingExtraError(f"figures in PNG need Pillow; {install('bench')}") from None
    columns = min(columns, len(canvases))
    width = canvases[0].width
    heights = [max(one.height for one in row) for row in _rows(canvases, columns)]
    tops = [0, *itertools.accumulate(heights)]
    picture = Image.new("RGB", (columns * width * SCALE, tops[-1] * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE * SCALE)
    for k, canvas in enumerate(canvases):
        left, top = k % columns * width, tops[k // columns]

        def place(point: Point, left: int = left, top: int = top) -> Point:
            return (left + point[0]) * SCALE, (top + point[1]) * SCALE

        for item in canvas.items:
            colour = COLOURS["ink" if isinstance(item, Words) else item.colour]
            if isinstance(item, Line):
                thick = SCALE if item.colour == "grid" else 2 * SCALE
                for part in _dashes(item.points) if item.dashed else [item.points]:
                    draw.line([place(point) for point in part], fill=colour, width=thick, joint="curve")
            elif isinstance(item, Dot):
                x, y = place(item.at)
                r = item.radius * SCALE
                fill = "white" if item.hollow else colour
                draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=colour, width=2 * SCALE)
            else:
                place_of = ANCHORS[item.anchor] + "s"
                draw.text(place(item.at), item.text, fill=colour, font=font, anchor=place_of)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


def _rows(canvases: Sequence[Canvas], columns: int) -> list[Sequence[Canvas]]:
    return [canvases[start : start + columns] for start in range(0, len(canvases), columns)]


def _dashes(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """The dashes of a line through points."""
    found = []
    for (x, y), (u, v) in itertools.pairwise(points):
        length = max(((u - x) ** 2 + (v - y) ** 2) ** 0.5, 1e-9)
        at = 0.0
        while at < length:
            a, b = at / length, min(at + DASH, length) / length
            found.append(((x + (u - x) * a, y + (v - y) * a), (x + (u - x) * b, y + (v - y) * b)))
            at += 2 * DASH
    return found
