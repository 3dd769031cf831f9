"""Near duplicates of source files: MinHash proposes, the exact Jaccard similarity of token sets decides.

A file's tokens are its runs of letters A-Z, a-z, digits and underscores. Signatures of `PERMUTATIONS` minima come from
rensa. They are cut into `BANDS` bands of `ROWS` minima, and files with an equal band are candidates: of pairs whose
similarity s is 0.85, the share 1 - (1 - s^ROWS)^BANDS = 99.6 % is found, of pairs with 0.6 still 14 %. Candidates are
joined to clusters (connected components).

Of a cluster its extremes stay: going through the files in order, a file that is similar (`MIN_SIMILARITY`) to an
extreme is a copy of the first such one; any other becomes an extreme itself. So a file that was only proposed stays. An
exact inverted index finds the extremes that need to be compared: two sets of similarity s or more share one of the
|x| - ceil(s |x|) + 1 first tokens of either, in any fixed order of tokens (Chaudhuri et al. 2006, Bayardo et al. 2007),
here the rarest first.

What it is not: it reads no files, and its result does not depend on how documents are distributed over workers.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kolmo.collection.extras import extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PERMUTATIONS = 256
BANDS, ROWS = 25, 10
SEED = 1  # of the permutations; another one proposes other pairs near the threshold
MIN_SIMILARITY = 0.85
LEAST_SHARE = (17, 20)  # the same as a fraction, for bounds without rounding
MIN_TOKENS = 10  # files with fewer, repetitions counted, are not compared
TO_SPACES = bytes(code if chr(code).isalnum() or chr(code) == "_" else 32 for code in range(128)) + b" " * 128


def tokens_of(text: str) -> list[bytes] | None:
    """The different tokens of a text, as they first appear; None where it has too few to be compared.

    >>> tokens_of("b = a + b; d = 'e f g h i j'")
    [b'b', b'a', b'd', b'e', b'f', b'g', b'h', b'i', b'j']
    """
    found = text.encode("ascii", "replace").translate(TO_SPACES).split()
    return list(dict.fromkeys(found)) if len(found) >= MIN_TOKENS else None


def jaccard(one: frozenset[Any] | set[Any], other: frozenset[Any] | set[Any]) -> float:
    """The similarity of two sets, of which at least one is not empty.

    >>> jaccard({1, 2, 3}, {2, 3, 4})
    0.5
    """
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def band_hashes(token_sets: Sequence[Sequence[bytes]]) -> NDArray[np.uint64]:
    """For each set the hash of each band of its signature: an array of shape (sets, `BANDS`).

    Raises:
        MissingExtraError: rensa is not installed.
    """
    import numpy as np

    if not token_sets:
        return np.zeros((0, BANDS), np.uint64)
    rensa = extra("rensa")
    rows = rensa.RMinHash.digest_matrix_from_token_sets(token_sets, PERMUTATIONS, SEED).to_rows()
    bands = np.array(rows, np.uint32)[:, : BANDS * ROWS].reshape(len(token_sets), BANDS, ROWS)
    return mixed(bands)


def mixed(bands: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """One 64-bit hash of the last axis: a polynomial in an odd constant, modulo 2**64, and a finalizer."""
    import numpy as np

    value = np.zeros(bands.shape[:-1], np.uint64)
    for row in range(bands.shape[-1]):
        value = (value ^ bands[..., row].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    return value


def clusters_of(bands: Iterable[NDArray[np.uint64]], count: int) -> list[NDArray[np.int64]]:
    """Connected components of the documents that share a band, those of one document left out.

    Args:
        bands: of each band the hashes of all documents, in order; one array at a time is in memory.
        count: of documents.

    Returns:
        the members of each cluster, ascending; clusters by their first member.
    """
    import numpy as np

    label = np.arange(count, dtype=np.int64)
    for hashes in bands:
        order = np.argsort(hashes, kind="stable")
        equal = hashes[order[1:]] == hashes[order[:-1]]
        _join(label, order[:-1][equal], order[1:][equal])
        del order, equal
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    return [part for part in np.split(order, starts[1:]) if len(part) > 1]


def _join(label: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Join components, each named by its smallest member (`label` points straight to it), along edges; in place."""
    import numpy as np

    while True:
        first, second = label[one], label[other]
        differ = first != second
        if not differ.any():
            return
        one, other = one[differ], other[differ]
        low, high = np.minimum(first, second)[differ], np.maximum(first, second)[differ]
        np.minimum.at(label, high, low)  # a root is hung under a smaller one
        while True:  # until every label is a root again
            above = label[label]
            if np.array_equal(above, label):
                break
            label[:] = above


def extremes_of(read: Callable[[], Iterable[frozenset[bytes]]]) -> list[int]:
    """For each file of a cluster the extreme that it is a copy of: its own position where it is one.

    Args:
        read: gives the token sets of the files, in the order in which the earlier one is preferred, none of them empty.
            It is called twice; only the sets of extremes are held.

    Example:
        >>> few, many = frozenset([b"a", b"b"]), frozenset([b"c", b"d", b"e"])
        >>> extremes_of(lambda: [few, many, few])
        [0, 1, 0]
    """
    above, below = LEAST_SHARE
    order = _order(read())
    index: dict[int, list[int]] = defaultdict(list)  # token -> extremes that have it in their prefix, ascending
    kept: dict[int, frozenset[bytes]] = {}
    found = []
    for position, tokens in enumerate(read()):
        size = len(tokens)
        ranks = sorted(order[token] for token in tokens)
        prefix = ranks[: size + above * -size // below + 1]
        near = {other for token in prefix for other in index.get(token, ())}
        for other in sorted(near):
            theirs = kept[other]
            small, large = sorted((size, len(theirs)))
            if above * large <= below * small and jaccard(tokens, theirs) >= MIN_SIMILARITY:
                found.append(other)
                break
        else:
            kept[position] = tokens
            for token in prefix:
                index[token].append(position)
            found.append(position)
    return found


def _order(token_sets: Iterable[frozenset[bytes]]) -> dict[bytes, int]:
    """A rank for each token, the rarest first; ties by the token, so that the order is one and the same anywhere."""
    counted: Counter[bytes] = Counter()
    for tokens in token_sets:
        counted.update(tokens)
    return {token: rank for rank, (_, token) in enumerate(sorted((n, token) for token, n in counted.items()))}


def fingerprint() -> str:
    """What determines the proposals, for the manifest: rensa's version and algorithm, and the constants here."""
    from importlib.metadata import version

    rensa = extra("rensa")
    said = f"rensa {version('rensa')} algorithm {rensa.RMinHash.ALGORITHM_VERSION}"
    constants = f"{PERMUTATIONS} {BANDS} {ROWS} {SEED} {MIN_SIMILARITY} {MIN_TOKENS}"
    return f"{said}, {hashlib.sha256(constants.encode()).hexdigest()[:8]}"
