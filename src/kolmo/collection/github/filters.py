"""The stages between the files as fetched and the corpus: exact duplicates, heuristics, near duplicates.

    fetch       a shard a few repositories   documents, digests
    exact       one shard, no documents      a verdict a document of `fetch`
    filter      as fetch                     documents that stay, their tokens and bands
    candidates  one shard, no documents      clusters of documents of `filter`, by numbers that go on through all shards
    extremes    a shard many clusters        for each member the extreme that it is a copy of; the clusters for people
    near        as fetch                     documents that stay, each with its number of copies

What they are not: the algorithms (see `exact_duplicates`, `heuristics`, `near_duplicates`).
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from kolmo.collection.github import exact_duplicates
from kolmo.collection.github.fetch import DIGESTS, FETCH
from kolmo.collection.github.heuristics import reason_to_drop
from kolmo.collection.github.near_duplicates import BANDS, band_hashes, clusters_of, extremes_of, tokens_of
from kolmo.collection.github.tokens import counter_of
from kolmo.collection.stages import Shard, Work
from kolmo.corpus.documents import Document

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT, FILTER, CANDIDATES, EXTREMES, NEAR = "exact", "filter", "candidates", "extremes", "near"  # stages
VERDICTS = "verdicts.bin"  # of `exact`, a byte a document of a shard of `fetch`
TOKENS, OFFSETS, PLACES, HASHES = "tokens.bin", "offsets.npy", "places.npy", "bands.npy"  # of `filter`
MEMBERS, STARTS = "members.npy", "starts.npy"  # of `candidates`
CHOICE, CLUSTERS = "choice.npy", "clusters.jsonl"  # of `extremes`
BATCH_TOKENS = 200_000  # of documents whose signatures are made at once, about
MEMBERS_PER_SHARD = 20_000


@dataclass(frozen=True)
class FindExactDuplicates:
    """Compares the digests of all documents."""

    name: str = EXACT

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """No document; a file of verdicts for each shard of `fetch`."""
        import numpy as np

        yield from documents
        shards = shard.work.shards(FETCH)
        paths = [shard.input(FETCH, index, DIGESTS) for index in range(shards)]
        width = exact_duplicates.RECORD_BYTES

        def read() -> Iterator[NDArray[np.uint8]]:
            for path in paths:
                yield np.fromfile(path, np.uint8).reshape(-1, width)

        sizes = [len(part) for part in read()]
        found = exact_duplicates.verdicts(read, sum(sizes))
        end = 0
        for index, size in enumerate(sizes):
            found[end : end + size].tofile(shard.output(f"{index:05d}-{VERDICTS}"))
            end += size


@dataclass(frozen=True)
class DropExactDuplicates:
    """Drops the documents that `FindExactDuplicates` has found."""

    name: str = "exact_duplicates"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """The first of each kind."""
        import numpy as np

        verdicts = np.fromfile(shard.input(EXACT, 0, f"{shard.index:05d}-{VERDICTS}"), np.uint8).tolist()
        for document, verdict in zip(documents, verdicts, strict=True):
            shard.counts.take(self.name)
            if verdict:
                shard.counts.drop(self.name, exact_duplicates.REASONS[verdict - 1])
            else:
                yield document


@dataclass(frozen=True)
class DropByHeuristics:
    """Drops what `heuristics` names.

    Attributes:
        seed: of the collection.
        tokenizer: name and path of what counts tokens (see `tokens.find_tokenizer`).
    """

    seed: int
    tokenizer: tuple[str, str | None]
    name: str = "heuristics"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """The documents that look like source code that somebody wrote."""
        tokens = counter_of(*self.tokenizer)
        for document in documents:
            shard.counts.take(self.name)
            digest = hashlib.sha256(document.content.encode()).digest()
            reason = reason_to_drop(document.content, digest, self.seed, tokens)
            if reason is not None:
                shard.counts.drop(self.name, reason)
            else:
                yield document


@dataclass(frozen=True)
class SignDocuments:
    """Writes tokens and bands beside the documents, which pass unchanged."""

    name: str = "signatures"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """All documents."""
        import numpy as np

        offsets, places = [0], []
        hashes: list[NDArray[np.uint64]] = []
        batch: list[list[bytes]] = []
        room = BATCH_TOKENS
        with open(shard.output(TOKENS), "wb") as file:
            for number, document in enumerate(documents):
                tokens = tokens_of(document.content)
                if tokens is not None:
                    batch.append(tokens)
                    room -= len(tokens)
                    places.append(number)
                    file.write(_name_line(document) + b" ".join(tokens))
                if room < 0:
                    hashes.append(band_hashes(batch))
                    batch, room = [], BATCH_TOKENS
                offsets.append(file.tell())
                yield document
        hashes.append(band_hashes(batch))
        _save(shard.output(OFFSETS), np.array(offsets, np.int64))
        _save(shard.output(PLACES), np.array(places, np.int64))
        _save(shard.output(HASHES), np.ascontiguousarray(np.concatenate(hashes).T))


@dataclass(frozen=True)
class FindCandidates:
    """Joins documents with an equal band to clusters. Memory: about 40 bytes a document."""

    name: str = CANDIDATES

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """No document; the clusters."""
        import numpy as np

        yield from documents
        work = shard.work
        shards = range(work.shards(FILTER))
        bases = _bases(work)
        places = [_load(work, index, PLACES) + bases[index] for index in shards]
        every = np.concatenate([np.zeros(0, np.int64), *places])

        def bands() -> Iterator[NDArray[np.uint64]]:
            for band in range(BANDS):
                yield np.concatenate([np.zeros(0, np.uint64), *(_load(work, index, HASHES)[band] for index in shards)])

        clusters = clusters_of(bands(), len(every))
        shard.counts.tally(self.name, "clusters", len(clusters))
        starts = np.cumsum([0, *map(len, clusters)], dtype=np.int64)
        _save(shard.output(STARTS), starts)
        _save(shard.output(MEMBERS), every[np.concatenate([np.zeros(0, np.int64), *clusters])])


@dataclass(frozen=True)
class ChooseExtremes:
    """Compares the members of each cluster exactly."""

    name: str = EXTREMES

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """No document; for each member of the shard's clusters the extreme that it is a copy of."""
        import numpy as np

        yield from documents
        members, starts = (_load(shard.work, 0, name, CANDIDATES) for name in (MEMBERS, STARTS))
        low, high = shard.index * MEMBERS_PER_SHARD, (shard.index + 1) * MEMBERS_PER_SHARD
        choices = [np.zeros((0, 2), np.int64)]
        with open(shard.output(CLUSTERS), "wb") as file, TokenFiles(shard.work) as tokens:
            for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
                if not low <= begin < high:
                    continue
                numbers = members[begin:end]
                chosen = extremes_of(partial(tokens.sets, numbers.tolist()))
                choices.append(np.stack([numbers, numbers[chosen]], axis=1))
                file.write(_cluster_line([tokens.of(number)[0] for number in numbers.tolist()], chosen))
        _save(shard.output(CHOICE), np.concatenate(choices))


