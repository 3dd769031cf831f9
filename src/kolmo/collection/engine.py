"""Runs the stages of a pipeline with datatrove's executors: on this machine, with Slurm, with Ray.

Each stage is one run of an executor over its shards. A task that has ended is marked by datatrove (completions/), a
stage by `done.json`; neither is run again. What it is not: a scheduler; datatrove distributes the tasks.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from kolmo.collection.counts import Counts
from kolmo.collection.extras import extra
from kolmo.collection.stages import PARTIAL, Stage, Work, read_json, write_json
from kolmo.collection.workers import die_with_parent
from kolmo.errors import KolmoError
from kolmo.foreign import reason

ENGINES = ("local", "slurm", "ray")
POLL_SECONDS = 0.3  # between two looks at how many tasks have ended
SLURM_POLL_SECONDS = 5.0
SLURM_LOST_SECONDS = 120.0  # that a job may be unknown to squeue before its missing tasks count as failed
RAY_MEMORY_GIB = 1.0  # that is asked of Ray for a task

_FORKED = threading.Event()  # any object that lives on, and can be referred to weakly

Progress = Callable[[str, int, int], None]  # stage, tasks that have ended, all tasks


@dataclass(frozen=True)
class StageEngine:
    """Where tasks run.

    Attributes:
        kind: one of `ENGINES`.
        workers: tasks at a time.
        partition: of Slurm.
        time_limit: of a Slurm job, as sbatch takes it.
    """

    kind: str = "local"
    workers: int = 1
    partition: str = ""
    time_limit: str = "24:00:00"

    def __post_init__(self) -> None:
        if self.kind not in ENGINES:
            raise KolmoError(f"there is no engine {self.kind}; take one of {', '.join(ENGINES)}")
        if self.workers < 1:
            raise KolmoError(f"{self.workers} workers do no work; give 1 or more")
        if self.kind == "slurm" and not self.partition:
            raise KolmoError("the engine slurm needs a partition; give one as the argument slurm_partition")


def run_stages(stages: Sequence[Stage], work: Work, engine: StageEngine, progress: Progress | None = None) -> Counts:
    """Run what has not been run of the stages, in order.

    Args:
        stages: of one pipeline; their names differ.
        work: its folder, which may hold an earlier run's work.
        engine: where tasks run.
        progress: is told how many tasks of a stage have ended.

    Returns:
        the counts of all stages, steps in order. The documents are in `work.read(last_stage(stages), index)`.

    Raises:
        KolmoError: a task failed; the message names stage, shard and reason. The next run goes on there.
        MissingExtraError: datatrove is not installed.
    """
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names), f"two stages have one name: {names}"
    total = Counts()
    source: str | None = None
    shards = 0
    if engine.kind == "local" and engine.workers > 1:
        _preload(stages)
    for stage in stages:
        done = work.done(stage.name)
        if done is None:
            wanted = stage.shards(work) if callable(stage.shards) else stage.shards
            reads = source if stage.reads_documents else None
            if wanted is None:
                wanted = work.shards(reads) if reads is not None else shards
            count = wanted
            if reads is not None and count != work.shards(reads):
                raise KolmoError(f"stage {stage.name}: has {count} shards, and {reads}, which it reads, another number")
            done = _run_stage(stage, work, reads, count, engine, progress)
        shards = int(done["shards"])
        total.add(Counts.of(done["counts"]))
        if stage.keeps_documents:
            source = stage.name
    return total


def last_stage(stages: Sequence[Stage]) -> str:
    """The stage whose documents are the pipeline's."""
    return [stage.name for stage in stages if stage.keeps_documents][-1]


def _run_stage(
    stage: Stage, work: Work, source: str | None, shards: int, engine: StageEngine, progress: Progress | None
) -> dict[str, Any]:
    folder = work.stage(stage.name)
    os.makedirs(folder, exist_ok=True)
    _sweep(folder)
    if shards:
        extra("datatrove.executor.local")
        from kolmo.collection.tasks import pipeline

        executor = _executor(engine, pipeline(stage, work, source), shards, os.path.join(folder, "tasks"), stage.name)
        failure: Exception | None = None
        with _watched(folder, stage.name, shards, progress), _fork_allowed():
            try:
                executor.run()
                if engine.kind == "slurm":
                    _await_slurm(executor, folder, shards)
            except (KeyboardInterrupt, SystemExit):
                raise
            except Exception as error:  # whatever a step raises; what it was is told from the notes
                failure = error
        _check_complete(work, stage.name, shards, failure)
    counts = Counts()
    for index in range(shards):
        counts.add(Counts.of(read_json(work.counts(stage.name, index)) or {}))
    done = {"shards": shards, "counts": counts.record()}
    write_json(os.path.join(folder, "done.json"), done)
    if progress is not None:
        progress(stage.name, shards, shards)
    return done


