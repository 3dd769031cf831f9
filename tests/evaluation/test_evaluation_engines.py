"""Engines: here, in processes, on Ray. The same numbers from each, whatever ends in between."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from kolmo.errors import CorruptError, KolmoError, MissingExtraError, PredictorError
from kolmo.evaluation.engines import ray_engine, workers
from kolmo.evaluation.engines import worker_pool as pool
from kolmo.evaluation.engines.engines import Engine, LocalEngine
from kolmo.evaluation.engines.placement import Node, Placement, place_workers
from kolmo.evaluation.engines.ray_engine import RayEngine
from kolmo.evaluation.engines.worker_pool import BATCHES_PER_WORKER, ModelServer
from kolmo.evaluation.engines.workers import ProcessEngine
from kolmo.evaluation.opening import open_scorer
from kolmo.evaluation.scorers.scorers import ScorerOptions
from kolmo.evaluation.windows.passages import Nats, PassageBatch, ScoredPassage

SPEC = "cm:1"
COUNT = 30  # batches
TEXTS = [f"Text {k} of some, {'and so on, ' * (k % 7)}déjà vu.\n" * 20 for k in range(COUNT)]
posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node of Ray on this machine, said to have four CPUs."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'kolmo-codelength[ray]'")
    cluster_utils: Any = importlib.import_module("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else its workers come last on a busy machine
        made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        try:
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def on_ray(cluster: Any) -> Iterator[RayEngine]:
    """Two actors with one CPU each. While it is there, this process is connected to the cluster."""
    with closing(RayEngine.open(SPEC, ScorerOptions(threads=1), address=cluster.address, workers=2)) as opened:
        yield opened


@pytest.fixture(params=["local", "processes", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    fixture: Engine = request.getfixturevalue({"ray": "on_ray"}.get(request.param, request.param))
    return fixture


@pytest.fixture
def local() -> LocalEngine:
    return LocalEngine(open_scorer(SPEC))


@pytest.fixture
def processes() -> Iterator[ProcessEngine]:
    with closing(ProcessEngine.open(SPEC, ScorerOptions(), ["cpu", "cpu"])) as opened:
        yield opened


def batch(place: int) -> PassageBatch:
    """A text as a batch of two passages."""
    data = np.frombuffer(TEXTS[place].encode(), np.uint8).astype(np.int64)
    half = len(data) // 2
    first, second = data[:half], data[half:]
    place *= 10000
    return [ScoredPassage(first, half, place), ScoredPassage(second, len(second), place + half)]


def all_batches() -> Iterator[PassageBatch]:
    return map(batch, range(COUNT))


def by_place(results: Iterator[tuple[PassageBatch, list[Nats]]]) -> dict[int, bytes]:
    found = {}
    for passages, costs in results:
        for passage, nats in zip(passages, costs, strict=True):
            assert nats.shape == (passage.scored,)
            assert nats.dtype == np.float32
            assert passage.place not in found
            nats += 0  # it is the caller's own
            found[passage.place] = nats.tobytes()
    return found


@pytest.fixture(scope="module")
def right() -> dict[int, bytes]:
    return by_place(LocalEngine(open_scorer(SPEC)).run(all_batches()))


# -- the contract --


def test_engines_agree_to_the_bit(engine: Engine, right: dict[int, bytes]) -> None:
    assert by_place(engine.run(all_batches())) == right
    backwards = map(batch, reversed(range(COUNT)))
    assert by_place(engine.run(backwards)) == right
    assert by_place(engine.run([])) == {}


def test_engines_say_what_the_scorer_says(engine: Engine) -> None:
    scorer = open_scorer(SPEC)
    assert engine.identity == scorer.identity
    assert (engine.start, engine.window, engine.whole) == (scorer.start, scorer.window, scorer.whole)
    assert engine.budget(100)[1] == scorer.budget(100)[1]  # the other is the number of its threads
    assert engine.workers in (1, 2)
    for texts in (TEXTS, ["", "one", ""], []):
        found = engine.tokenise(texts, "exact")
        assert [tokens.ids.tolist() for tokens in found] == [list(text.encode()) for text in texts]


def test_batches_are_drawn_as_they_are_needed(engine: Engine, right: dict[int, bytes]) -> None:
    drawn = 0

    def draw() -> Iterator[PassageBatch]:
        nonlocal drawn
        for made in all_batches():
            drawn += 1
            if drawn % 10 == 0:
                engine.tokenise(["in between"] * 9, "exact")  # as a run does
            yield made

    found = {}
    assert drawn == 0
    for done, (passages, nats) in enumerate(engine.run(draw())):
        assert drawn - done <= BATCHES_PER_WORKER * engine.workers + 1
        found.update(by_place(iter([(passages, nats)])))
    assert found == right


def test_a_run_that_stops_early_leaves_an_engine_that_works(engine: Engine, right: dict[int, bytes]) -> None:
    with closing(engine.run(all_batches())) as results:
        next(results)
    assert by_place(engine.run(all_batches())) == right


def test_an_error_of_the_drawing_comes_through(engine: Engine) -> None:
    def draw() -> Iterator[PassageBatch]:
        yield batch(0)
        raise KolmoError("the corpus is damaged")

    with pytest.raises(KolmoError, match="the corpus is damaged"):
        list(engine.run(draw()))


# -- errors of a model --


@pytest.mark.parametrize("error", [PredictorError("a"), MissingExtraError("b"), CorruptError("c", 7)])
def test_errors_come_over_as_they_are(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    found = error_of(error, monkeypatch, far=False)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_errors_of_other_machines_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    found = error_of(MissingExtraError("no torch"), monkeypatch, far=True)
    assert type(found) is MissingExtraError
    assert str(found) == "node 7: no torch"


def test_errors_of_others_come_over_as_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class StubbornError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("stubborn")

    for error, text in (
        (StubbornError(1, 2), "StubbornError: stubborn"),
        (OSError(2, "d"), "d"),
        (IndexError("first\nsecond"), "IndexError: first"),
        (MemoryError(), "there is not enough memory"),
        (RecursionError("deep"), "RecursionError: the data is nested too deeply"),
    ):
        found = error_of(error, monkeypatch, far=False)
        assert type(found) is PredictorError
        assert str(found) == f"the model: fails ({text}); it cannot be evaluated here"
        assert "in fail" in str(found.__cause__)  # the traceback, for those who look for it


def error_of(error: Exception, monkeypatch: pytest.MonkeyPatch, *, far: bool) -> BaseException:
    """What the driver raises of what a worker's model raises."""

    def fail(server: ModelServer, block: int) -> None:
        raise error

    class Place:
        where = "node 7"

    place: Any = Place()
    place.far = far
    monkeypatch.setattr(ModelServer, "budget", fail)
    with pytest.raises(KolmoError) as caught:
        pool._value(place, ModelServer().answer(pickle.dumps(("budget", (1,)))))
    return caught.value


