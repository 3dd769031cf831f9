"""Stages over datatrove: resumption, failures, counts, and the two document types."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datatrove", reason="needs datatrove: pip install 'kolmo-codelength[collect]'")

from kolmo.collection.counts import Counts
from kolmo.collection.document import from_datatrove, from_line, to_datatrove, to_line
from kolmo.collection.engine import StageEngine, last_stage, run_stages
from kolmo.collection.stages import Shard, Stage, Work
from kolmo.corpus import Document
from kolmo.errors import KolmoError


class Make:
    name = "make"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        assert not list(documents)
        with open(shard.output("note.txt"), "w") as file:
            file.write(f"shard {shard.index} of {shard.count}")
        for number in range(4):
            shard.counts.take(self.name)
            yield Document(
                f"text {number}", "cc", f"{shard.index}:{number}", {"number": number, "subset": "of the meta"}
            )


class DropOdd:
    name = "odd"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        note = Path(shard.input("make", shard.index, "note.txt")).read_text()
        assert note == f"shard {shard.index} of {shard.count}"
        assert os.listdir(shard.scratch) == []
        for document in documents:
            shard.counts.take(self.name)
            if document.meta["number"] % 2:
                shard.counts.drop(self.name, "odd")
            else:
                yield document


class Fail:
    """Fails while a file is there."""

    name = "fail"

    def __init__(self, path: Path, error: type[Exception]) -> None:
        self.path, self.error = path, error

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        for document in documents:
            if shard.index == 1 and self.path.exists():
                raise self.error("what went wrong")
            yield document


def names(work: Work, stage: str) -> list[str]:
    return [one.name for index in range(work.shards(stage)) for one in work.read(stage, index)]


def test_stages_one_after_the_other(tmp_path: Path) -> None:
    work = Work(str(tmp_path))
    stages = [
        Stage("make", [Make()], 3),
        Stage("look", [DropOdd()], keeps_documents=False),
        Stage("odd", [DropOdd()]),
        Stage("alone", [], lambda work: work.shards("odd") - 2, keeps_documents=False, reads_documents=False),
    ]
    told: list[tuple[str, int, int]] = []
    counts = run_stages(stages, work, StageEngine(), lambda *words: told.append(words))
    assert names(work, "odd") == [f"{shard}:{number}" for shard in range(3) for number in (0, 2)]
    assert counts.record()["odd"] == {"in": 24, "kept": 12, "dropped": {"odd": 12}}  # of both stages that have it
    assert last_stage(stages) == "odd"
    assert work.shards("alone") == 1
    assert told[-1] == ("alone", 1, 1)
    first = next(work.read("odd", 0))
    assert (first.subset, dict(first.meta)) == ("cc", {"number": 0, "subset": "of the meta"})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = run_stages(stages, work, StageEngine())
    assert again.record() == counts.record()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("error", [KolmoError, OSError, ZeroDivisionError])
def test_a_task_that_fails_is_named_and_the_next_run_goes_on(tmp_path: Path, error: type[Exception]) -> None:
    switch = tmp_path / "switch"
    switch.touch()
    work = Work(str(tmp_path / "work"))
    stages = [Stage("make", [Make()], 3), Stage("fail", [Fail(switch, error)])]
    where = "" if error is not ZeroDivisionError else r"failed \(ZeroDivisionError: "
    with pytest.raises(KolmoError, match=rf"stage fail, shard 1: {where}what went wrong"):
        run_stages(stages, work, StageEngine())
    assert not list(tmp_path.rglob("*.partial"))
    made = Path(work.documents("make", 0)).stat().st_mtime_ns
    done = Path(work.documents("fail", 0)).stat().st_mtime_ns
    switch.unlink()
    run_stages(stages, work, StageEngine())
    assert len(names(work, "fail")) == 12
    assert Path(work.documents("make", 0)).stat().st_mtime_ns == made
    assert Path(work.documents("fail", 0)).stat().st_mtime_ns == done


def test_steps_of_datatrove_may_stand_among_ours(tmp_path: Path) -> None:
    from datatrove.pipeline.filters import LambdaFilter

    work = Work(str(tmp_path))
    run_stages([Stage("make", [Make(), LambdaFilter(lambda one: "3" not in one.text)], 1)], work, StageEngine())
    assert names(work, "make") == ["0:0", "0:1", "0:2"]


def test_documents_to_datatrove_and_back() -> None:
    document = Document("text", "cc", "name", {"a": [1], "meta": 1})
    there = to_datatrove(document)
    assert (there.text, there.id) == ("text", "name")
    assert from_datatrove(there) == document
    there.metadata["language"] = "en"  # a step of datatrove's
    assert from_datatrove(there).meta == {"a": [1], "meta": 1, "language": "en"}


def test_lines_of_shards() -> None:
    for document in (
        Document("a\nb\u2028c\0", "cc", "n", {"x": None, "y": [1.5, {"z": "é"}]}),
        Document("", "", "", {"large": 1 << 70}),
    ):
        line = to_line(document)
        assert line.count(b"\n") == 1
        if "large" not in document.meta:
            assert from_line(line) == document
    assert from_line(to_line(Document("a\ud800b\U0001f600", meta={"k": "\udfff"}))) == Document(
        "a\ufffdb\U0001f600", meta={"k": "\ufffd"}
    )


def test_counts_add_up() -> None:
    counts = Counts()
    counts.take("a", 3)
    counts.drop("a", "why")
    counts.lose("a", "gone", 2)
    counts.tally("a", "lines", 9)
    other = Counts.of(counts.record())
    other.add(counts)
    assert other.record() == {"a": {"in": 10, "kept": 4, "dropped": {"gone": 4, "why": 2}, "tallies": {"lines": 18}}}
    damaged: Any
    for damaged in ({"a": {}}, {"a": 1}, {"a": {"in": "x", "dropped": {}}}):
        with pytest.raises(KolmoError, match="damaged"):
            Counts.of(damaged)


def test_engines_that_are_none() -> None:
    with pytest.raises(KolmoError, match="no engine spark"):
        StageEngine("spark")
    with pytest.raises(KolmoError, match="0 workers"):
        StageEngine(workers=0)
    with pytest.raises(KolmoError, match="slurm_partition"):
        StageEngine("slurm")


def test_stages_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(KolmoError, match="has 2 shards, and make, which it reads, another number"):
        run_stages([Stage("make", [Make()], 3), Stage("odd", [DropOdd()], 2)], Work(str(tmp_path)), StageEngine())
