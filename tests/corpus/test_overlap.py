"""N-grams that two corpora share, document by document."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kolmo.corpus import Document
from kolmo.corpus.overlap import Overlap, ngrams, overlap
from kolmo.errors import KolmoError

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=9)


@settings(max_examples=60)
@given(st.lists(WORDS, max_size=3), st.lists(WORDS, max_size=3), st.integers(1, 3))
def test_counts_are_those_of_sets(mine: list[list[str]], theirs: list[list[str]], length: int) -> None:
    def grams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}

    known = set().union(*map(grams, theirs))
    found = overlap([Document(" ".join(one)) for one in mine], [Document(" ".join(one)) for one in theirs], length)
    assert [(one.ngrams, one.shared) for one in found] == [(len(grams(one)), len(grams(one) & known)) for one in mine]


def test_the_nearest_document_is_named() -> None:
    others = [Document("one two three four", name="far"), Document("Five six, seven EIGHT nine", name="near")]
    found = overlap([Document("four five six seven eight ten", name="mine"), Document("none", name="short")], others, 3)
    assert found == [Overlap("mine", 4, 2, "near"), Overlap("short", 0, 0, "")]
    assert found[0].fraction == 0.5
    assert found[1].fraction == 0.0


def test_edges() -> None:
    assert overlap([], [], 13) == []
    assert overlap([Document("a b")], [], 2)[0].shared == 0
    assert len(ngrams("word " * 100, 5)) == 1
    with pytest.raises(KolmoError, match="give 1 or more"):
        overlap([], [], 0)
