"""Claims: how many workers a cluster has room for, and what each asks of it.

What it is not: it asks nothing itself (`evaluation.engines.ray_engine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kolmo.errors import PredictorError


@dataclass(frozen=True)
class Node:
    """A node of a cluster: its id, its name for people, and what it has."""

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Placement:
    """What an actor asks of Ray.

    Attributes:
        cpus, gpus: as many.
        node: where it is to be; None: far from the others, where there is room.
    """

    cpus: int
    gpus: float = 0.0
    node: str | None = None


def place_workers(nodes: Sequence[Node], *, workers: int | None, gpus: float, threads: int = 0) -> list[Placement]:
    """What the actors claim: one for each GPU, or without GPUs one for each node, which is all of its CPUs.

    Args:
        nodes: that have something.
        workers: how many actors; None: as many as there is room for on GPUs, or one for each node.
        gpus: for each; 1/2: two share one.
        threads: for each, where it has no GPU; 0: the actors of a node share its CPUs.

    Raises:
        PredictorError: the cluster does not have that much.
    """
    if gpus:
        rooms = sum(int(node.gpus // gpus) if gpus >= 1 else int(node.gpus) * int(1 / gpus) for node in nodes)
        if not rooms or (workers or 0) > rooms:
            raise PredictorError(
                f"the Ray cluster has {sum(node.gpus for node in nodes):g} GPUs, too few for {workers or 1} workers "
                f"with {gpus:g} each; ask for less"
            )
        return [Placement(0, gpus)] * (workers or rooms)
    nodes = [node for node in nodes if node.cpus >= 1]
    if not nodes:
        raise PredictorError("the Ray cluster has no CPUs to work on; add a node that has, or give workers GPUs")
    numbers = {node.id: 0 if workers else 1 for node in nodes}
    for _ in range(workers or 0):  # where it gets the most
        numbers[max(nodes, key=lambda node: node.cpus / (numbers[node.id] + 1)).id] += 1
    found = []
    for node in nodes:
        number = numbers[node.id]
        found += [Placement(threads or int(node.cpus) // number, node=node.id) for _ in range(number)]
        if sum(claim.cpus or 1 for claim in found if claim.node == node.id) > node.cpus:
            raise PredictorError(
                f"the Ray cluster has {sum(node.cpus for node in nodes):g} CPUs on {len(nodes)} nodes, too few for "
                f"{workers or len(nodes)} workers with {threads or 1} each; ask for less"
            )
    return found
