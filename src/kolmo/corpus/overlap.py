"""N-grams of words that two corpora share, document by document: a view on contamination.

Words are runs of letters and digits in lower case; an n-gram is hashed to 64 bits. The n-grams of one corpus are held,
12 bytes each; the other corpus is read document by document. What it is not: a search for paraphrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from kolmo.corpus.documents import Document
from kolmo.errors import KolmoError

LENGTH = 13  # words of an n-gram, as in Brown et al. (2020)
WORD = re.compile(r"\w+")
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that no word is lost
MIX = 0xFF51AFD7ED558CCD

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """What a document shares with a corpus.

    Attributes:
        name: of the document in its corpus.
        ngrams: different ones in it.
        shared: of these, that stand in the other corpus.
        nearest: document of the other corpus that has most of them (the first of several); "" where none are shared.
    """

    name: str
    ngrams: int
    shared: int
    nearest: str

    @property
    def fraction(self) -> float:
        """Share of the n-grams, 0 to 1."""
        return self.shared / self.ngrams if self.ngrams else 0.0


def overlap(documents: Iterable[Document], others: Iterable[Document], length: int = LENGTH) -> list[Overlap]:
    """For each document, the n-grams that also stand in `others`.

    Args:
        documents: to look at.
        others: to look in; its n-grams are held.
        length: words of an n-gram. Shorter documents have none.

    Raises:
        KolmoError: the length is less than 1.

    Example:
        >>> overlap([Document("a b c d")], [Document("x b c d", name="other")], 3)
        [Overlap(name='', ngrams=2, shared=1, nearest='other')]
    """
    if length < 1:
        raise KolmoError(f"n-grams of {length} words are none; give 1 or more")
    names: list[str] = []
    pieces: list[Hashes] = []
    owners: list[npt.NDArray[np.uint32]] = []
    for document in others:
        grams = ngrams(document.content, length)
        pieces.append(grams)
        owners.append(np.full(len(grams), len(names), np.uint32))
        names.append(document.name)
    known = np.concatenate(pieces) if pieces else np.empty(0, np.uint64)
    owner = np.concatenate(owners) if owners else np.empty(0, np.uint32)
    order = np.argsort(known, kind="stable")
    known, owner = known[order], owner[order]
    return [_compare(document, ngrams(document.content, length), known, owner, names) for document in documents]


def ngrams(text: str, length: int) -> Hashes:
    """Hashes of the different n-grams of a text, sorted, shape (n-grams,)."""
    words = WORD.findall(text.lower())
    if len(words) < length:
        return np.empty(0, np.uint64)
    table = {word: _hash(word) for word in set(words)}
    hashes = np.array([table[word] for word in words], np.uint64)
    count = len(words) - length + 1
    total = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(length):
            total = (total * np.uint64(MULTIPLIER)) + hashes[offset : offset + count]
            total ^= total >> np.uint64(32)
        total *= np.uint64(MIX)
    return np.unique(total)


def _compare(
    document: Document, grams: Hashes, known: Hashes, owner: npt.NDArray[np.uint32], names: list[str]
) -> Overlap:
    first = np.searchsorted(known, grams, "left")
    last = np.searchsorted(known, grams, "right")
    hit = last > first
    if not hit.any():
        return Overlap(document.name, len(grams), 0, "")
    places = np.concatenate([np.arange(a, b) for a, b in zip(first[hit], last[hit], strict=True)])
    votes = np.bincount(owner[places], minlength=len(names))
    return Overlap(document.name, len(grams), int(hit.sum()), names[int(votes.argmax())])


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
