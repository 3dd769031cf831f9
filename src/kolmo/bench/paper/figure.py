"""Curves of rate against place in the context, as SVG: a panel for each modality.

What it is not: it measures nothing (`bench.paper.positions`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from kolmo.bench.paper.positions import Curve
from kolmo.foreign import html

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 26, 40
COLOURS = 8  # of the style sheet: classes c0 to c7
MAX_BITS = 8.0


def panels(curves: Sequence[Curve]) -> str:
    """All panels and a legend; "" for no curves."""
    labels = list(dict.fromkeys(curve.codec for curve in curves))
    colour = {label: f"c{k % COLOURS}" for k, label in enumerate(labels)}
    modalities = list(dict.fromkeys(curve.modality for curve in curves))
    if not labels:
        return ""
    parts = ['<div class="panels">']
    parts += [_panel(name, [c for c in curves if c.modality == name], colour) for name in modalities]
    legend = "".join(f'<li><i class="{colour[label]}"></i>{html(label)}</li>' for label in labels)
    return "".join([*parts, f'</div><ul class="legend">{legend}</ul>'])


def _panel(title: str, curves: Sequence[Curve], colour: dict[str, str]) -> str:
    last = max(curve.places[-1] for curve in curves)
    most = max(MAX_BITS, *(bits for curve in curves for bits in curve.bits))

    def x(place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log2(place + 1) / max(math.log2(last + 1), 1)

    def y(bits: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - bits / most)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: bits by place">']
    parts.append(f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>')
    for bits in range(0, int(most) + 1, 2):
        parts.append(f'<path class="grid" d="M{LEFT} {y(bits):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(bits) + 4:.1f}" text-anchor="end">{bits}</text>')
    place = 1
    while place <= last:
        parts.append(f'<text x="{x(place):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{place}</text>')
        place *= 8
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">place in the chunk; bits of a byte</text>')
    for curve in curves:
        points = " ".join(f"{x(p):.1f},{y(b):.1f}" for p, b in zip(curve.places, curve.bits, strict=True))
        tip = f"{curve.codec}: {curve.bits[0]:.2f} bits at first, {curve.bits[-1]:.2f} from place {curve.places[-1]} on"
        parts.append(f'<polyline class="{colour[curve.codec]}" points="{points}"><title>{html(tip)}</title></polyline>')
    return "".join([*parts, "</svg>"])