@pytest.mark.parametrize("spec", ["cm:77", "hf:/no/such/folder"])
def test_a_model_that_cannot_be_opened(spec: str) -> None:
    with pytest.raises(KolmoError) as here:
        open_scorer(spec)
    with pytest.raises(type(here.value)) as there:
        ProcessEngine.open(spec, ScorerOptions(), ["cpu", "cpu"])
    assert str(there.value) == str(here.value)


def test_no_devices() -> None:
    with pytest.raises(PredictorError, match="no devices"):
        ProcessEngine.open(SPEC, ScorerOptions(), [])


# -- processes that end --


@posix
def test_a_killed_worker_leaves_its_batches_to_the_other(processes: ProcessEngine, right: dict[int, bytes]) -> None:
    first, second = processes.processes
    os.kill(first, signal.SIGSTOP)  # so that it holds batches when it ends
    results = processes.run(all_batches())
    found = by_place(iter([next(results)]))
    os.kill(first, signal.SIGKILL)
    assert {**found, **by_place(results)} == right
    assert processes.processes == [second]
    assert processes.workers == 1
    assert len(processes.tokenise(TEXTS, "exact")) == COUNT


@posix
def test_no_worker_left(processes: ProcessEngine) -> None:
    results = processes.run(all_batches())
    next(results)
    for number in processes.processes:
        os.kill(number, signal.SIGKILL)
    with pytest.raises(
        PredictorError, match=r"a worker on cpu ended \(killed by SIGKILL\), .* run again to resume"
    ) as caught:
        list(results)
    assert "\n" not in str(caught.value)
    with pytest.raises(PredictorError, match="none is left"):
        processes.tokenise(TEXTS, "exact")
    assert list(processes.run([])) == []


@posix
def test_a_worker_that_ends_while_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PredictorError, match=r"a worker on cpu ended while it opened cm:1 \(exit status 1\)"):
        ProcessEngine.open(SPEC, ScorerOptions(), ["cpu", "cpu"])


