"""Two-pass paragraph deduplication: the semantics of the specification, against a plain reference."""

from __future__ import annotations

import re
from collections import Counter
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kolmo.collection.common_crawl.paragraphs import (
    HASHES,
    MARKS,
    DropShared,
    FindShared,
    HashLines,
    kept_lines,
    line_hashes,
    pick_lines,
    shared,
)
from kolmo.collection.stages import Shard, Work, write_json
from kolmo.corpus import Document

PUNCTUATION = re.compile(f"[{MARKS}\x00-\x1f\x7f-\x9f]")


def reference_hash(line: str) -> int:
    """A line at a time, as the specification says it."""
    line = line.strip().lower()
    line = re.sub(r"\d", "0", line)
    return int.from_bytes(sha1(PUNCTUATION.sub("", line).encode()).digest()[:8], "big")


def reference(groups: list[list[str]]) -> list[list[int]]:
    """Numbers of the kept lines of each document of one group."""
    hashes = [[reference_hash(line) for line in document] for document in groups]
    documents = Counter(one for document in hashes for one in set(document))
    kept = []
    for document in hashes:
        seen: set[int] = set()
        lines = []
        for number, one in enumerate(document):
            if documents[one] < 2 and one not in seen:
                lines.append(number)
            seen.add(one)
        kept.append(lines)
    return kept


LINES = st.lists(
    st.sampled_from(["a", "A ", "b.", "b", "c 1", "C 2", "", "…", "d\uff0c", "d", "é", "٣", "1", "Σ", "x\x85"]),
    max_size=6,
)


def test_there_are_34_marks() -> None:
    assert len(MARKS) == len(set(MARKS)) == 34


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(st.text(), st.sampled_from(["ΑΣ", "İ", "\uff11", "٣ ", "\x1c a", "x\u2028y"])), min_size=1, max_size=8
    )
)
def test_hashes_are_those_of_the_lines_alone(lines: list[str]) -> None:
    lines = [line.replace("\n", " ").encode("utf-8", "replace").decode() for line in lines]
    assert line_hashes("\n".join(lines)).tolist() == [reference_hash(line) for line in lines]


def test_what_is_the_same_line() -> None:
    same = ["Seen 12 times", "  seen 34 TIMES ", "seen 00 times…", "\x07seen 12 times", "seen 99 times►"]
    assert len(set(line_hashes("\n".join(same)).tolist())) == 1
    others = ["seen 12 times.", "seen 1 times", "seen, 12 times", "sëen 12 times"]
    assert len(set(line_hashes("\n".join([same[0], *others])).tolist())) == 5  # ASCII punctuation stays


@settings(max_examples=40)
@given(st.lists(LINES.filter(bool), min_size=1, max_size=6))
def test_lines_that_two_documents_share_go_everywhere(tmp_path_factory: pytest.TempPathFactory, documents: Any) -> None:
    paths = []
    folder = tmp_path_factory.mktemp("hashes")
    for number, lines in enumerate(documents):
        path = folder / str(number)
        np.unique(line_hashes("\n".join(lines))).tofile(path)
        paths.append(str(path))
    known = shared(paths)
    assert known.tolist() == sorted(set(known.tolist()))
    kept = [kept_lines(line_hashes("\n".join(lines)), known).tolist() for lines in documents]
    assert kept == reference(documents)


def stage(
    work: Work, name: str, index: int, count: int, step: Any, documents: list[Document]
) -> tuple[list[Document], Any]:
    shard = Shard(index, count, name, work)
    found = list(step.run(documents, shard))
    shard.finish()
    if index == count - 1:
        write_json(f"{work.stage(name)}/done.json", {"shards": count, "counts": {}})
    return found, shard.counts.record()


def test_the_steps_over_shards_and_groups(tmp_path: Path) -> None:
    """Three shards in groups of two: the last shard's lines are compared with nobody else's."""
    work = Work(str(tmp_path))
    texts = [["menu\nown line\nown line", "menu"], ["other\nmenu"], ["menu\nfree"]]
    shards = [
        [Document(text, "cc", f"{n}", {"original_nlines": text.count("\n") + 1}) for n, text in enumerate(one)]
        for one in texts
    ]
    for index, documents in enumerate(shards):
        assert stage(work, "first", index, 3, HashLines(), documents)[0] == documents
    assert np.fromfile(work.file("first", 0, HASHES), np.uint64).size == 3  # equal lines of a document count once
    for index in range(2):
        stage(work, "shared", index, 2, FindShared("first", 2), [])
    found = [
        stage(work, "last", index, 3, DropShared("shared", 2), documents) for index, documents in enumerate(shards)
    ]
    assert [[one.content for one in documents] for documents, _ in found] == [["own line"], ["other"], ["menu\nfree"]]
    assert found[0][0][0].meta == {"original_nlines": 3, "nlines": 1, "length": 8, "line_ids": [1]}
    assert found[0][1]["paragraphs"]["dropped"] == {"no line of its own": 1}


def test_lines_of_a_recipe() -> None:
    assert pick_lines("a\n\nc", [1, 2]) == "\nc"
    with pytest.raises(IndexError):
        pick_lines("a", [1])


def test_memory_is_eight_bytes_a_line(tmp_path: Path) -> None:
    import tracemalloc

    chance = np.random.default_rng(1)
    paths = []
    for number in range(4):
        path = tmp_path / str(number)
        chance.integers(0, 1 << 63, 500_000, dtype=np.uint64).tofile(path)
        paths.append(str(path))
    tracemalloc.start()
    shared(paths)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2_000_000 + 8 * 500_000 + (4 << 20)  # the group's hashes, and one file's as it is read
