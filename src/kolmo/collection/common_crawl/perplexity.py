"""How well a text reads, as a number, and the buckets head, middle, tail by cut-offs of each language.

Two scorers: a KenLM model that the user brings, with cut-offs of its perplexity; else the embedded predictor's bits per
character over a text's beginning, with cut-offs at the 30th and 60th percentile of a sample of this run. Low is good
in both. What it is not: a measure of truth or of style; CCNet (Wenzek et al., 2020), section 4, says what
perplexity separates.
"""

from __future__ import annotations

import csv
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Protocol

from kolmo.collection.stages import Shard, read_json
from kolmo.corpus.documents import Document
from kolmo.errors import KolmoError

SCORES, CUTOFFS = "scores.json", "cutoffs.json"
BUCKETS = ("head", "middle", "tail", "all")  # "all": of languages without cut-offs
PERCENTILES = (30, 60)
SAMPLE = 10_000  # documents of a language from which cut-offs are taken
LEAST = 10  # documents of a language, for its sample to have percentiles
KENLM_CUTOFFS = {"en": (340.0, 520.0)}  # perplexity: head is below the first, tail from the second on
PREDICTOR = "neural:5"
CHARACTERS = 2000  # of a text's beginning that the predictor scores
DIGITS = 4  # of bits per character that are written


class DocumentScorer(Protocol):
    """What ranks documents; low is good.

    Attributes:
        key: of the meta, where the score is written.
    """

    @property
    def key(self) -> str:
        """See above."""
        ...

    def score(self, text: str, language: str) -> float | None:
        """The score of a text, rounded as it is written; None where this language cannot be scored."""
        ...


@dataclass(frozen=True)
class BitsPerCharacterScorer:
    """The embedded predictor from a fresh state.

    Attributes:
        predictor: its spec, such as "cm:3".
        characters: of a text's beginning that are scored.
    """

    predictor: str = PREDICTOR
    characters: int = CHARACTERS
    key: str = "bits_per_character"

    def score(self, text: str, language: str) -> float | None:
        """See `DocumentScorer`."""
        from kolmo.predictors.registry import resolve

        beginning = text[: self.characters]
        data = beginning.encode("utf-8", "replace")
        if not data:
            return None
        bits = float(resolve(self.predictor).start(len(data)).score(data).sum())
        return round(bits / len(beginning), DIGITS)


@dataclass(frozen=True)
class Score:
    """Writes each document's score into its meta, and leaves a sample of scores for the cut-offs."""

    scorer: DocumentScorer
    seed: int
    name: str = "perplexity"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        sample = Sample()
        for document in documents:
            shard.counts.take(self.name)
            language = str(document.meta["language"])
            score = self.scorer.score(document.content, language)
            if score is not None:
                sample.add(language, _lot(self.seed, document.name), score)
            meta = {**document.meta}
            at = {self.scorer.key: score}
            if self.scorer.key not in meta:  # beside `perplexity`, which then is null
                meta = {key: value for key, value in meta.items() if key not in ("bucket", "cc_segment")}
                at = {**at, "bucket": document.meta["bucket"], "cc_segment": document.meta["cc_segment"]}
            yield replace(document, meta={**meta, **at})
        with open(shard.output(SCORES), "w", encoding="utf-8") as file:
            json.dump(sample.record(), file)


class Sample:
    """Scores of up to SAMPLE documents of each language: those with the smallest lots, in whichever order they come."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, float]]] = {}

    def add(self, language: str, lot: int, score: float) -> None:
        """One more document."""
        heap = self._heaps.setdefault(language, [])
        item = (-lot, score)
        if len(heap) < SAMPLE:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)

    def record(self) -> dict[str, list[tuple[int, float]]]:
        """By language: (lot, score), sorted."""
        return {
            language: sorted((-lot, score) for lot, score in heap) for language, heap in sorted(self._heaps.items())
        }


@dataclass(frozen=True)
class FindCutoffs:
    """The cut-offs at percentiles of the sample of all shards; or those that are given."""

    source: str  # stage that wrote the scores
    given: Mapping[str, tuple[float, float]] | None = None
    name: str = "cut-offs"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        cutoffs = self.given
        if cutoffs is None:
            sample = Sample()
            for index in range(shard.work.shards(self.source)):
                for language, scores in (read_json(shard.input(self.source, index, SCORES)) or {}).items():
                    for lot, score in scores:
                        sample.add(language, lot, score)
            cutoffs = {
                language: percentiles([score for _, score in scores])
                for language, scores in sample.record().items()
                if len(scores) >= LEAST
            }
        with open(shard.output(CUTOFFS), "w", encoding="utf-8") as file:
            json.dump(cutoffs, file)
        yield from ()


@dataclass(frozen=True)
class Buckets:
    """Names each document's bucket, and keeps those of the buckets that are wanted."""

    source: str  # stage that wrote the cut-offs
    key: str
    wanted: tuple[str, ...] = ("head",)
    name: str = "buckets"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        cutoffs = read_json(shard.input(self.source, 0, CUTOFFS)) or {}
        for document in documents:
            shard.counts.take(self.name)
            bucket = bucket_of(document.meta[self.key], cutoffs.get(document.meta["language"]))
            if bucket not in self.wanted:
                shard.counts.drop(self.name, f"bucket {bucket}")
                continue
            yield replace(document, meta={**document.meta, "bucket": bucket})


