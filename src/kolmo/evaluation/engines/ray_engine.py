"""Workers on a Ray cluster: actors, each with a copy of the model on some node, as one engine.

Actors need kolmo in the Python that Ray runs on their node, and the model's files at the same place on each; nothing is
sent there but requests. Where there is no cluster, one is started on this machine, and stopped in the end.

What it is not: it knows nothing of batches (`evaluation.engines.worker_pool` hands them out), and puts up no nodes.
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
from kolmo.evaluation.scorers.scorers import Options
from kolmo.installing import install, installed_version

PLACEMENT_SECONDS = 120.0  # seconds that actors have to find a place
CONNECT_SECONDS = 10.0  # seconds that a cluster has to answer
ON_DEVICES = ("hf", "gguf")  # kinds of models that a GPU is of use to
INSTALL = install("ray")


class RayEngine(WorkerPool):
    """Actors of a Ray cluster."""

    _started = False

    @classmethod
    def open(
        cls,
        spec: str,
        options: Options,
        *,
        address: str | None = None,
        workers: int | None = None,
        gpus: float | None = None,
    ) -> RayEngine:
        """An actor for each GPU of a cluster; where there are none, or the model has no use for them, for each node.

        Args:
            spec: of the model; its files must be at the same place on every node.
            options: of the model. Threads on CPUs are, by default, as many as an actor's share of its node.
            address: of the cluster; default: RAY_ADDRESS, and without that, or for "local", one that is started here.
                A program that is connected already stays where it is.
            workers: how many actors; default: as many as there is room for.
            gpus: for each actor; default: 1 where it is of use; 0: none.

        Raises:
            PredictorError: there is no such cluster, it has no room, or an actor cannot open the model.
            MissingExtraError: Ray is not installed, or something that the model needs.
        """
        ray = _ray()
        started = _connect(ray, address)
        try:
            spec = full_spec(spec)
            nodes = _nodes(ray)
            if gpus is None:
                useful = spec.partition(":")[0] in ON_DEVICES and not (options.device or "").startswith("cpu")
                gpus = 1.0 if useful and any(node.gpus for node in nodes) else 0.0
            asked = place_workers(nodes, workers=workers, gpus=gpus, threads=options.threads)
            actors = _settle(ray, asked, {node.id: node.name for node in nodes}, exact=workers is not None)
            each = [
                replace(
                    options,
                    device=options.device or (None if actor.claim.gpus else "cpu"),
                    threads=options.threads or actor.claim.cpus,
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
        """Ids of the nodes of the workers that live."""
        return [worker.node for worker in self._alive if isinstance(worker, RayWorker)]

    def close(self) -> None:
        """As in `WorkerPool`; a cluster that was started for it stops."""
        super().close()
        if self._started:
            self._started = False
            _ray().shutdown()


class RayWorker:
    """An actor."""

    far = True

    def __init__(self, ray: Any, claim: Placement) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.claim = claim
        self.node = ""
        self.where = "a node that is not known yet"
        self._ray = ray
        kind = ray.remote(
            num_cpus=claim.cpus,
            num_gpus=claim.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(claim.node, soft=False) if claim.node else "SPREAD",
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"score": 1, "urgent": 1},  # each has a thread and a queue of its own
        )
        self._actor = kind(_actor()).remote()
        self.place: Future[tuple[str, str]] = self._actor.place.remote().future()

    def settle(self, names: Mapping[str, str]) -> None:
        """To be called when `place` is known.

        Args:
            names: of nodes, by id.

        Raises:
            PredictorError: the actor has ended, or has not the kolmo that is here.
        """
        here = installed_version()
        try:
            self.node, version = self.place.result()
        except Exception as error:
            raise PredictorError(
                f"an actor of Ray ended before it began ({self.reason(error)}); see `ray status` and Ray's logs"
            ) from None
        self.where = f"node {names.get(self.node, self.node)}"
        if version != here:
            raise PredictorError(
                f"{self.where} has kolmo {version}, and {here} is here; install the same there: {INSTALL[:-1]}=={here}'"
            )

    def send(self, request: bytes, urgent: bool) -> Future[bytes]:
        """As in `Worker`."""
        try:
            method = self._actor.answer.options(concurrency_group="urgent" if urgent else "score")
            future: Future[bytes] = method.remote(request).future()
        except Exception as error:  # Ray itself is down
            future = Future()
            future.set_exception(error)
        return future

    def reason(self, error: Exception) -> str:
        """As in `Worker`."""
        return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"

    def end(self) -> None:
        """As in `Worker`."""
        with suppress(Exception):  # it is gone, or Ray is
            self._ray.kill(self._actor)

    def join(self) -> None:
        """Ray sees to it."""


def _actor() -> type:
    """The class of the actors. Ray sends one that is made within a function as code, so it starts without kolmo too."""

    class Actor:
        def __init__(self) -> None:
            import threading

            self.server: Any = None
            self.turn = threading.Lock()  # a model serves one thread at a time

        def place(self) -> tuple[str, str]:
            """The id of its node, and the version of kolmo there."""
            import ray

            try:
                from kolmo.evaluation.engines.worker_pool import ModelServer
                from kolmo.installing import installed_version

                self.server, version = ModelServer(), installed_version()
            except ImportError as error:
                version = f"not installed ({error})"
            return ray.get_runtime_context().get_node_id(), version

        def answer(self, request: bytes) -> bytes:
            """As of the server."""
            with self.turn:
                answer: bytes = self.server.answer(request)
                return answer

    return Actor


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(f"the engine ray needs Ray ({error}); {INSTALL}") from None
    return ray


def _settle(ray: Any, asked: Iterable[Placement], names: Mapping[str, str], *, exact: bool) -> list[RayWorker]:
    """Actors that have found their places.

    Args:
        ray: the module.
        asked: what they claim.
        names: of nodes, by id.
        exact: whether all must; else some may find none, as others work on the cluster.
    """
    actors: list[RayWorker] = []
    try:
        for claim in asked:
            actors.append(RayWorker(ray, claim))
        wait([actor.place for actor in actors], PLACEMENT_SECONDS)
        settled = [actor for actor in actors if actor.place.done()]
        if not settled or (exact and len(settled) < len(actors)):
            raise PredictorError(
                f"the Ray cluster has room for {len(settled)} of {len(actors)} workers at the moment, each with "
                f"{actors[0].claim.cpus} CPUs and {actors[0].claim.gpus:g} GPUs; ask for less, or wait"
            )
        for actor in actors:
            if actor.place.done():
                actor.settle(names)
            else:
                actor.end()
    except BaseException:
        for actor in actors:
            actor.end()
        raise
    return settled


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster, or start one; whether that was done."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = address == "local"
    before = dict(os.environ)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own:  # its workers are not to come after all else that runs here, as Ray would have it
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        _knock(address)
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


def _knock(address: str) -> None:
    """Whether anybody is there; Ray itself asks for many minutes.

    Raises:
        OSError: nobody.
    """
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _nodes(ray: Any) -> list[Node]:
    """The nodes that live."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            found.append(Node(node["NodeID"], name, has.get("CPU", 0.0), has.get("GPU", 0.0)))
    return found


def _absolute(spec: str) -> str:
    """A spec that names the same file or folder from anywhere; actors have working folders of their own."""
    kind, _, argument = spec.partition(":")
    return f"{kind}:{_path(argument)}" if kind in ON_DEVICES else spec


def _path(name: str) -> str:
    """What is a path here, from the root; another name as it is."""
    return os.path.abspath(name) if os.path.exists(name) else name
