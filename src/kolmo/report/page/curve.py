"""The curve of an explanation's page: bits per byte along the file, as an SVG image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kolmo.report.page.markup import plural

if TYPE_CHECKING:
    from kolmo.report.explain import Explanation

CURVE_POINTS = 480  # points of the curve
PLOT_UNITS = 1000  # width and height of the curve's own units


def curve(explanation: Explanation) -> Iterator[str]:
    """The section with the curve, as pieces of HTML."""
    size = len(explanation.data)
    bins = min(CURVE_POINTS, size)
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
    grid = "".join(f"M0 {PLOT_UNITS * (1 - tick / top):.1f}H{PLOT_UNITS}" for tick in ticks)
    blocks = "".join(f"M{PLOT_UNITS * block / size:.1f} 0V{PLOT_UNITS}" for block in explanation.blocks[1:])
    yield '<section>\n<h2>Along the file</h2>\n<figure class="chart">\n<ul class="key">'
    yield f"<li>{_swatch('near')}bits per byte, {'average over ' + plural(window, 'byte') if window > 1 else 'each'}"
    yield f"</li><li>{_swatch('mean')}average from the start</li><output></output></ul>\n"
    yield f'<div class="plot" data-n="{size}" data-p="{pairs}">'
    yield f'<svg viewBox="0 0 {PLOT_UNITS} {PLOT_UNITS}" preserveAspectRatio="none" role="img" aria-label="{label}">'
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
    places = [0.0, *(PLOT_UNITS * x).tolist(), PLOT_UNITS]
    heights = (PLOT_UNITS * (1 - y)).tolist()
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
