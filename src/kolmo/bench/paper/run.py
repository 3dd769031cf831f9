"""All figures of the paper's table on given data: computed one by one, stored at once, and not computed again.

    report = kolmo.bench.paper.run.bench_paper(output="runs/paper")
    print(report.markdown())

What it is not: the rules by which bytes are counted (`bench.paper.cells`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kolmo.bench.files import machine
from kolmo.bench.paper.cells import Ask, Figure, key_of, measure
from kolmo.bench.paper.codecs import Codec, Predicted, classical, codecs_of
from kolmo.bench.paper.continuations import STORE as CONTINUATIONS
from kolmo.bench.paper.continuations import continue_all
from kolmo.bench.paper.continued import Exhibit
from kolmo.bench.paper.positions import Curve, curve
from kolmo.bench.paper.report import PaperReport
from kolmo.errors import KolmoError
from kolmo.modalities.chunks import (
    CHUNK_BYTES,
    DEFAULT_SEED,
    ChunkSet,
    audio_chunks,
    image_chunks,
    random_chunks,
    text_chunks,
)
from kolmo.progress import Phases, no_phases

SAMPLES = Path(__file__).parents[2] / "modalities" / "samples"
STORE = "figures.jsonl"
DEFAULT_CHUNKS = 64
DEFAULT_MODELS = ("cm:1", "cm:4", "neural:5")
Known = dict[str, Figure | Curve]
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
    seed: int = DEFAULT_SEED,
    continuations: bool = False,
    output: str | Path | None = None,
    progress: Phases | None = None,
) -> PaperReport:
    """Raw rates of compressors on text, pictures, sounds and random bytes, by the rules of the paper.

    Args:
        data: a folder with folders `text`, `images` and `audio`; None: the samples that ship with kolmo.
        text: a file, folder or data set (`modalities.sources`) in place of that of `data`.
        images: likewise.
        audio: likewise.
        compressors: names of classical compressors, and specs of predictors; None: all classical ones that are
            installed, and the embedded predictors of levels 1, 4 and 5.
        chunks: the most chunks of each modality.
        chunk_size: bytes of a chunk of text, of sound and of random bytes; patches of pictures have 2,048.
        seed: of the random bytes, and of continuations.
        continuations: whether compressors also go on from the beginnings of some of the data.
        output: a folder where figures are stored as they are computed; a later run takes them from there.
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
    places = places_of(data) | {
        name: path for name, path in (("text", text), ("images", images), ("audio", audio)) if path is not None
    }
    sets = [
        text_chunks(places["text"], most=chunks, size=chunk_size),
        image_chunks(places["images"], most=chunks),
        audio_chunks(places["audio"], most=chunks, size=chunk_size),
        random_chunks(chunks, seed=seed, size=chunk_size),
    ]
    store = None if output is None else Path(output) / STORE
    known = _stored(store)
    figures: list[Figure] = []
    curves: list[Curve] = []
    for one in sets:
        for codec in chosen:
            if codec.modalities and one.modality not in codec.modalities:
                continue
            for ask in asked(codec):
                figures.append(_figure(codec, one, ask, known, store, progress or no_phases))
            if isinstance(codec, Predicted):
                curves.append(_curve(codec, one, known, store, progress or no_phases))
    exhibit = None
    if continuations:
        kept = None if output is None else Path(output) / CONTINUATIONS
        exhibit = Exhibit(continue_all(chosen, sets, places, seed=seed, store=kept, progress=progress or no_phases))
    labels = tuple(codec.label for codec in chosen)
    return PaperReport(tuple(figures), tuple(curves), tuple(sets), labels, machine(), exhibit)


def places_of(data: str | Path | None) -> dict[str, str | Path]:
    """Where the text, pictures and sounds are.

    Raises:
        KolmoError: the folder lacks one.
    """
    if data is None:
        return {"text": SAMPLES / "paradise-lost.txt", "images": SAMPLES / "pictures", "audio": SAMPLES / "speech"}
    found = {name: Path(data, folder) for name, folder in FOLDERS.items()}
    for name, path in found.items():
        if not path.exists():
            raise KolmoError(f"{path}: is not there; make it, or name the {name} alone")
    return {**found}


def asked(codec: Codec) -> Iterator[Ask]:
    """The figures of a compressor: in chunks, with and without the mask; whole, of a classical one."""
    for mask in (False, True):
        yield Ask(chunked=True, mask=mask)
        if not codec.model:
            yield Ask(chunked=False, mask=mask)


def _figure(codec: Codec, data: ChunkSet, ask: Ask, known: Known, store: Path | None, progress: Phases) -> Figure:
    key = key_of(codec, data, ask)
    if isinstance(stored := known.get(key), Figure):
        return stored
    with progress(f"{codec.label} {data.modality}", data.size) as done:
        figure = measure(codec, data, ask, done)
    _keep(store, key, figure)
    return figure


def _curve(codec: Predicted, data: ChunkSet, known: Known, store: Path | None, progress: Phases) -> Curve:
    key = "places-" + key_of(codec, data, Ask(chunked=True, mask=False))
    if isinstance(stored := known.get(key), Curve):
        return stored
    with progress(f"{codec.label} {data.modality}", data.size) as done:
        found = curve(codec, data, done)
    _keep(store, key, found)
    return found


def _keep(store: Path | None, key: str, found: Figure | Curve) -> None:
    if store is None:
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    with open(store, "a", encoding="utf-8") as file:
        file.write(json.dumps({"key": key, **found.record()}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _stored(store: Path | None) -> Known:
    """Figures of earlier runs, by their keys; a line that was cut short is left out."""
    found: Known = {}
    if store is None or not store.exists():
        return found
    for line in store.read_text("utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
            key = str(record.pop("key"))
            if "places" in record:
                found[key] = Curve(**{**record, "places": tuple(record["places"]), "bits": tuple(record["bits"])})
            else:
                found[key] = Figure(**record)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found
