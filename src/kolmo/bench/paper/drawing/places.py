"""Curves of rate against place in the context: a panel for each modality.

What it is not: it measures nothing (`bench.paper.positions`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kolmo.bench.paper.drawing.canvas import Canvas
from kolmo.bench.paper.drawing.panel import Panel, Series
from kolmo.bench.paper.positions import Curve

COLOURS = 8  # of the style sheet: classes c0 to c7
MAX_BITS = 10.0  # what is above is not drawn: the first byte also carries which kind of data the chunk is taken for


def draw(curves: Sequence[Curve]) -> tuple[list[Canvas], list[tuple[str, str]]]:
    """All panels, and the legend (label, colour); empty for no curves."""
    labels = list(dict.fromkeys(curve.codec for curve in curves))
    colour = {label: f"c{k % COLOURS}" for k, label in enumerate(labels)}
    modalities = list(dict.fromkeys(curve.modality for curve in curves))
    panels = [_panel(name, [one for one in curves if one.modality == name], colour) for name in modalities]
    return panels, list(colour.items())


def _panel(title: str, curves: Sequence[Curve], colour: dict[str, str]) -> Canvas:
    last = max(curve.places[-1] for curve in curves)
    places = [8**k for k in range(int(math.log(last, 8)) + 1)] if last else []
    ticks = [(float(bits), f"{bits}") for bits in range(0, int(MAX_BITS) + 1, 2)]
    x_ticks = [(float(place), f"{place:,}") for place in places]
    panel = Panel(title, "place in the chunk; bits of a byte", x_ticks, ticks, _scale, MAX_BITS)
    for curve in curves:
        points = tuple((float(place), bits) for place, bits in zip(curve.places, curve.bits, strict=True))
        tip = f"{curve.codec}: {curve.bits[0]:.2f} bits at first, {curve.bits[-1]:.2f} from place {curve.places[-1]} on"
        panel.series.append((Series(tip, points), colour[curve.codec]))
    return panel.draw()


def _scale(place: float) -> float:
    return math.log2(place + 1)
