"""The figures of the paper's table as text, Markdown, CSV, JSON and a page.

What it is not: it measures nothing (`bench.paper.run`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

from kolmo.bench.paper import vocabularies
from kolmo.bench.paper.cells import Figure
from kolmo.bench.paper.continued import Exhibit
from kolmo.bench.paper.drawing import places
from kolmo.bench.paper.drawing.canvas import Canvas, png
from kolmo.bench.paper.drawing.panel import legend
from kolmo.bench.paper.facts import ModelFacts
from kolmo.bench.paper.positions import Curve
from kolmo.bench.paper.published import BRIDGES, MODELS, ROWS, SETS, carried_over
from kolmo.bench.paper.sizes import NOTE as SIZES_NOTE
from kolmo.bench.paper.sizes import SIZES, Weighed, draw, full_tables, short_tables
from kolmo.bench.paper.vocabularies import TokenPoint
from kolmo.bench.tables import text_table
from kolmo.foreign import csv_table, html, html_table, markdown_text, short
from kolmo.modalities.chunks import MODALITIES, ChunkSet

COLUMNS = (
    *("codec", "modality", "chunked", "mask", "raw", "packed", "rate", "adjusted_rate", "model_bytes", "compared"),
    *("encode_seconds", "decode_seconds"),
)
ASKS = (
    ("In chunks, all 8 bits", True, False),
    ("In chunks, 7 bits as the paper's models have them, scaled", True, True),
    ("Whole, all 8 bits", False, False),
    ("Whole, 7 bits, scaled", False, True),
)
NOTE = (
    "Packed bytes in percent of raw ones; of a classical compressor in chunks, the header counts once, of a model "
    "everything counts. Every chunk was unpacked and compared; WRONG marks one that differs. With 7 bits, bytes of "
    "pictures, sounds and random data lose their lowest bit, bytes of text above 127 their highest, for every "
    "compressor, so that the rows compare."
)
TITLES = {
    "places": "Bits of a byte by its place in the chunk",
    "sizes": "Adjusted rate by model size, a curve for each amount of data (dashed: more than was measured)",
    "vocabularies": "Rate of the text by vocabulary",
}
PUBLISHED_NOTE = (
    "As published (version 2; enwik9, ImageNet, LibriSpeech, random): classical compressors with 8 bits, models with 7 "
    "and scaled, no stream of a model decoded. Other data than above: compare ratios to gzip, LZMA2 or FLAC. Carried "
    "over: a published rate times this data's rate over the published data's of gzip and LZMA2 (and, but for text, "
    "torn PNG and FLAC), lowest and highest; compare it with rates of 7 bits."
)


@dataclass(frozen=True)
class PaperReport:
    """Figures of compressors on four kinds of data.

    Attributes:
        figures: in the order in which they were computed.
        curves: of predictors, bits by the place in the chunk.
        sets: the data.
        codecs: labels of the compressors, in the order of the tables.
        machine: in words.
        facts: of the models, by their labels.
        weighed: models with their bytes, for rates against model and data size.
        points: the text under vocabularies.
        continuations: what compressors made of beginnings; None: they were not asked.
    """

    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...]
    sets: tuple[ChunkSet, ...]
    codecs: tuple[str, ...]
    machine: str
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
    weighed: tuple[Weighed, ...] = ()
    points: tuple[TokenPoint, ...] = ()
    continuations: Exhibit | None = None

    def figure(self, codec: str, modality: str, *, chunked: bool, mask: bool = False) -> Figure | None:
        """A figure; None where there is none."""
        wanted = (codec, modality, chunked, mask)
        return next((f for f in self.figures if (f.codec, f.modality, f.chunked, f.mask) == wanted), None)

    @property
    def wrong(self) -> list[str]:
        """Compressors that did not give the content back, a line each."""
        lines = [f"{f.codec} on {f.modality}: what came back differs" for f in self.figures if not f.compared]
        tokens = (one for one in self.points if not one.compared and one.tokens)
        lines += [f"{p.coder} with {p.vocabulary:,} symbols: what came back differs" for p in tokens]
        return [*lines, *(self.continuations.wrong if self.continuations else [])]

    def tables(self) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
        """Title, head and rows of each table."""
        for title, chunked, mask in ASKS:
            rows = []
            for codec in self.codecs:
                cells = [self.figure(codec, one.modality, chunked=chunked, mask=mask) for one in self.sets]
                if any(cells):
                    rows.append([codec, *map(_rate, cells)])
            if rows:
                yield title, ("", *(one.modality for one in self.sets)), rows
        adjusted = []
        for codec in self.codecs:
            cells = [self.figure(codec, one.modality, chunked=True) for one in self.sets]
            if any(cell and cell.model_bytes for cell in cells):
                rates = [f"{100 * cell.adjusted:.1f}" if cell and cell.adjusted is not None else "" for cell in cells]
                adjusted.append([codec, *rates])
        if adjusted:
            yield "In chunks, the model counted as data, as it ships", ("", *(s.modality for s in self.sets)), adjusted
        if self.facts:
            yield "Models", ("", "parameters", "bytes as it ships", "trained on"), [*map(_model, self.facts.items())]
        if self.continuations and (costs := self.continuations.table()):
            yield costs

    def more_tables(self, *, full: bool) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
        """Rates against model and data size (not `full`: what is best alone), and against vocabularies."""
        yield from (full_tables if full else short_tables)(self.weighed)
        yield from vocabularies.tables(self.points)
        if carried := _carried_over(self):
            yield carried

    def drawings(self) -> dict[str, tuple[list[Canvas], list[tuple[str, str]]]]:
        """Panels and legends of the figures, by name."""
        measured = {one.modality: one.size for one in self.sets}
        found = {
            "places": places.draw(self.curves),
            "sizes": draw(self.weighed, measured),
            "vocabularies": vocabularies.draw(self.points, self.facts),
        }
        return {name: drawing for name, drawing in found.items() if drawing[0]}

    def pictures(self) -> dict[str, bytes]:
        """The figures as PNG, by the names of their files.

        Raises:
            MissingExtraError: Pillow is not installed.
        """
        drawings = self.drawings().items()
        return {f"{name}.png": png([*panels, legend(labels)]) for name, (panels, labels) in drawings}

    def text(self) -> str:
        """Tables for a terminal."""
        parts = []
        for title, head, rows in [*self.tables(), *self.more_tables(full=False), _published()]:
            parts.append(text_table(title, head, rows))
        notes = [textwrap.fill(note, 79) for note in self.notes()]
        return "\n\n".join([*parts[:-1], *notes, parts[-1]])

    def markdown(self) -> str:
        """Tables in Markdown."""
        parts = ["# Language modeling is compression, on this data\n", _data(self.sets) + "\n"]
        for title, head, rows in [*self.tables(), *self.more_tables(full=True), _published()]:
            cells = [head, ["---", *["---:"] * (len(head) - 1)], *([*map(markdown_text, row)] for row in rows)]
            parts.append(f"## {title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n")
        if self.continuations:
            parts.append(self.continuations.markdown())
        parts += [
            NOTE + "\n",
            *(note + "\n" for note in self.notes()),
            PUBLISHED_NOTE + "\n",
            markdown_text(self.machine) + ".\n",
        ]
        return "\n".join(parts)

    def notes(self) -> list[str]:
        """What to know of `more_tables`."""
        return [*([SIZES_NOTE] if self.weighed else []), *([vocabularies.NOTE] if self.points else [])]

    def csv(self) -> str:
        """A row for each figure."""
        return csv_table([COLUMNS, *([row[name] for name in COLUMNS] for row in map(_row, self.figures))])

    def files(self) -> dict[str, bytes]:
        """All reports by the names of their files; figures in PNG where Pillow is installed."""
        sizes: list[Sequence[object]] = [
            ("codec", "modality", "counting", "model_bytes", "rate", "raw_bytes", "adjusted_rate")
        ]
        sizes += [
            (w.codec, w.modality, w.counting, w.model_bytes, round(w.rate, 6), raw, round(w.adjusted(raw), 6))
            for w in self.weighed
            for raw in SIZES
        ]
        points = [one.record() for one in self.points]
        texts = {"table.md": self.markdown(), "figures.csv": self.csv(), "report.html": self.html()}
        if self.weighed:
            texts["sizes.csv"] = csv_table(sizes)
        if points:
            texts["vocabularies.csv"] = csv_table([list(points[0]), *(list(one.values()) for one in points)])
        found = {name: text.encode() for name, text in texts.items()}
        return found | (self.pictures() if find_spec("PIL") else {})

    def record(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "machine": self.machine,
            "data": [
                {
                    "modality": one.modality,
                    "source": one.source,
                    "chunks": len(one.chunks),
                    "bytes": one.size,
                    "digest": one.digest,
                }
                for one in self.sets
            ],
            "figures": list(map(_row, self.figures)),
            "places": [one.record() for one in self.curves],
            "models": [
                {"codec": label, "two_bytes": facts.two_bytes, **asdict(facts)} for label, facts in self.facts.items()
            ],
            "sizes": [one.record() for one in self.weighed],
            "vocabularies": [one.record() for one in self.points],
            "published": [
                {"codec": row.codec, "chunked": row.chunked, **dict(zip(MODALITIES, row.rates, strict=True))}
                for row in ROWS
            ],
            **({"continuations": self.continuations.made.record()} if self.continuations else {}),
        }

    def html(self) -> str:
        """A page that needs no other file."""
        from pathlib import Path

        from kolmo.page_frame import head, tail

        title = "Language modeling is compression, on this data"
        style = Path(__file__).parent.with_name("bench.css").read_text("utf-8")
        parts = [
            *head(title, style, "", images=True, sounds=True),
            f"<h1>{title}</h1>\n<p>{html(_data(self.sets))}</p>\n",
        ]
        parts += [html_table(name, heads, rows) for name, heads, rows in self.tables()]
        parts.append(f"<p>{html(NOTE)}</p>\n")
        parts += [html_table(name, heads, rows) for name, heads, rows in self.more_tables(full=True)]
        parts += [f"<p>{html(note)}</p>\n" for note in self.notes()]
        parts += [_figure(TITLES[name], *drawing) for name, drawing in self.drawings().items()]
        if self.continuations:
            parts.append(self.continuations.html())
        parts += [html_table(*_published()), f"<p>{html(PUBLISHED_NOTE)}</p>\n<p>{html(self.machine)}.</p>\n"]
        return "".join([*parts, tail()])


def _model(entry: tuple[str, ModelFacts]) -> list[str]:
    label, facts = entry
    numbers = ["" if number is None else f"{number:,}" for number in (facts.parameters, facts.shipped)]
    return [label, *numbers, facts.training]


def _figure(title: str, panels: Sequence[Canvas], labels: Sequence[tuple[str, str]]) -> str:
    drawn = "".join(panel.svg() for panel in panels)
    named = "".join(f'<li><i class="{colour}"></i>{html(label)}</li>' for label, colour in labels)
    return f'<h2>{html(title)}</h2>\n<div class="panels">{drawn}</div><ul class="legend">{named}</ul>\n'


def _data(sets: Sequence[ChunkSet]) -> str:
    return "Data: " + "; ".join(
        f"{one.modality}, {len(one.chunks)} chunks, {one.size:,} bytes ({short(one.source)})" for one in sets
    )


def _rate(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure.rate:.1f}" if figure.compared else "WRONG"


def _carried_over(report: PaperReport) -> tuple[str, Sequence[str], list[list[str]]] | None:
    """The published models on this data, as far as compressors that both know can tell."""
    columns = [one.modality for one in report.sets if one.modality in BRIDGES]
    rows = []
    for row in MODELS:
        cells = []
        for modality in columns:
            known = ((name, report.figure(name, modality, chunked=True)) for name in BRIDGES[modality])
            rates = {name: 100 * found.rate for name, found in known if found and found.compared}
            span = carried_over(row, modality, rates)
            cells.append("" if span is None else f"{span[0]:.1f}" + ("" if len(rates) == 1 else f" to {span[1]:.1f}"))
        if any(cells):
            rows.append([row.codec, *cells])
    return ("Published models, carried over to this data", ("", *columns), rows) if rows else None


def _published() -> tuple[str, Sequence[str], list[list[str]]]:
    rows = [[f"{row.codec}{'' if row.chunked else ', whole'}", *(f"{rate:.1f}" for rate in row.rates)] for row in ROWS]
    return "Published, on other data", ("", *(SETS[name] for name in MODALITIES)), rows


def _row(figure: Figure) -> dict[str, Any]:
    adjusted = figure.adjusted
    return {
        **figure.record(),
        "packed": round(figure.packed, 3),
        "rate": round(figure.rate, 6),
        "adjusted_rate": None if adjusted is None else round(adjusted, 6),
        "encode_seconds": round(figure.encode_seconds, 4),
        "decode_seconds": round(figure.decode_seconds, 4),
    }
