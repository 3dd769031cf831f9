"""The documents that a leaderboard shows: their texts, and the cost of each token under each model.

From each corpus the documents are chosen on which models differ most per character, and some typical ones, whose cost
is nearest to the median. The data for the page's script is packed:

    bits     hundredths of bits, 16 bits each, little-endian, in base64; 65535: not scored
    lengths  UTF-16 units of text of each token, 8 bits each; `wide`: 16 bits; left out if all are 1

A token that ends within a character is merged with the next one, as are special tokens, which have no text.

What it is not: it chooses no colours, and the tables do not need it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kolmo.bits import bits_per, to_bits
from kolmo.evaluation.results.results import Result
from kolmo.evaluation.results.rows import Row

if TYPE_CHECKING:
    from kolmo.report.board.contents import Board
    from kolmo.report.board.results import CorpusVersion
    from kolmo.report.board.sections import Entry, Section

DIFFERING_SHARE = 2 / 3  # of the shown documents are those on which models differ; the others are typical
SHORT_DOCUMENT_CHARACTERS = 200  # a single word decides the cost of shorter documents
UNSCORED = 65535
MIN_SHOWN_BYTES = 4096  # of each text are shown, even if many texts share the limit

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass
class ChosenDocuments:
    """The chosen documents of one version of a corpus.

    Attributes:
        column: the corpus.
        places: indices of the documents in the corpus.
        rows: rows of one model, with texts if a table contains them.
        sizes: number of UTF-16 units shown of each text.
    """

    column: CorpusVersion
    places: list[int]
    rows: list[Row]
    sizes: list[int]


def payload(board: Board) -> dict[str, Any] | None:
    """The data for the page's script; None if there are no documents to show."""
    sections = [one for one in board.sections if one.measure == "bits_per_character"]
    chosen = _choose(sections, board.documents)
    _cut(chosen, board.limit)
    found = [record for section in sections if (record := _section(section, chosen))]
    if not found:
        return None
    return {"corpora": [_corpus(one) for one in chosen], "sections": found}


# Which documents


def _choose(sections: Sequence[Section], count: int) -> list[ChosenDocuments]:
    chosen: dict[tuple[str, str], ChosenDocuments] = {}
    for section in sections:
        for column in section.columns:
            if count and (column.name, column.digest) not in chosen:
                found = _documents(section, column, count)
                if found:
                    chosen[column.name, column.digest] = found
    return list(chosen.values())


def _documents(section: Section, column: CorpusVersion, count: int) -> ChosenDocuments | None:
    entries = _with_tables(section.measured, column)
    if not entries:
        return None
    asked = [(entry, columns) for entry, columns in entries if not entry.reference]
    compared = [columns for _, columns in (asked if len(asked) > 1 else entries)]
    characters = np.maximum(compared[0]["characters"], 1)
    costs = to_bits(np.stack([columns["nats"] for columns in compared])) / characters
    places = pick(costs, characters, count)
    rows: dict[int, Row] = {}
    for entry, _ in entries:  # until a table contains the texts
        for place, row in _rows(entry.cells[column.name].result, places, content=True):
            if place not in rows or rows[place].content is None:
                rows[place] = row
        if all(place in rows and rows[place].content is not None for place in places):
            break
    there = [place for place in places if place in rows]
    return ChosenDocuments(column, there, [rows[place] for place in there], [0] * len(there))


