"""An engine of actors on a Ray cluster, each with a copy of the model on some node.

Actors need kolmo in the Python that Ray runs on their node, and the files of the model at the same path on every node;
only requests are sent. If there is no cluster, one is started on this machine, and stopped at the end.

What it is not: it does not distribute batches (`evaluation.engines.worker_pool`), and does not start nodes.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kolmo.errors import MissingExtraError, PredictorError
from kolmo.evaluation.engines.placement import Node, Placement, place_workers
from kolmo.evaluation.engines.worker_pool import WorkerPool
from kolmo.evaluation.opening import full_spec
from kolmo.evaluation.scorers.scorers import ScorerOptions
from kolmo.installing import install, installed_version

PLACEMENT_SECONDS = 120.0  # time that Ray has to start the actors
CONNECT_SECONDS = 10.0  # time that a cluster has to accept a connection
GPU_KINDS = ("hf", "gguf")  # kinds of models that can use a GPU
INSTALL_RAY = install("ray")


class RayEngine(WorkerPool):
    """A worker pool of Ray actors."""

    _started = False

    @classmethod
    def open(
        cls,
        spec: str,
        options: ScorerOptions,
        *,
        address: str | None = None,
        workers: int | None = None,
        gpus: float | None = None,
    ) -> RayEngine:
        """Start one actor for each GPU of a cluster, or for each node if there are no GPUs or the model uses none.

        Args:
            spec: the model specification; its files must be at the same path on every node.
            options: the options of the model. By default, an actor without a GPU uses its share of the node's CPUs.
            address: the address of the cluster; default: RAY_ADDRESS. Without either, or with "local", a cluster is
                started on this machine. A program that is connected already uses its own cluster.
            workers: the number of actors; default: as many as the cluster has room for.
            gpus: the number of GPUs for each actor; default: 1 if the model can use one, else 0.

        Raises:
            PredictorError: the cluster cannot be reached or has no room, or an actor cannot open the model.
            MissingExtraError: Ray, or a package that the model needs, is not installed.
        """
        ray = _ray()
        started = _connect(ray, address)
        try:
            spec = full_spec(spec)
            nodes = _nodes(ray)
            if gpus is None:
                useful = spec.partition(":")[0] in GPU_KINDS and not (options.device or "").startswith("cpu")
                gpus = 1.0 if useful and any(node.gpus for node in nodes) else 0.0
            placements = place_workers(nodes, workers=workers, gpus=gpus, threads=options.threads)
            actors = _start_actors(ray, placements, {node.id: node.name for node in nodes}, exact=workers is not None)
            each = [
                replace(
                    options,
                    device=options.device or (None if actor.placement.gpus else "cpu"),
                    threads=options.threads or actor.placement.cpus,
                    cache_dir=options.cache_dir and os.path.abspath(options.cache_dir),
                    tokenizer=options.tokenizer and _path(options.tokenizer),
                )
                for actor in actors
            ]
            engine = cls(actors, _absolute(spec), each)
        except BaseException:
            if started:
                ray.shutdown()
            raise
        engine.identity = replace(engine.identity, spec=spec)
        engine._started = started
        return engine

    @property
    def nodes(self) -> list[str]:
        """Node ids of the workers that have not ended."""
        return [worker.node for worker in self._alive if isinstance(worker, RayWorker)]

    def close(self) -> None:
        """As in `WorkerPool`; a cluster that `open` has started is stopped."""
        super().close()
        if self._started:
            self._started = False
            _ray().shutdown()


class RayWorker:
    """A worker that is a Ray actor.

    Args:
        ray: the module `ray`.
        placement: the resources that the actor requests.
    """

    far = True

    def __init__(self, ray: Any, placement: Placement) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.placement = placement
        self.node = ""
        self.where = "an unknown node"
        self._ray = ray
        kind = ray.remote(
            num_cpus=placement.cpus,
            num_gpus=placement.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(placement.node, soft=False)
            if placement.node
            else "SPREAD",
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"score": 1, "urgent": 1},  # each group has its own thread and queue
        )
        self._actor = kind(_actor()).remote()
        self.place: Future[tuple[str, str]] = self._actor.place.remote().future()

    def check_place(self, names: Mapping[str, str]) -> None:
        """Record the node of the actor, and check its version of kolmo. Called when the future `place` is done.

        Args:
            names: the names of nodes, by id.

        Raises:
            PredictorError: the actor has ended, or runs another version of kolmo.
        """
        here = installed_version()
        try:
            self.node, version = self.place.result()
        except Exception as error:
            raise PredictorError(
                f"a Ray actor ended while it started ({self.reason(error)}); see `ray status` and Ray's logs"
            ) from None
        self.where = f"node {names.get(self.node, self.node)}"
        if version != here:
            raise PredictorError(
                f"{self.where} has kolmo {version}, and this machine has {here}; install the same version there: "
                f"{INSTALL_RAY[:-1]}=={here}'"
            )

    def send(self, request: bytes, urgent: bool) -> Future[bytes]:
        """As in `Worker`."""
        try:
            method = self._actor.answer.options(concurrency_group="urgent" if urgent else "score")
            future: Future[bytes] = method.remote(request).future()
        except Exception as error:  # Ray itself has failed
            future = Future()
            future.set_exception(error)
        return future

    def reason(self, error: Exception) -> str:
        """As in `Worker`."""
        return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"

    def end(self) -> None:
        """As in `Worker`."""
        with suppress(Exception):  # the actor or Ray has ended already
            self._ray.kill(self._actor)

    def join(self) -> None:
        """Nothing to do: Ray waits for its actors."""


def _actor() -> type:
    """The class of the actors. Ray sends a class made in a function as code, so actors start even without kolmo."""

    class Actor:
        def __init__(self) -> None:
            import threading

            self.server: Any = None
            self.turn = threading.Lock()  # a scorer must be called from one thread at a time

        def place(self) -> tuple[str, str]:
            """The id of the actor's node, and the version of kolmo there."""
            import ray

            try:
                from kolmo.evaluation.engines.worker_pool import ModelServer
                from kolmo.installing import installed_version

                self.server, version = ModelServer(), installed_version()
            except ImportError as error:
                version = f"not installed ({error})"
            return ray.get_runtime_context().get_node_id(), version

        def answer(self, request: bytes) -> bytes:
            """As in `ModelServer`."""
            with self.turn:
                answer: bytes = self.server.answer(request)
                return answer

    return Actor


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(f"the engine ray needs Ray ({error}); {INSTALL_RAY}") from None
    return ray


