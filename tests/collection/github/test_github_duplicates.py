"""Exact duplicates against a dictionary, near duplicates against all pairs, and beside datasketch."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kolmo.collection.github.exact_duplicates import RECORD_BYTES, record, verdicts
from kolmo.collection.github.files import squeezed_digest
from kolmo.collection.github.near_duplicates import (
    BANDS,
    MIN_SIMILARITY,
    band_hashes,
    clusters_of,
    extremes_of,
    jaccard,
    tokens_of,
)

pytest.importorskip("rensa")


def records_of(texts: list[str]) -> NDArray[np.uint8]:
    data = b"".join(record(hashlib.sha256(text.encode()).digest(), squeezed_digest(text)) for text in texts)
    return np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)


def naive_verdicts(texts: list[str]) -> list[int]:
    bytes_seen: set[str] = set()
    text_seen: set[str] = set()
    found = []
    for text in texts:
        squeezed = "".join(text.split())
        found.append(1 if text in bytes_seen else 2 if squeezed in text_seen else 0)
        bytes_seen.add(text)
        text_seen.add(squeezed)
    return found


@given(
    st.lists(st.sampled_from(["a", "a ", " a", "b", "b\n", "", "\n", "ab", "a b", "\u00a0ab"]), max_size=30),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_verdicts_are_those_of_a_dictionary(texts: list[str], part: int, held: int) -> None:
    records = records_of(texts)

    def read() -> Iterator[NDArray[np.uint8]]:
        for begin in range(0, len(records), part):
            yield records[begin : begin + part]

    assert verdicts(read, len(records), held).tolist() == naive_verdicts(texts)


def tokens(numbers: range) -> list[bytes]:
    return sorted(b"t%d" % number for number in numbers)


def sets_of(token_lists: list[list[bytes]]) -> list[frozenset[bytes]]:
    return [frozenset(one) for one in token_lists]


def naive_extremes(sets: list[frozenset[bytes]]) -> list[int]:
    kept: list[int] = []
    found = []
    for position, one in enumerate(sets):
        match = next((other for other in kept if jaccard(one, sets[other]) >= MIN_SIMILARITY), position)
        if match == position:
            kept.append(position)
        found.append(match)
    return found


@given(st.lists(st.frozensets(st.integers(0, 25), min_size=1, max_size=25), max_size=25))
def test_extremes_are_those_of_all_pairs(sets: list[frozenset[int]]) -> None:
    coded = [frozenset(b"%d" % number for number in one) for one in sets]
    assert extremes_of(lambda: coded) == naive_extremes(coded)


@pytest.mark.parametrize("size", [*range(1, 45), 100, 200])
def test_the_threshold_is_exact(size: int) -> None:
    """Sets of `size` tokens, of which just enough, or one too few, are shared for 0.85 = 17/20."""
    for shared in range(size + 1):
        one, other = frozenset(range(size)), frozenset(range(size - shared, 2 * size - shared))
        coded = [frozenset(b"%d" % number for number in part) for part in (one, other)]
        assert extremes_of(partial(iter, coded)) == ([0, 0] if 20 * shared >= 17 * (2 * size - shared) else [0, 1])


def test_small_files_are_exempt() -> None:
    assert tokens_of("a b c d e f g h i") is None
    assert tokens_of("a a a a a a a a a a") == [b"a"]  # repetitions count


@given(st.one_of(st.text(max_size=200), st.text("aB1 _=\n\t\x1cé字", max_size=60)))
def test_tokens_are_runs_of_letters_digits_and_underscores(text: str) -> None:
    found = re.findall("[A-Za-z0-9_]+", text)
    assert tokens_of(text) == ([token.encode() for token in dict.fromkeys(found)] if len(found) >= 10 else None)


@given(st.text("aB1 _=\n\t\v\x1c\x1f\x85\u00a0é字", max_size=60))
def test_white_space_is_what_split_takes(text: str) -> None:
    squeezed = "".join(text.split()).encode()
    assert squeezed_digest(text) == hashlib.md5(squeezed).digest()


def family(rng: random.Random, size: int, count: int) -> list[list[bytes]]:
    """Token sets around one centre, with 0 to 8 % of the tokens replaced."""
    centre = rng.sample(range(10**6), size)
    return [
        sorted({b"t%d" % (n if rng.random() > share else rng.randrange(10**6)) for n in centre})
        for share in (rng.uniform(0, 0.08) for _ in range(count))
    ]


def made_sets() -> list[list[bytes]]:
    rng = random.Random(0)
    found = [one for _ in range(40) for one in family(rng, rng.randint(20, 300), rng.randint(1, 5))]
    rng.shuffle(found)
    return found


def clusters(token_lists: list[list[bytes]]) -> list[list[int]]:
    bands = band_hashes(token_lists)
    return [part.tolist() for part in clusters_of((bands[:, band] for band in range(BANDS)), len(token_lists))]


def test_similar_pairs_are_proposed() -> None:
    lists = made_sets()
    sets = sets_of(lists)
    place = {member: number for number, cluster in enumerate(clusters(lists)) for member in cluster}
    similar = [(a, b) for a in range(len(sets)) for b in range(a) if jaccard(sets[a], sets[b]) >= MIN_SIMILARITY]
    assert len(similar) > 50
    missed = [pair for pair in similar if place.get(pair[0], -1) != place.get(pair[1], -2)]
    assert len(missed) <= 0.01 * len(similar)


def test_what_datasketch_finds_is_found() -> None:
    datasketch = pytest.importorskip("datasketch")
    lists = made_sets()
    sets = sets_of(lists)
    index = datasketch.MinHashLSH(threshold=MIN_SIMILARITY, num_perm=256)
    found = set()
    for number, one in enumerate(lists):
        sketch = datasketch.MinHash(num_perm=256)
        sketch.update_batch(one)
        found |= {(number, other) for other in index.query(sketch)}
        index.insert(number, sketch)
    confirmed = {pair for pair in found if jaccard(sets[pair[0]], sets[pair[1]]) >= MIN_SIMILARITY}
    assert len(confirmed) > 20
    place = {member: number for number, cluster in enumerate(clusters(lists)) for member in cluster}
    assert {pair for pair in confirmed if place.get(pair[0], -1) != place.get(pair[1], -2)} == set()


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=20))
def test_clusters_are_connected_components(rows: list[tuple[int, int, int]]) -> None:
    count = len(rows)
    bands = [np.array([row[band] for row in rows], np.uint64) for band in range(3)]
    found = [part.tolist() for part in clusters_of(bands, count)]
    label = list(range(count))
    for _ in range(count):
        for a in range(count):
            for b in range(count):
                if any(x == y for x, y in zip(rows[a], rows[b], strict=True)):
                    label[a] = label[b] = min(label[a], label[b])
    groups: dict[int, list[int]] = {}
    for number, name in enumerate(label):
        groups.setdefault(name, []).append(number)
    assert found == [group for group in groups.values() if len(group) > 1]


def test_signatures_do_not_depend_on_the_batch() -> None:
    lists = made_sets()[:50]
    whole = band_hashes(lists)
    parts = np.concatenate([band_hashes(lists[:7]), band_hashes([]), band_hashes(lists[7:])])
    assert np.array_equal(whole, parts)
    assert np.array_equal(whole, band_hashes([one[::-1] + one[:5] for one in lists]))  # nor on the order of tokens


def test_several_extremes_of_one_cluster() -> None:
    """A chain: neighbours are similar, its ends are not."""
    chain = [tokens(range(start, start + 100)) for start in range(0, 40, 4)]
    found = extremes_of(lambda: sets_of(chain))
    assert found == naive_extremes(sets_of(chain))
    assert found == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