def pick(costs: Floats, characters: Integers, count: int) -> list[int]:
    """Indices of documents: those whose costs differ most, then typical ones.

    Args:
        costs: bits per character, shape (models, documents).
        characters: number of characters, shape (documents,).
        count: maximum number of documents.
    """
    long = characters >= min(SHORT_DOCUMENT_CHARACTERS, float(np.median(characters)))
    spread = np.where(long, costs.max(axis=0) - costs.min(axis=0) if len(costs) > 1 else costs[0], -1.0)
    order = np.argsort(-spread, kind="stable").tolist()
    differing = order[: -int(-count * DIFFERING_SHARE // 1)]
    mean = costs.mean(axis=0)
    distance = np.where(long, np.abs(mean - np.median(mean[long])), np.inf)
    typical = [place for place in np.argsort(distance, kind="stable").tolist() if place not in differing]
    return [*differing, *typical[: count - len(differing)]]


def _with_tables(entries: Iterable[Entry], column: CorpusVersion) -> list[tuple[Entry, Mapping[str, Any]]]:
    """The entries that were evaluated on this version, with the columns of their tables."""
    found: list[tuple[Entry, Mapping[str, Any]]] = []
    for entry in entries:
        cell = entry.cells.get(column.name)
        if cell is not None and cell.current and cell.result is not None:
            try:
                columns = cell.result.columns()
            except FileNotFoundError:
                continue
            if len(columns["nats"]) == column.documents and column.documents:
                found.append((entry, columns))
    return found


def _rows(result: Result | None, places: Sequence[int], *, content: bool) -> Iterable[tuple[int, Row]]:
    wanted = set(places)
    if result is None:
        return
    for place, row in enumerate(result.rows(content=content)):
        if place in wanted:
            yield place, row
            wanted.remove(place)
            if not wanted:
                return


# How much of them


def _cut(chosen: Sequence[ChosenDocuments], limit: int) -> None:
    """Share the limit: short texts are shown whole, long ones share the rest."""
    texts = sorted(
        (len((row.content or "").encode()), which, k)
        for which, one in enumerate(chosen)
        for k, row in enumerate(one.rows)
        if row.content is not None
    )
    for n, (size, which, k) in enumerate(texts):
        share = max(limit // (len(texts) - n), min(MIN_SHOWN_BYTES, limit))
        taken = min(size, share)
        content = chosen[which].rows[k].content or ""
        shown = content if taken == size else content.encode()[:taken].decode("utf-8", "ignore")
        chosen[which].sizes[k] = _units(shown)
        limit -= len(shown.encode())


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


# Data for the page


def _corpus(one: ChosenDocuments) -> dict[str, Any]:
    documents = []
    for place, row, size in zip(one.places, one.rows, one.sizes, strict=True):
        text = None if row.content is None else row.content.encode("utf-16-le")[: 2 * size].decode("utf-16-le")
        about = " · ".join(part for part in (row.subset, row.date) if part)
        record = {"name": row.name or f"document {place + 1}", "about": about, "characters": row.characters}
        documents.append({**record, "text": text, "cut": text is not None and len(text) < row.characters})
    return {"name": one.column.name, "all": one.column.documents, "documents": documents}


def _section(section: Section, chosen: Sequence[ChosenDocuments]) -> dict[str, Any] | None:
    """Costs of the documents: lists over corpora of lists over entries of lists over documents."""
    costs = []
    for one in chosen:
        here = [column for column in section.columns if (column.name, column.digest) == _version(one)]
        costs.append([_costs(entry, one) if here else None for entry in section.measured])
    if not any(found for corpus in costs for found in corpus):
        return None
    return {"title": section.title, "models": _short([entry.name for entry in section.measured]), "costs": costs}


def _short(names: Sequence[str]) -> list[str]:
    """Names without organisations, if they are still unique."""
    bare = [name.rstrip("/").rpartition("/")[2] or name for name in names]
    return [short if bare.count(short) == 1 else name for short, name in zip(bare, names, strict=True)]


def _version(one: ChosenDocuments) -> tuple[str, str]:
    return one.column.name, one.column.digest


def _costs(entry: Entry, one: ChosenDocuments) -> list[Any] | None:
    cell = entry.cells.get(one.column.name)
    if cell is None or not cell.current:
        return None
    found: list[Any] = [None] * len(one.places)
    try:
        for place, row in _rows(cell.result, one.places, content=False):
            k = one.places.index(place)
            found[k] = _document(row, one.rows[k], one.sizes[k])
    except FileNotFoundError:
        return None
    return found


def _document(row: Row, shown: Row, size: int) -> dict[str, Any]:
    """Bits per character of a document, and costs of its tokens if there are several and the text is known."""
    record: dict[str, Any] = {"bpc": round(bits_per(max(row.characters, 1), row.nats), 4)}
    if shown.content is None or len(row.token_nats) < 2:
        return record
    lengths, bits = pieces(shown.content, row.token_bytes, row.token_nats)
    ends = np.minimum(np.cumsum(lengths), size)
    lengths = np.diff(ends, prepend=0)
    bits, lengths = bits[lengths > 0], lengths[lengths > 0]
    hundredths = np.where(np.isnan(bits), UNSCORED, np.minimum(np.rint(100 * np.nan_to_num(bits)), UNSCORED - 1))
    record["bits"] = _packed(hundredths)
    if (lengths > 255).any():
        record["wide"] = _packed(np.minimum(lengths, UNSCORED))
    elif (lengths > 1).any():
        record["lengths"] = _packed(lengths, "u1")
    return record


def pieces(text: str, token_bytes: npt.NDArray[np.int32], nats: npt.NDArray[np.float32]) -> tuple[Integers, Floats]:
    """Cut a text into pieces of whole characters along its tokens.

    Args:
        text: the text.
        token_bytes: number of bytes of each token, shape (tokens,).
        nats: cost of each token in nats, shape (tokens,); NaN if it was not scored.

    Returns:
        number of UTF-16 units and bits of each piece; NaN bits if none of its tokens was scored. The units sum to those
        of the text.
    """
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    units = np.concatenate([[0], np.cumsum(1 + (points >= 0x10000).astype(np.int64))])
    ends = np.cumsum(token_bytes.astype(np.int64))
    reached = units[np.searchsorted(np.cumsum(sizes), ends, side="right")]
    lengths = np.diff(reached, prepend=0)
    real = np.flatnonzero(lengths > 0)
    if not len(real):
        return np.array([units[-1]], np.int64), np.array([np.nan])
    group = np.minimum(np.searchsorted(real, np.arange(len(lengths))), len(real) - 1)
    scored = ~np.isnan(nats)
    bits: Floats = np.bincount(group, to_bits(np.where(scored, nats, 0.0)), len(real)).astype(np.float64)
    bits[np.bincount(group, scored, len(real)) == 0] = np.nan
    lengths = lengths[real]
    rest = int(units[-1] - lengths.sum())
    if rest:  # text that is not covered by a token
        lengths, bits = np.append(lengths, rest), np.append(bits, np.nan)
    return lengths.astype(np.int64), bits


def _packed(values: npt.ArrayLike, kind: str = "<u2") -> str:
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()
