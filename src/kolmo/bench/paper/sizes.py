"""Rate against model and data size: the U of Deletang et al. (2024), figure 2, with three ways to count a model.

    adjusted(D) = rate + model bytes / D        for D raw bytes

The rate is measured in chunks, each from a fresh state, so it does not depend on how much data there is; for more data
than was measured it is assumed to stay. With little data a small model is best, or none; with more data larger ones.

A model is counted (a) at 2 bytes a parameter, as the paper counts, (b) as it ships, (c) as small weights: what
`kolmo.shrink` makes of it, with the rate of the shrunk model, which was measured too. Networks of kolmo's own ship as
small weights.

What it is not: a measurement (`bench.paper.cells`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kolmo.bench.paper.cells import Figure
from kolmo.bench.paper.drawing.canvas import Canvas
from kolmo.bench.paper.drawing.panel import Panel, Series, logarithmic
from kolmo.bench.paper.facts import ModelFacts

TWO_BYTES, SHIPPED, SHRUNK = "at 2 bytes a parameter", "as it ships", "as small weights"
COUNTINGS = (TWO_BYTES, SHIPPED, SHRUNK)
SIZES = tuple(10**k for k in range(4, 10))  # raw bytes
POWERS = {10**k: f"10^{k}" for k in range(3, 12)}
NO_MODEL = "no model"
MOST = 1.3  # adjusted rate above which nothing is drawn
NOTHING = 4.0  # no model is drawn where one would be that is so many times smaller than the smallest
NOTE = (
    "Adjusted rate: (packed bytes + model bytes) / raw bytes, in chunks, all 8 bits. The rate is that of the chunks "
    "that were measured; for more data it is extrapolated: the rate is assumed to stay, and only the model's share "
    "changes. * marks the best at each amount. Small weights: as kolmo shrink makes them by default, with the rate of "
    "the shrunk model; kolmo's own networks ship so, and are not listed again where there are no others."
)


@dataclass(frozen=True)
class Weighed:
    """A model on a kind of data, its bytes counted in one way.

    Attributes:
        codec: label of the model, or of a classical compressor.
        modality: of the data.
        counting: of `COUNTINGS`, or `NO_MODEL`.
        model_bytes: of the model.
        rate: packed bytes for each raw byte.
    """

    codec: str
    modality: str
    counting: str
    model_bytes: int
    rate: float

    def adjusted(self, raw: int) -> float:
        """The rate with the model's share of so many raw bytes.

        >>> Weighed("a", "text", SHIPPED, 500, 0.25).adjusted(1000)
        0.75
        """
        return self.rate + self.model_bytes / raw

    def record(self) -> dict[str, Any]:
        """For JSON."""
        adjusted = {str(size): round(self.adjusted(size), 6) for size in SIZES}
        return {**asdict(self), "rate": round(self.rate, 6), "adjusted": adjusted}


def weigh(figures: Sequence[Figure], facts: Mapping[str, ModelFacts], shrunk: Mapping[str, str]) -> list[Weighed]:
    """All models under all countings that are known, and the classical compressor that is best on each kind of data.

    Args:
        figures: all that were measured.
        facts: of models, by their labels.
        shrunk: label of the shrunk model, by that of the model.
    """
    found = []
    chunked = [one for one in figures if one.chunked and not one.mask and one.compared and one.modality != "random"]
    by_place = {(one.codec, one.modality): one for one in chunked}
    for modality in dict.fromkeys(one.modality for one in chunked):
        plain = [one for one in chunked if one.modality == modality and one.codec not in facts]
        if plain:
            best = min(plain, key=lambda one: one.rate)
            found.append(Weighed(best.codec, modality, NO_MODEL, 0, best.rate))
    for one in chunked:
        if one.codec not in facts or one.codec in shrunk.values():
            continue
        fact, small = facts[one.codec], shrunk.get(one.codec, "")
        if fact.two_bytes is not None:
            found.append(Weighed(one.codec, one.modality, TWO_BYTES, fact.two_bytes, one.rate))
        if fact.shipped is not None:
            found.append(Weighed(one.codec, one.modality, SHIPPED, fact.shipped, one.rate))
        if fact.small and fact.shipped is not None:
            found.append(Weighed(one.codec, one.modality, SHRUNK, fact.shipped, one.rate))
        other = by_place.get((small, one.modality))
        if other is not None and other.model_bytes is not None:
            found.append(Weighed(one.codec, one.modality, SHRUNK, other.model_bytes, other.rate))
    return found


def optimum(weighed: Sequence[Weighed], raw: int) -> Weighed:
    """The one with the lowest adjusted rate for so many raw bytes; of equal ones the smaller model."""
    return min(weighed, key=lambda one: (one.adjusted(raw), one.model_bytes))


def groups(weighed: Sequence[Weighed]) -> Iterator[tuple[str, str, list[Weighed]]]:
    """(modality, counting, entries by the model's size): those to compare, the classical compressor among them."""
    for modality in dict.fromkeys(one.modality for one in weighed):
        plain = [one for one in weighed if one.modality == modality and one.counting == NO_MODEL]
        for counting in COUNTINGS:
            entries = [one for one in weighed if one.modality == modality and one.counting == counting]
            shipped = [
                (one.model_bytes, one.rate) for one in weighed if one.modality == modality and one.counting == SHIPPED
            ]
            if counting == SHRUNK and sorted(shipped) == sorted((one.model_bytes, one.rate) for one in entries):
                continue  # nothing but networks that ship so
            if entries:
                yield modality, counting, [*plain, *sorted(entries, key=lambda one: one.model_bytes)]


def best_of_each_size(weighed: Sequence[Weighed]) -> list[Weighed]:
    """Of models of equal bytes the one with the lowest rate, in order of bytes."""
    ordered = sorted(weighed, key=lambda one: (one.model_bytes, one.rate))
    return list({one.model_bytes: one for one in reversed(ordered)}.values())[::-1]


def full_tables(weighed: Sequence[Weighed]) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, head and rows of a table for each kind of data and counting."""
    for modality, counting, entries in groups(weighed):
        best = {size: optimum(entries, size) for size in SIZES}
        rows = [
            [
                one.codec,
                f"{one.model_bytes:,}",
                f"{100 * one.rate:.1f}",
                *(f"{_percent(one.adjusted(size))}{'*' if best[size] is one else ''}" for size in SIZES),
            ]
            for one in entries
        ]
        head = ("", "model bytes", "rate", *(f"{POWERS[size]} bytes" for size in SIZES))
        yield f"Adjusted rate of {modality}, a model counted {counting}", head, rows


def short_tables(weighed: Sequence[Weighed]) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
    """For a terminal: what is best for each amount of data; a table for each counting, a column for each kind."""
    found = list(groups(weighed))
    for counting in COUNTINGS:
        columns = [(modality, entries) for modality, way, entries in found if way == counting]
        if not columns:
            continue
        rows = []
        for size in SIZES:
            best = [optimum(entries, size) for _, entries in columns]
            rows.append([POWERS[size], *(f"{one.codec} {_percent(one.adjusted(size))}" for one in best)])
        yield f"Best adjusted rate by raw bytes, a model counted {counting}", ("", *(name for name, _ in columns)), rows


def draw(weighed: Sequence[Weighed], measured: Mapping[str, int]) -> tuple[list[Canvas], list[tuple[str, str]]]:
    """Panels, one for each kind of data and counting, and the legend (label, colour).

    Args:
        weighed: see `weigh`.
        measured: raw bytes that were measured, by modality; curves of more data are dashed.
    """
    colours = {size: f"c{k}" for k, size in enumerate(SIZES)}
    panels = []
    for modality, counting, entries in groups(weighed):
        entries = best_of_each_size(entries)
        models = [one for one in entries if one.model_bytes > 0]
        if len({one.model_bytes for one in models}) < 2:
            continue
        first, last = models[0].model_bytes, models[-1].model_bytes
        none = first / NOTHING  # where no model is drawn
        ticks = [(float(power), word) for power, word in POWERS.items() if first / 2 <= power <= last * 2]
        if len(entries) > len(models):
            ticks.insert(0, (none, "none"))
        y_ticks = [(k / 4, f"{25 * k} %") for k in range(6)]
        panel = Panel(f"{modality}, model {counting}", "model bytes", ticks, y_ticks, logarithmic, MOST)
        for size in SIZES:
            points = tuple((one.model_bytes or none, one.adjusted(size)) for one in entries)
            lowest = min(range(len(points)), key=lambda k: points[k][1])
            marked = (lowest,) if points[lowest][1] < MOST else ()
            label = f"{POWERS[size]} raw bytes"
            panel.series.append((Series(label, points, size > measured.get(modality, 0), marked), colours[size]))
        panels.append(panel.draw())
    return panels, [(f"{POWERS[size]} raw bytes", colours[size]) for size in SIZES]


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}" if rate < 100 else f"{100 * rate:,.0f}"