@dataclass(frozen=True)
class DropNearDuplicates:
    """Drops copies, and notes on what stays how many files it stands for."""

    name: str = "near_duplicates"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """The documents that are not copies, with `copies` in the meta: 1, or how many similar files there are."""
        work = shard.work
        first, last = _bases(work)[shard.index : shard.index + 2]
        copy_of: dict[int, int] = {}
        copies: dict[int, int] = {}
        for index in range(work.shards(EXTREMES)):
            choice = _load(work, index, CHOICE, EXTREMES)
            extremes = choice[:, 1]
            for extreme in extremes[(first <= extremes) & (extremes < last)].tolist():
                copies[extreme] = copies.get(extreme, 0) + 1
            members = choice[:, 0]
            copy_of.update(choice[(first <= members) & (members < last)].tolist())
        for number, document in enumerate(documents, first):
            shard.counts.take(self.name)
            if copy_of.get(number, number) != number:
                shard.counts.drop(self.name, "near_duplicate")
            else:
                yield replace(document, meta={**document.meta, "copies": copies.get(number, 1)})


class TokenFiles:
    """Token sets of documents of the stage `filter`, by number."""

    def __init__(self, work: Work) -> None:
        self._work, self._bases = work, _bases(work)
        self._open: tuple[int, IO[bytes], NDArray[np.int64]] | None = None  # shard, its tokens, its offsets

    def __enter__(self) -> TokenFiles:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open is not None:
            self._open[1].close()

    def of(self, number: int) -> tuple[list[str], frozenset[bytes]]:
        """Repository, path and commit of a document, and its tokens. Numbers in ascending order are read fastest."""
        index = bisect_right(self._bases, number) - 1
        if self._open is None or self._open[0] != index:
            self.__exit__()
            opened = open(self._work.file(FILTER, index, TOKENS), "rb")  # noqa: SIM115 (closed by `__exit__`)
            self._open = index, opened, _load(self._work, index, OFFSETS)
        _, file, offsets = self._open
        begin, end = offsets[number - self._bases[index] :][:2].tolist()
        file.seek(begin)
        name, _, tokens = file.read(end - begin).partition(b"\n")
        return json.loads(name), frozenset(tokens.split())

    def sets(self, numbers: list[int]) -> Iterator[frozenset[bytes]]:
        """The tokens of several documents, one after the other."""
        for number in numbers:
            yield self.of(number)[1]


def extreme_shards_of(work: Work) -> int:
    """How many shards the stage `extremes` has, by the number of members of all clusters alone."""
    return max(-(-len(_load(work, 0, MEMBERS, CANDIDATES)) // MEMBERS_PER_SHARD), 1)


def _bases(work: Work) -> list[int]:
    """The number of the first document of each shard of `filter`, and of all documents."""
    bases = [0]
    for index in range(work.shards(FILTER)):
        bases.append(bases[-1] + len(_load(work, index, OFFSETS)) - 1)
    return bases


def _load(work: Work, index: int, name: str, stage: str = FILTER) -> NDArray[Any]:
    import numpy as np

    found: NDArray[Any] = np.load(work.file(stage, index, name), mmap_mode="r")
    return found


def _save(path: str, array: NDArray[Any]) -> None:
    import numpy as np

    with open(path, "wb") as file:
        np.save(file, array)


def _name_line(document: Document) -> bytes:
    keys = ("repository", "path", "commit")
    return json.dumps([document.meta[key] for key in keys], ensure_ascii=False).encode() + b"\n"


def _cluster_line(names: list[list[str]], chosen: list[int]) -> bytes:
    """A cluster as it is written for people: its extremes, each with its copies."""
    copies: dict[int, list[list[str]]] = {}
    for position, extreme in enumerate(chosen):
        copies.setdefault(extreme, []).append(names[position])
    extremes = [
        {
            "repository": own[0],
            "path": own[1],
            "commit": own[2],
            "copies": len(copies[extreme]),
            "files": copies[extreme],
        }
        for extreme in sorted(copies)
        for own in (names[extreme],)
    ]
    return json.dumps({"extremes": extremes}, ensure_ascii=False).encode() + b"\n"
