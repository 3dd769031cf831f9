"""What a pipeline consists of: stages, their steps, and the shards that a stage runs over.

A step is a plain object with a name and a method `run`; it knows nothing of datatrove, of processes or of other shards
that run at the same time. What it is not: the one that runs them (see `engine`).

    work folder / STAGE /   documents/00000.jsonl.zst   documents of a shard
                            files/00000-NAME            what else a step has written for this shard
                            counts/00000.json           what the steps of this shard counted
                            done.json                   the stage is complete: its number of shards, its counts
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kolmo.collection.counts import Counts
from kolmo.collection.document import from_line
from kolmo.collection.extras import extra
from kolmo.corpus.documents import Document
from kolmo.errors import KolmoError
from kolmo.targets import publish, replacing

PARTIAL = ".partial"  # ending of what is being written
ZSTD_LEVEL = 1


class StageStep(Protocol):
    """A part of a stage. It is pickled to the workers, so its state is made in `run`, and no secret is in it."""

    name: str

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """The documents that go on, or those that the step brings in.

        Args:
            documents: of this shard, in order; none in the first stage.
            shard: where to count, and files of this and of other stages.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """A part of a pipeline that is run over all shards before the next begins.

    Attributes:
        name: of its folder; letters, digits and dashes.
        steps: what documents pass through; steps of datatrove may be among them.
        shards: how many; None: as many as the stage has whose documents come in, or else the one before. A function is
            called when the stage begins.
        keeps_documents: whether what leaves the last step is written. If not, the next stage reads what this one read.
        reads_documents: whether the documents of the last stage that wrote any come in, shard by shard.
    """

    name: str
    steps: Sequence[StageStep | Any]
    shards: int | Callable[[Work], int] | None = None
    keeps_documents: bool = True
    reads_documents: bool = True


@dataclass(frozen=True)
class Work:
    """The folder of a pipeline's run.

    Attributes:
        folder: its path.
    """

    folder: str

    def stage(self, name: str) -> str:
        """The folder of a stage."""
        return os.path.join(self.folder, name)

    def documents(self, stage: str, index: int) -> str:
        """Path of a shard's documents."""
        return os.path.join(self.folder, stage, "documents", f"{index:05d}.jsonl.zst")

    def file(self, stage: str, index: int, name: str) -> str:
        """Path of another file of a shard."""
        return os.path.join(self.folder, stage, "files", f"{index:05d}-{name}")

    def counts(self, stage: str, index: int) -> str:
        """Path of a shard's counts."""
        return os.path.join(self.folder, stage, "counts", f"{index:05d}.json")

    def done(self, stage: str) -> dict[str, Any] | None:
        """`{"shards": N, "counts": ...}` of a stage that is complete; None of another."""
        found = read_json(os.path.join(self.folder, stage, "done.json"))
        return found if isinstance(found, dict) else None

    def shards(self, stage: str) -> int:
        """How many shards a complete stage has.

        Raises:
            KolmoError: it is not complete.
        """
        done = self.done(stage)
        if done is None:
            raise KolmoError(f"{self.stage(stage)}: this stage has not ended; run it first")
        return int(done["shards"])

    def read(self, stage: str, index: int) -> Iterator[Document]:
        """The documents of a shard of a stage."""
        with open(self.documents(stage, index), "rb") as file:
            yield from _documents(file)


@dataclass
class Shard:
    """One task of a stage, as its steps see it.

    Attributes:
        index: from 0.
        count: of all shards of this stage.
        stage: its name.
        work: the pipeline's folder, to read what earlier stages wrote.
        counts: where the steps count.
        scratch: a folder of this task, removed at its end.
    """

    index: int
    count: int
    stage: str
    work: Work
    counts: Counts = field(default_factory=Counts)
    _scratch: tempfile.TemporaryDirectory[str] | None = None
    _outputs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def scratch(self) -> str:
        """An empty folder, made when it is first asked for."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="kolmo-collect-")
        return self._scratch.name

    def output(self, name: str) -> str:
        """Where to write another file of this shard; it gets its name when the shard is complete."""
        return self.begin(self.work.file(self.stage, self.index, name))

    def input(self, stage: str, index: int, name: str) -> str:
        """A file that another stage has written."""
        return self.work.file(stage, index, name)

    def begin(self, path: str) -> str:
        """A temporary name for a file that `finish` renames to `path`."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{os.getpid()}{PARTIAL}"
        self._outputs.append((temporary, path))
        return temporary

    def finish(self) -> None:
        """The shard is complete: its files get their names, the counts last."""
        counts = self.begin(self.work.counts(self.stage, self.index))
        with open(counts, "w", encoding="utf-8") as file:
            json.dump(self.counts.record(), file)
        for temporary, path in self._outputs:
            publish(temporary, path)
        self._outputs.clear()

    def close(self) -> None:
        """Remove what is temporary."""
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        for temporary, _ in self._outputs:
            if os.path.exists(temporary):
                os.unlink(temporary)
        self._outputs.clear()


def read_json(path: str) -> Any:
    """What a JSON file holds; None where there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KolmoError(f"{path}: cannot be read ({error}); remove it and run again") from None


def write_json(path: str, value: Any) -> None:
    """Write a JSON file under a temporary name, then rename it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _documents(file: Any) -> Iterator[Document]:
    import io

    with extra("zstandard").ZstdDecompressor().stream_reader(file) as stream:
        for line in io.BufferedReader(stream, 1 << 17):
            yield from_line(line)
