"""A shard of a stage as a pipeline of datatrove: read, the stage's steps, write.

This module is what workers unpickle, and the only one of the package that imports datatrove at once.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from itertools import chain
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from kolmo.collection.document import from_datatrove, to_datatrove, to_line
from kolmo.collection.extras import extra
from kolmo.collection.stages import ZSTD_LEVEL, Shard, Stage, StageStep, Work
from kolmo.errors import KolmoError

logger.disable("datatrove")  # what users need to know is in counts and errors


class Task:
    """What the steps of one task share: its shard. One is made for each task, when its first step runs."""

    def __init__(self, work: Work, stage: str) -> None:
        self._work, self._stage = work, stage
        self._shard: Shard | None = None

    def shard(self, rank: int, world_size: int) -> Shard:
        """The shard of this task."""
        if self._shard is None or self._shard.index != rank:
            self._shard = Shard(rank, world_size, self._stage, self._work)
        return self._shard


class ReadShard(PipelineStep):
    """Documents that an earlier stage has written for this shard."""

    type, name = "Reader", "kolmo shard"

    def __init__(self, task: Task, work: Work, stage: str) -> None:
        super().__init__()
        self.task, self.work, self.stage = task, work, stage

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """The documents before those that come in, as readers of datatrove do."""
        yield from chain(data or (), map(to_datatrove, self.work.read(self.stage, rank)))


class RunStep(PipelineStep):
    """A step of kolmo as one of datatrove."""

    type = "Step"

    def __init__(self, task: Task, step: StageStep) -> None:
        super().__init__()
        self.task, self.step, self.name = task, step, step.name

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """What the step makes of the documents."""
        documents = map(from_datatrove, data or ())
        yield from map(to_datatrove, self.step.run(documents, self.task.shard(rank, world_size)))


class WriteShard(PipelineStep):
    """Writes what comes, renames it into place, and leaves a note where something fails."""

    type, name = "Writer", "kolmo shard"

    def __init__(self, task: Task, work: Work, stage: str, keeps_documents: bool) -> None:
        super().__init__()
        self.task, self.work, self.stage, self.keeps_documents = task, work, stage, keeps_documents

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Write all documents; none goes on."""
        shard = self.task.shard(rank, world_size)
        try:
            if self.keeps_documents:
                path = shard.begin(self.work.documents(self.stage, rank))
                compressor = extra("zstandard").ZstdCompressor(level=ZSTD_LEVEL)
                with open(path, "wb") as file, compressor.stream_writer(file) as stream:
                    for document in data or ():
                        stream.write(to_line(from_datatrove(document)))
            else:
                for _ in data or ():
                    pass
            shard.finish()
        except Exception as error:
            self._note(shard, error)
            raise
        finally:
            shard.close()
        yield from ()

    def _note(self, shard: Shard, error: Exception) -> None:
        note = {
            "message": str(error) or type(error).__name__,
            "expected": isinstance(error, KolmoError | OSError),
            "traceback": traceback.format_exc(),
        }
        with open(note_path(self.work, self.stage, shard.index), "w", encoding="utf-8") as file:
            json.dump(note, file)


def note_path(work: Work, stage: str, index: int) -> str:
    """Where a task leaves the reason why it failed."""
    return f"{work.stage(stage)}/failed-{index:05d}.json"


def pipeline(stage: Stage, work: Work, source: str | None) -> list[Any]:
    """The steps of datatrove for a stage.

    Args:
        stage: to run.
        work: the pipeline's folder.
        source: the stage whose documents come in; None: there is none.
    """
    task = Task(work, stage.name)
    steps: list[Any] = [] if source is None else [ReadShard(task, work, source)]
    for step in stage.steps:
        steps.append(step if isinstance(step, PipelineStep) else RunStep(task, step))
    return [*steps, WriteShard(task, work, stage.name, stage.keeps_documents)]