@posix
def test_nothing_is_left_of_an_engine_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "END_SECONDS", 0.2)
    opened = ProcessEngine.open(SPEC, ScorerOptions(), ["cpu", "cpu"])
    numbers = opened.processes
    results = opened.run(all_batches())
    next(results)
    os.kill(numbers[0], signal.SIGSTOP)  # deaf to all but SIGKILL
    opened.close()
    assert not any(map(lives, numbers))
    with pytest.raises(PredictorError, match="the engine was closed"):
        list(results)
    opened.close()


SCRIPT = """
import itertools, os, sys, time
import numpy as np
from kolmo.evaluation.windows.passages import ScoredPassage
from kolmo.evaluation.scorers.scorers import ScorerOptions
from kolmo.evaluation.engines.workers import ProcessEngine

tokens = np.zeros(100_000, np.int64)
engine = ProcessEngine.open("cm:1", ScorerOptions(), ["cpu", "cpu"])
print(*engine.processes, flush=True)
if "leave" in sys.argv:
    sys.exit(0)
try:
    for done, _ in enumerate(engine.run([ScoredPassage(tokens, len(tokens), 0)] for _ in itertools.count())):
        if done == 3:
            print("at work", flush=True)
finally:
    engine.close()
"""


@posix
@pytest.mark.parametrize("sign", ["leave", "SIGINT", "SIGTERM", "SIGKILL"])
def test_workers_end_with_their_driver(sign: str) -> None:
    with subprocess.Popen(  # no main module that could be imported again, and no guard in it
        [sys.executable, "-W", "error", "-c", SCRIPT, sign],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        assert driver.stdout
        numbers = [int(number) for number in driver.stdout.readline().split()]
        assert len(numbers) == 2
        if sign == "SIGINT":
            assert driver.stdout.readline() == "at work\n"
            os.killpg(driver.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        elif sign != "leave":
            assert driver.stdout.readline() == "at work\n"
            os.kill(driver.pid, signal.Signals[sign])
        _, errors = driver.communicate(timeout=20)
    wait_until(lambda: not any(map(lives, numbers)))
    if sign == "SIGINT":
        assert errors.count("Traceback") == 1
        assert errors.splitlines()[-1] == "KeyboardInterrupt"
    else:
        assert errors == ""


def lives(number: int) -> bool:
    """Whether a process is there, and not just waits for its parent to look."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True).stdout.strip()
    return bool(found) and not found.startswith("Z")


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("waited for ten seconds")


def test_threads_of_the_cpu_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ScorerOptions] = []

    class Nothing:
        def __init__(self, where: str) -> None:
            self.where = where

    def make(self: ProcessEngine, workers: list[Any], spec: str, options: list[ScorerOptions]) -> None:
        seen[:] = options

    monkeypatch.setattr(workers, "ProcessWorker", Nothing)
    monkeypatch.setattr(ProcessEngine, "__init__", make)
    monkeypatch.setattr(workers, "available_cores", lambda: 8)

    def threads(given: int, *devices: str) -> list[tuple[str | None, int]]:
        ProcessEngine.open(SPEC, ScorerOptions(threads=given), devices)
        return [(options.device, options.threads) for options in seen]

    assert threads(0, "cpu", "cpu") == [("cpu", 4)] * 2
    assert threads(3, "cpu", "cpu") == [("cpu", 3)] * 2
    assert threads(0, "cuda:0", "cuda:1") == [("cuda:0", 0), ("cuda:1", 0)]
    assert threads(0, "cpu") == [("cpu", 0)]


# -- Ray --


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kolmo-codelength\[ray\]'"):
        RayEngine.open(SPEC, ScorerOptions())


def test_placements_without_gpus() -> None:
    small, large, none = Node("s", "small", 2, 0), Node("l", "large", 8, 0), Node("n", "none", 0, 0)
    assert place_workers([small, large, none], workers=None, gpus=0) == [Placement(2, node="s"), Placement(8, node="l")]
    assert place_workers([small, large], workers=2, gpus=0) == [Placement(4, node="l")] * 2
    assert [placed.node for placed in place_workers([small, replace(small, id="t")], workers=2, gpus=0)] == [
        "s",
        "t",
    ]
    assert [placed.node for placed in place_workers([small, large], workers=5, gpus=0)] == ["s"] + ["l"] * 4
    assert (
        place_workers([small, large], workers=5, gpus=0, threads=2)
        == [Placement(2, node="s")] + [Placement(2, node="l")] * 4
    )
    for nodes, count, threads in [([none], None, 0), ([small], 3, 0), ([large], 3, 3)]:
        with pytest.raises(PredictorError, match="CPUs"):
            place_workers(nodes, workers=count, gpus=0, threads=threads)


def test_placements_of_gpus() -> None:
    nodes = [Node("a", "a", 4, 2), Node("b", "b", 64, 3), Node("c", "c", 64, 0)]
    assert place_workers(nodes, workers=None, gpus=1) == [Placement(0, 1)] * 5
    assert place_workers(nodes, workers=2, gpus=1) == [Placement(0, 1)] * 2
    assert place_workers(nodes, workers=None, gpus=2) == [Placement(0, 2)] * 2
    assert place_workers(nodes, workers=None, gpus=0.5) == [Placement(0, 0.5)] * 10
    for count, gpus in [(6, 1), (None, 4)]:
        with pytest.raises(PredictorError, match="has 5 GPUs, too few"):
            place_workers(nodes, workers=count, gpus=gpus)


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'kolmo-codelength[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(PredictorError, match=r"no Ray cluster at 127\.0\.0\.1:1 .*ray start --head"):
        RayEngine.open(SPEC, ScorerOptions(), address="127.0.0.1:1")


def test_which_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool, str | None]] = []

    class Ray:
        connected = False

        def is_initialized(self) -> bool:
            return self.connected

        def init(
            self, address: str, *, logging_level: int, log_to_driver: bool, include_dashboard: bool = True
        ) -> None:
            assert not log_to_driver
            seen.append((address, include_dashboard, os.environ.get("RAY_USAGE_STATS_ENABLED")))

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_engine._connect(Ray(), None)
    assert ray_engine._connect(Ray(), "auto")
    monkeypatch.setenv("RAY_ADDRESS", "cluster")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    assert ray_engine._connect(Ray(), None)
    assert ray_engine._connect(Ray(), "local")
    assert seen == [("local", False, "0"), ("auto", True, "0"), ("cluster", True, "1"), ("local", False, "1")]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    there = Ray()
    there.connected = True
    assert not ray_engine._connect(there, "elsewhere")
    assert len(seen) == 4


def test_an_actor_that_cannot_open_the_model_says_where(on_ray: RayEngine) -> None:
    with pytest.raises(PredictorError, match=r"^node .*: hf:/no/such/folder: no such folder"):
        RayEngine.open("hf:/no/such/folder", ScorerOptions(threads=1), workers=1)
    assert on_ray.workers == 2  # and the connection is still there
    assert len(on_ray.tokenise(TEXTS, "exact")) == COUNT


def test_no_room_on_the_cluster(on_ray: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "PLACEMENT_SECONDS", 1.0)
    with pytest.raises(PredictorError, match="room for 0 of 1 workers at the moment, each with 4 CPUs and 0 GPUs"):
        RayEngine.open(SPEC, ScorerOptions(), workers=1)


def test_a_node_that_ends_leaves_its_batches_to_the_other(
    cluster: Any, on_ray: RayEngine, right: dict[int, bytes]
) -> None:
    node = cluster.add_node(num_cpus=1)
    with closing(RayEngine.open(SPEC, ScorerOptions(threads=1))) as opened:
        assert sorted(opened.nodes) == sorted([cluster.head_node.node_id, node.node_id])
        drawn, found, until = 0, 0, time.monotonic() + 30

        def draw() -> Iterator[PassageBatch]:
            nonlocal drawn
            while drawn < COUNT or (
                opened.workers == 2 and time.monotonic() < until
            ):  # an actor outlives its node a bit
                yield batch(drawn % COUNT)
                drawn += 1

        for found, result in enumerate(opened.run(draw()), 1):
            if found == 1:
                cluster.remove_node(node, allow_graceful=False)
            assert by_place(iter([result])).items() <= right.items()
        assert found == drawn
        assert opened.nodes == [cluster.head_node.node_id]
        for worker in opened._all:
            worker.end()
        with pytest.raises(PredictorError, match=r"on node .* ended \(.*\), and none is left; .* run again") as caught:
            deque(opened.run(map(batch, cycle(range(COUNT)))), maxlen=0)
        assert "\n" not in str(caught.value)
    assert on_ray.workers == 2
