"""The figures of the paper's table as text, Markdown, CSV, JSON and a page.

What it is not: it measures nothing (`bench.paper.run`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kolmo.bench.paper.cells import Figure
from kolmo.bench.paper.continued import Exhibit
from kolmo.bench.paper.figure import panels
from kolmo.bench.paper.positions import Curve
from kolmo.bench.paper.published import ROWS, SETS
from kolmo.foreign import csv_table, html_table, markdown_text, short
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
PUBLISHED_NOTE = (
    "As published (version 2; enwik9, ImageNet, LibriSpeech, random): classical compressors with 8 bits, models with 7 "
    "and scaled, no stream of a model decoded. Other data than above: compare ratios to gzip, LZMA2 or FLAC."
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
        continuations: what compressors made of beginnings; None: they were not asked.
    """

    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...]
    sets: tuple[ChunkSet, ...]
    codecs: tuple[str, ...]
    machine: str
    continuations: Exhibit | None = None

    def figure(self, codec: str, modality: str, *, chunked: bool, mask: bool = False) -> Figure | None:
        """A figure; None where there is none."""
        wanted = (codec, modality, chunked, mask)
        return next((f for f in self.figures if (f.codec, f.modality, f.chunked, f.mask) == wanted), None)

    @property
    def wrong(self) -> list[str]:
        """Compressors that did not give the content back, a line each."""
        lines = [f"{f.codec} on {f.modality}: what came back differs" for f in self.figures if not f.compared]
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
        if self.continuations and (costs := self.continuations.table()):
            yield costs

    def text(self) -> str:
        """Tables for a terminal."""
        parts = []
        for title, head, rows in [*self.tables(), _published()]:
            widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
            lines = [
                "  ".join(
                    cell.ljust(width) if k == 0 else cell.rjust(width)
                    for k, (cell, width) in enumerate(zip(row, widths, strict=True))
                ).rstrip()
                for row in [list(head), *rows]
            ]
            parts.append("\n".join([title, *lines]))
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """Tables in Markdown."""
        parts = ["# Language modeling is compression, on this data\n", _data(self.sets) + "\n"]
        for title, head, rows in [*self.tables(), _published()]:
            cells = [head, ["---", *["---:"] * (len(head) - 1)], *([*map(markdown_text, row)] for row in rows)]
            parts.append(f"## {title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n")
        if self.continuations:
            parts.append(self.continuations.markdown())
        parts += [NOTE + "\n", PUBLISHED_NOTE + "\n", markdown_text(self.machine) + ".\n"]
        return "\n".join(parts)

    def csv(self) -> str:
        """A row for each figure."""
        return csv_table([COLUMNS, *([row[name] for name in COLUMNS] for row in map(_row, self.figures))])

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
            "published": [
                {"codec": row.codec, "chunked": row.chunked, **dict(zip(MODALITIES, row.rates, strict=True))}
                for row in ROWS
            ],
            **({"continuations": self.continuations.made.record()} if self.continuations else {}),
        }

    def html(self) -> str:
        """A page that needs no other file."""
        from pathlib import Path

        from kolmo.foreign import html as escaped
        from kolmo.page_frame import head, tail

        title = "Language modeling is compression, on this data"
        style = Path(__file__).parent.with_name("bench.css").read_text("utf-8")
        parts = [
            *head(title, style, "", images=True, sounds=True),
            f"<h1>{title}</h1>\n<p>{escaped(_data(self.sets))}</p>\n",
        ]
        parts += [html_table(name, heads, rows) for name, heads, rows in self.tables()]
        parts.append(f"<p>{escaped(NOTE)}</p>\n")
        if self.curves:
            parts.append(f"<h2>Bits of a byte by its place in the chunk</h2>\n{panels(self.curves)}\n")
        if self.continuations:
            parts.append(self.continuations.html())
        parts += [html_table(*_published()), f"<p>{escaped(PUBLISHED_NOTE)}</p>\n<p>{escaped(self.machine)}.</p>\n"]
        return "".join([*parts, tail()])


def _data(sets: Sequence[ChunkSet]) -> str:
    return "Data: " + "; ".join(
        f"{one.modality}, {len(one.chunks)} chunks, {one.size:,} bytes ({short(one.source)})" for one in sets
    )


def _rate(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure.rate:.1f}" if figure.compared else "WRONG"


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
