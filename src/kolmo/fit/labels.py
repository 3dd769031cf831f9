"""Placement of point labels in a figure, so that they cover neither each other nor the points.

Each label has candidate positions around its point, and takes the one with the lowest cost. Then all labels choose
again, given the positions of the others, until none moves or the rounds are used up. Optimal placement is NP-hard;
this greedy method works for tens of labels.
What it is not: it does not draw or measure text; lengths are in any one unit, and y increases upwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ANGLES = 16  # directions of the candidate positions
GAPS = (0.65, 1.3, 2.0, 3.0, 4.2)  # distances between point and label, in heights of the label
MAX_ROUNDS = 8
OUTSIDE_COST = 60.0  # cost of lying outside of the frame, for an area of the squared height of a label
LABEL_COST = 25.0  # cost of covering another label, for the same area
OBSTACLE_COST = 12.0  # cost of covering an obstacle, for the same area
GAP_COST = 1.0  # cost of a gap of one height
AMBIGUITY_COST = 2.0  # cost of touching another point; it falls to 0 linearly with the distance of that point
AMBIGUITY_FACTOR = 1.6  # distance at which it is 0, as a multiple of the distance to the label's own point
VERTICAL_COST = 0.3  # cost of a position above or below the point


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area of the intersection."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def distance(self, x: float, y: float) -> float:
        """The distance from a point to the rectangle."""
        return math.hypot(max(self.left - x, x - self.right, 0.0), max(self.bottom - y, y - self.top, 0.0))

    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True)
class Label:
    """A label to be placed: its point and its size."""

    x: float
    y: float
    width: float
    height: float


def place(labels: Sequence[Label], obstacles: Sequence[Box], frame: Box) -> list[Box]:
    """Choose a position for each label.

    Args:
        labels: the labels.
        obstacles: rectangles that they should not cover: markers, lines, legends.
        frame: the rectangle that they should not leave.

    Returns:
        the rectangle of each label.
    """
    choices = [_choices(label, labels, obstacles, frame) for label in labels]
    placed = [min(options, key=lambda option: option[0])[1] for options in choices]
    for _ in range(MAX_ROUNDS):
        moved = False
        for i, options in enumerate(choices):
            others = placed[:i] + placed[i + 1 :]
            unit = labels[i].height ** 2
            best = min(
                options,
                key=lambda o: o[0] + LABEL_COST * sum(o[1].shared(other) for other in others) / unit,
            )[1]
            moved = moved or best != placed[i]
            placed[i] = best
        if not moved:
            break
    return placed


def _choices(label: Label, labels: Sequence[Label], obstacles: Sequence[Box], frame: Box) -> list[tuple[float, Box]]:
    """Candidate positions for a label, each with its cost without the other labels."""
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
            cost = GAP_COST * gap + VERTICAL_COST * abs(up)
            cost += OUTSIDE_COST * (box.area() - box.shared(frame)) / unit
            cost += OBSTACLE_COST * sum(box.shared(obstacle) for obstacle in obstacles) / unit
            own = AMBIGUITY_FACTOR * box.distance(label.x, label.y)
            cost += AMBIGUITY_COST * sum(max(0.0, 1 - box.distance(other.x, other.y) / own) for other in others)
            choices.append((cost, box))
    return choices