def _start_actors(
    ray: Any, placements: Iterable[Placement], names: Mapping[str, str], *, exact: bool
) -> list[RayWorker]:
    """Start actors, and wait until Ray has placed them.

    Args:
        ray: the module `ray`.
        placements: the resources of each actor.
        names: the names of nodes, by id.
        exact: whether all actors must be placed; else those for which the cluster has no room are dropped.
    """
    actors: list[RayWorker] = []
    try:
        for placement in placements:
            actors.append(RayWorker(ray, placement))
        wait([actor.place for actor in actors], PLACEMENT_SECONDS)
        placed = [actor for actor in actors if actor.place.done()]
        if not placed or (exact and len(placed) < len(actors)):
            raise PredictorError(
                f"the Ray cluster has room for {len(placed)} of {len(actors)} workers at the moment, each with "
                f"{actors[0].placement.cpus} CPUs and {actors[0].placement.gpus:g} GPUs; request fewer, or wait"
            )
        for actor in actors:
            if actor.place.done():
                actor.check_place(names)
            else:
                actor.end()
    except BaseException:
        for actor in actors:
            actor.end()
        raise
    return placed


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster, or start one. Returns False if this program was connected already."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = address == "local"
    before = dict(os.environ)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own:  # Ray would run its workers at a lower priority than other processes
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        _check_reachable(address)
        more = {"include_dashboard": False} if own else {}
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **more)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "see the logs of Ray's session" if own else "start one with `ray start --head`"
        raise PredictorError(f"no Ray cluster at {address} ({reason}); {remedy}") from None
    finally:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
            if name not in before:
                os.environ.pop(name, None)
    return True


def _check_reachable(address: str) -> None:
    """Connect to an address once, since Ray itself would retry for many minutes.

    Raises:
        OSError: the address cannot be reached.
    """
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _nodes(ray: Any) -> list[Node]:
    """The nodes of the cluster that are alive."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            found.append(Node(node["NodeID"], name, resources.get("CPU", 0.0), resources.get("GPU", 0.0)))
    return found


def _absolute(spec: str) -> str:
    """The specification with an absolute path, since actors have other working folders."""
    kind, _, argument = spec.partition(":")
    return f"{kind}:{_path(argument)}" if kind in GPU_KINDS else spec


def _path(name: str) -> str:
    """The absolute path, if it exists; any other name as it is."""
    return os.path.abspath(name) if os.path.exists(name) else name