def bucket_of(score: float | None, cutoffs: Iterable[float] | None) -> str:
    """The bucket of a score.

    >>> bucket_of(339.9, (340, 520)), bucket_of(340, (340, 520)), bucket_of(520, (340, 520)), bucket_of(1, None)
    ('head', 'middle', 'tail', 'all')
    """
    if score is None or cutoffs is None:
        return "all"
    head, tail = cutoffs
    return "head" if score < head else "middle" if score < tail else "tail"


def percentiles(scores: list[float]) -> tuple[float, float]:
    """The scores below which 30 % and 60 % of the sample lie.

    >>> percentiles([float(score) for score in range(10)])
    (3.0, 6.0)
    """
    ranked = sorted(scores)
    head, tail = (ranked[percentile * len(ranked) // 100] for percentile in PERCENTILES)
    return head, tail


def read_cutoffs(path: str) -> dict[str, tuple[float, float]]:
    """Cut-offs from a table as CCNet publishes it: a column for each language, a row for each percentile.

    Raises:
        KolmoError: it cannot be read, or lacks the rows 30 and 60.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        table = {int(float(row[0])): row[1:] for row in rows[1:] if row}
        head, tail = (list(map(float, table[percentile])) for percentile in PERCENTILES)
        return dict(zip(rows[0][1:], zip(head, tail, strict=True), strict=True))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise KolmoError(
            f"{path}: is not a table of cut-offs ({error}); write a column for each language, and rows 30 and 60"
        ) from None


@dataclass(frozen=True)
class BucketChoice:
    """Which scorer and cut-offs a run has.

    Attributes:
        scorer: of documents.
        cutoffs: by language; None: percentiles of the sample.
        settings: what of them determines the bytes.
    """

    scorer: DocumentScorer = field(default_factory=BitsPerCharacterScorer)
    cutoffs: Mapping[str, tuple[float, float]] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


def choose(
    kenlm: str | None, cutoffs: str | None, predictor: str = PREDICTOR, characters: int = CHARACTERS
) -> BucketChoice:
    """The scorer of a run.

    Args:
        kenlm: folder with LANGUAGE.arpa.bin (or .arpa, .binary) and LANGUAGE.sp.model; None: the predictor.
        cutoffs: a table; None: of KenLM, the built-in ones, of the predictor, percentiles.
        predictor: its spec.
        characters: that it scores.
    """
    given = None if cutoffs is None else read_cutoffs(cutoffs)
    if kenlm is None:
        from kolmo.predictors.registry import resolve

        fingerprint = resolve(predictor).fingerprint().hex()
        settings = {"scorer": predictor, "fingerprint": fingerprint, "characters": characters, "cutoffs": given}
        return BucketChoice(BitsPerCharacterScorer(predictor, characters), given, settings)
    from kolmo.collection.common_crawl.kenlm import KenLM

    scorer = KenLM.of(kenlm)
    given = KENLM_CUTOFFS if given is None else given
    return BucketChoice(scorer, given, {"scorer": "kenlm", "models": dict(scorer.digests), "cutoffs": given})


def _lot(seed: int, name: str) -> int:
    """The number by which a document is drawn: of its name and the seed, so the same in any order."""
    return int.from_bytes(sha256(f"{seed} {name}".encode("utf-8", "replace")).digest()[:6], "big")
