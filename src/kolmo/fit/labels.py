"""Where names of points go in a picture, so that they cover neither each other nor the points.

Each name tries places around its point, near ones first, and takes the cheapest; then all try again, given the others,
until none moves or the rounds are used up. Point labels are a hard problem, and this is a greedy answer to it: good for
tens of names.
What it is not: it draws nothing and knows no fonts; lengths are in any one unit, y upwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ANGLES = 16
GAPS = (0.65, 1.3, 2.0, 3.0, 4.2)  # between point and name, in heights of a name
ROUNDS = 8
OUTSIDE, NAMES, THINGS = 60.0, 25.0, 12.0  # cost of covering a square of a name's height: frame, names, anything else
FAR = 1.0  # cost of a gap of one height
UNCLEAR = 2.0  # cost of touching another point; less where that is further off, none once it is further than one's own
CLEAR = 1.6  # a point is further off than one's own when it is so many times as far
STEEP = 0.3  # cost of a place above or below in place of one beside


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def distance(self, x: float, y: float) -> float:
        """From a point to the nearest of it."""
        return math.hypot(max(self.left - x, x - self.right, 0.0), max(self.bottom - y, y - self.top, 0.0))

    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True)
class Label:
    """A name to be placed: its point, and its size."""

    x: float
    y: float
    width: float
    height: float


def place(labels: Sequence[Label], obstacles: Sequence[Box], frame: Box) -> list[Box]:
    """A place for each name.

    Args:
        labels: the names.
        obstacles: what they should not cover: marks, lines, legends.
        frame: which they should not leave.
    """
    choices = [_choices(label, labels, obstacles, frame) for label in labels]
    placed = [min(options, key=lambda option: option[0])[1] for options in choices]
    for _ in range(ROUNDS):
        moved = False
        for i, options in enumerate(choices):
            others = placed[:i] + placed[i + 1 :]
            unit = labels[i].height ** 2
            best = min(
                options,
                key=lambda o: o[0] + NAMES * sum(o[1].shared(other) for other in others) / unit,
            )[1]
            moved = moved or best != placed[i]
            placed[i] = best
        if not moved:
            break
    return placed


def _choices(label: Label, labels: Sequence[Label], obstacles: Sequence[Box], frame: Box) -> list[tuple[float, Box]]:
    """Places for a name, each with its cost while no other name is there."""
    unit = label.height**2
    others = [other for other in labels if math.hypot(other.x - label.x, other.y - label.y) > label.height]
    choices = []
    for gap in GAPS:
        for step in range(ANGLES):
            angle = 2 * math.pi * step / ANGLES
            right, up = math.cos(angle), math.sin(angle)
            distance = gap * label.height
            x = label.x + right * (label.width / 2 + distance)
            y = label.y + up * (label.height / 2 + distance)
            box = Box(x - label.width / 2, y - label.height / 2, x + label.width / 2, y + label.height / 2)
            cost = FAR * gap + STEEP * abs(up)
            cost += OUTSIDE * (box.area() - box.shared(frame)) / unit
            cost += THINGS * sum(box.shared(obstacle) for obstacle in obstacles) / unit
            own = CLEAR * box.distance(label.x, label.y)
            cost += UNCLEAR * sum(max(0.0, 1 - box.distance(other.x, other.y) / own) for other in others)
            choices.append((cost, box))
    return choices
