"""All figures of the paper's table on given data: computed one by one, stored at once, and not computed again.

    report = kolmo.bench.paper.run.bench_paper(output="runs/paper")
    print(report.markdown())

What it is not: the rules by which bytes are counted (`bench.paper.cells`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

from kolmo.bench.files import machine
from kolmo.bench.paper import vocabularies
from kolmo.bench.paper.cells import Ask, Figure, key_of, measure
from kolmo.bench.paper.codecs import Codec, Predicted, classical, codecs_of
from kolmo.bench.paper.positions import Curve, curve
from kolmo.bench.paper.report import PaperReport
from kolmo.bench.paper.shrinking import Shrink, with_shrunk
from kolmo.bench.paper.sizes import weigh
from kolmo.bench.paper.vocabularies import TokenPoint, with_models
from kolmo.errors import KolmoError
from kolmo.modalities.chunks import (
    CHUNK_BYTES,
    DEFAULT_SEED,
    MODALITIES,
    ChunkSet,
    audio_chunks,
    image_chunks,
    parted,
    random_chunks,
    text_chunks,
)
from kolmo.progress import Phases, Progress, no_phases

SAMPLES = Path(__file__).parents[2] / "modalities" / "samples"
STORE = "figures.jsonl"
DEFAULT_CHUNKS = 64
DEFAULT_MODELS = ("cm:1", "cm:4", "neural:5")
Found = Figure | Curve | TokenPoint
Known = dict[str, Found]
Kept = TypeVar("Kept", Figure, Curve, TokenPoint)
FOLDERS = {"text": "text", "images": "images", "audio": "audio"}  # of a folder of one's own


def bench_paper(
    *,
    data: str | Path | None = None,
    text: str | Path | None = None,
    images: str | Path | None = None,
    audio: str | Path | None = None,
    compressors: Sequence[str] | None = None,
    chunks: int = DEFAULT_CHUNKS,
    chunk_size: int = CHUNK_BYTES,
    spread: bool = False,
    only: Collection[str] = MODALITIES,
    seed: int = DEFAULT_SEED,
    output: str | Path | None = None,
    symbols: Sequence[int] = vocabularies.SIZES,
    shrink: Shrink | None = None,
    progress: Phases | None = None,
) -> PaperReport:
    """Raw rates of compressors on text, pictures, sounds and random bytes, by the rules of the paper.

    Args:
        data: a folder with folders `text`, `images` and `audio`; None: the samples that ship with kolmo.
        text: a file or folder in place of that of `data`.
        images: likewise.
        audio: likewise.
        compressors: names of classical compressors, and specs of predictors; None: all classical ones that are
            installed, and the embedded predictors of levels 1, 4 and 5.
        chunks: the most chunks of each modality.
        chunk_size: bytes of a chunk of text, of sound and of random bytes; patches of pictures have 2,048.
        only: kinds of data to measure, of `MODALITIES`; the data of others are not read.
        spread: whether the chunks are spread evenly over all the data; else they are the first ones.
        seed: of the random bytes.
        output: a folder where figures are stored as they are computed; a later run takes them from there.
        symbols: sizes of the vocabularies of byte pairs to learn and try on the text; without tokenizers none are.
        shrink: makes a folder of small weights of a folder of transformers, such as `kolmo.shrink`; models in folders
            are then measured also so. None: they are not.
        progress: called with a title and the bytes of data; the steps are bytes.

    Raises:
        KolmoError: data cannot be read, or there is no such compressor.
        MissingExtraError: a package is not installed.

    Example:
        >>> report = bench_paper(compressors=["gzip"], chunks=8)      # doctest: +SKIP
        >>> report.figure("gzip", "random", chunked=True).rate > 1    # doctest: +SKIP
        True
    """
    chosen = codecs_of([*classical(), *DEFAULT_MODELS] if compressors is None else compressors)
    if len({codec.label for codec in chosen}) < len(chosen):
        raise KolmoError("a compressor is named twice; leave one out")
    places = places_of(data, only) | {
        name: Path(path) for name, path in (("text", text), ("images", images), ("audio", audio)) if path is not None
    }
    more = -(-vocabularies.MOST_LEARNED // chunk_size) if symbols else 0  # chunks behind those that are measured
    most = None if spread else chunks
    readers: dict[str, Callable[[], ChunkSet]] = {
        "text": lambda: text_chunks(places["text"], most=most and most + more, size=chunk_size),
        "images": lambda: image_chunks(places["images"], most=most),
        "audio": lambda: audio_chunks(places["audio"], most=most, size=chunk_size),
        "random": lambda: random_chunks(chunks, seed=seed, size=chunk_size),
    }
    parts = {name: parted(readers[name](), chunks, spread=spread) for name in MODALITIES if name in only}
    sets = [one for one, _ in parts.values()]
    work = _Work(None if output is None else Path(output) / STORE, progress or no_phases)
    with ExitStack() as stack:
        shrunk: dict[str, str] = {}
        if shrink is not None:
            folder = Path(output or stack.enter_context(tempfile.TemporaryDirectory()))
            chosen, shrunk = with_shrunk(chosen, shrink, folder, work.progress)
        figures, curves = _table(chosen, sets, work, frozenset(shrunk.values()))
    facts = {codec.label: codec.facts for codec in chosen if isinstance(codec, Predicted)}
    points = with_models(figures, facts, shrunk)
    if "text" in parts:
        text_set, behind = parts["text"]
        points = [*_tokens(text_set, behind[: vocabularies.MOST_LEARNED], symbols, work), *points]
    return PaperReport(
        tuple(figures),
        tuple(curves),
        tuple(sets),
        tuple(codec.label for codec in chosen),
        machine(),
        facts,
        tuple(weigh(figures, facts, shrunk)),
        tuple(points),
    )


class _Work:
    """Figures of earlier runs, and where new ones are kept."""

    def __init__(self, store: Path | None, progress: Phases) -> None:
        self.store, self.progress = store, progress
        self.known = _stored(store)

    def found(self, key: str, title: str, size: int, make: Callable[[Progress | None], Kept]) -> Kept:
        """What an earlier run found under this key, or what `make` finds."""
        stored = self.known.get(key)
        if stored is not None:
            return cast("Kept", stored)
        with self.progress(title, size) as done:
            found = make(done)
        self.known[key] = found
        if self.store is not None:
            self.store.parent.mkdir(parents=True, exist_ok=True)
            with open(self.store, "a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **found.record()}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        return found


def _table(
    codecs: Sequence[Codec], sets: Sequence[ChunkSet], work: _Work, small: frozenset[str]
) -> tuple[list[Figure], list[Curve]]:
    """All figures and curves; of models with small weights, `small`, only what `sizes` needs."""
    figures: list[Figure] = []
    curves: list[Curve] = []
    for one in sets:
        for codec in codecs:
            if codec.modalities and one.modality not in codec.modalities:
                continue
            title = f"{codec.label} {one.modality}"
            if codec.label in small:
                if one.modality != "random":
                    ask = Ask(chunked=True, mask=False)
                    make = partial(measure, codec, one, ask)
                    figures.append(work.found(key_of(codec, one, ask), title, one.size, make))
                continue
            for ask in asked(codec):
                figures.append(work.found(key_of(codec, one, ask), title, one.size, partial(measure, codec, one, ask)))
            if isinstance(codec, Predicted):
                key = "places-" + key_of(codec, one, Ask(chunked=True, mask=False))
                curves.append(work.found(key, title, one.size, partial(curve, codec, one)))
    return figures, curves


def _tokens(data: ChunkSet, behind: bytes, symbols: Sequence[int], work: _Work) -> list[TokenPoint]:
    """Points of the text under vocabularies; none where none is asked for, or tokenizers is not installed."""
    if not symbols or not find_spec("tokenizers") or len(data.chunks) < 2:
        return []
    learned, text = vocabularies.texts_of(data, behind)
    content: dict[str, Any] = {}

    def tokens(size: int) -> TokenPoint:
        if not content:
            content.update(vocabularies.learn(learned, max(symbols)))
        return vocabularies.measure(text, vocabularies.beginning(content, size))

    points = []
    for wide in (False, True):
        key = "tokens-" + vocabularies.key_of(b"", text, vocabularies.BYTES, wide)
        make = partial(vocabularies.measure_bytes, text, wide=wide)
        points.append(work.found(key, "bytes text", len(text), lambda _, make=make: make()))  # type: ignore[misc]
    for size in sorted(set(symbols)):
        key = "tokens-" + vocabularies.key_of(learned, text, size, False)
        points.append(work.found(key, f"{size:,} symbols text", len(text), lambda _, size=size: tokens(size)))  # type: ignore[misc]
        if points[-1].vocabulary < size:  # the text has no more pairs
            break
    return points


def places_of(data: str | Path | None, only: Collection[str] = MODALITIES) -> dict[str, Path]:
    """Where the text, pictures and sounds are.

    Raises:
        KolmoError: the folder lacks one.
    """
    if data is None:
        return {"text": SAMPLES / "paradise-lost.txt", "images": SAMPLES / "pictures", "audio": SAMPLES / "speech"}
    found = {name: Path(data, folder) for name, folder in FOLDERS.items() if name in only}
    for name, path in found.items():
        if not path.exists():
            raise KolmoError(f"{path}: is not there; make it, or name the {name} alone")
    return found


def asked(codec: Codec) -> Iterator[Ask]:
    """The figures of a compressor: in chunks, with and without the mask; whole, of a classical one."""
    for mask in (False, True):
        yield Ask(chunked=True, mask=mask)
        if not codec.model:
            yield Ask(chunked=False, mask=mask)


def _stored(store: Path | None) -> Known:
    """Figures of earlier runs, by their keys; a line that was cut short is left out."""
    found: Known = {}
    if store is None or not store.exists():
        return found
    for line in store.read_text("utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
            key = str(record.pop("key"))
            if "vocabulary" in record:
                found[key] = TokenPoint(**record)
            elif "places" in record:
                found[key] = Curve(**{**record, "places": tuple(record["places"]), "bits": tuple(record["bits"])})
            else:
                found[key] = Figure(**record)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found