def _executor(engine: StageEngine, steps: list[Any], tasks: int, folder: str, name: str) -> Any:
    workers = min(engine.workers, tasks)
    if engine.kind == "ray":
        _connect_ray()
        ray = extra("datatrove.executor.ray")
        return ray.RayPipelineExecutor(
            steps, tasks=tasks, workers=workers, logging_dir=folder, mem_per_cpu_gb=RAY_MEMORY_GIB
        )
    if engine.kind == "slurm":
        slurm = extra("datatrove.executor.slurm")
        return slurm.SlurmPipelineExecutor(
            steps,
            tasks=tasks,
            time=engine.time_limit,
            partition=engine.partition,
            workers=workers,
            job_name=f"kolmo-{name}",
            logging_dir=folder,
            qos="",
        )
    local = extra("datatrove.executor.local")
    _watch_forks()
    return local.LocalPipelineExecutor(steps, tasks=tasks, workers=workers, logging_dir=folder)


def _preload(stages: Sequence[Stage]) -> None:
    """Let the server that forks the workers import once what all of them need."""
    modules = {type(step).__module__ for stage in stages for step in stage.steps}
    context = extra("multiprocess").get_context("forkserver")
    context.set_forkserver_preload(
        ["kolmo.collection.tasks", "datatrove.executor.local", *sorted(modules - {"__main__"})]
    )


@cache
def _watch_forks() -> None:
    """Let the process that keeps datatrove's queue end with this one, even if this one is killed."""
    extra("multiprocess.util").register_after_fork(_FORKED, _end_with_parent)


def _end_with_parent(_: object) -> None:
    parent = extra("multiprocess").parent_process()
    die_with_parent(parent.pid if parent else None)


def _connect_ray() -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start one here; usage is not reported."""
    ray = extra("ray", "the engine ray")
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    more = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **more)
    except Exception as error:
        raise KolmoError(f"no Ray cluster at {address} ({reason(error)}); start one with `ray start --head`") from None


def _await_slurm(executor: Any, folder: str, shards: int) -> None:
    """Until all tasks have ended, or the job has."""
    import subprocess

    gone: float | None = None
    while _ended(folder) < shards:
        time.sleep(SLURM_POLL_SECONDS)
        asked = subprocess.run(
            ["squeue", "-h", "-j", str(executor.job_id)], capture_output=True, text=True, check=False, timeout=60
        )
        if asked.returncode == 0 and asked.stdout.strip():
            gone = None
        elif gone is None:
            gone = time.monotonic()
        elif time.monotonic() - gone > SLURM_LOST_SECONDS:
            return


def _check_complete(work: Work, stage: str, shards: int, failure: Exception | None) -> None:
    from kolmo.collection.tasks import note_path

    for index in range(shards):
        note = read_json(note_path(work, stage, index))
        if note is not None:
            said = str(note["message"])
            if note["expected"]:
                raise KolmoError(f"stage {stage}, shard {index}: {said}")
            last = str(note["traceback"]).strip().splitlines()[-1]
            raise KolmoError(
                f"stage {stage}, shard {index}: failed ({last}); {note_path(work, stage, index)} says where"
            ) from failure
    if failure is not None:
        raise KolmoError(f"stage {stage}: the engine failed ({reason(failure)}); run it again") from failure
    missing = [index for index in range(shards) if not os.path.exists(work.counts(stage, index))]
    if missing:
        raise KolmoError(
            f"stage {stage}: {len(missing)} of {shards} tasks did not end, first {missing[0]}; run it again"
        )


def _sweep(folder: str) -> None:
    """Remove what a killed run has left half-written, and the notes of failures."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(PARTIAL) or name.startswith("failed-"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(parent, name))


def _ended(folder: str) -> int:
    with suppress(FileNotFoundError):
        return len(os.listdir(os.path.join(folder, "tasks", "completions")))
    return 0


@contextmanager
def _watched(folder: str, stage: str, shards: int, progress: Progress | None) -> Iterator[None]:
    """Tell `progress`, now and then, how many tasks have ended."""
    if progress is None:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            progress(stage, _ended(folder), shards)

    progress(stage, _ended(folder), shards)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _fork_allowed() -> Iterator[None]:
    """Let datatrove fork a process that keeps a queue; that there are threads here does it no harm."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        yield
