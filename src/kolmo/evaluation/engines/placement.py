"""Placement: how many workers a cluster has room for, and which resources each requests.

What it is not: it does not talk to Ray (`evaluation.engines.ray_engine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kolmo.errors import PredictorError


@dataclass(frozen=True)
class Node:
    """A node of a cluster: its id, the name to show, and its numbers of CPUs and GPUs."""

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Placement:
    """The resources that a Ray actor requests.

    Attributes:
        cpus, gpus: the number of CPUs and of GPUs.
        node: the id of the node to run on; None: Ray spreads the actors over the nodes with free resources.
    """

    cpus: int
    gpus: float = 0.0
    node: str | None = None


def place_workers(nodes: Sequence[Node], *, workers: int | None, gpus: float, threads: int = 0) -> list[Placement]:
    """Place one worker on each GPU, or, without GPUs, one on each node with all of its CPUs.

    Args:
        nodes: the nodes of the cluster.
        workers: the number of workers; None: one for each GPU, or for each node.
        gpus: the number of GPUs for each worker; with 1/2, two workers share one.
        threads: the number of CPUs for each worker without a GPU; 0: the workers of a node share its CPUs.

    Returns:
        the resources of each worker.

    Raises:
        PredictorError: the cluster does not have enough CPUs or GPUs.

    Example:
        >>> place_workers([Node("a", "first", cpus=8, gpus=0)], workers=2, gpus=0)
        [Placement(cpus=4, gpus=0.0, node='a'), Placement(cpus=4, gpus=0.0, node='a')]
    """
    if gpus:
        rooms = sum(int(node.gpus // gpus) if gpus >= 1 else int(node.gpus) * int(1 / gpus) for node in nodes)
        if not rooms or (workers or 0) > rooms:
            raise PredictorError(
                f"the Ray cluster has {sum(node.gpus for node in nodes):g} GPUs, too few for {workers or 1} workers "
                f"with {gpus:g} each; request fewer"
            )
        return [Placement(0, gpus)] * (workers or rooms)
    nodes = [node for node in nodes if node.cpus >= 1]
    if not nodes:
        raise PredictorError("the Ray cluster has no CPUs for workers; add a node with CPUs, or give the workers GPUs")
    numbers = {node.id: 0 if workers else 1 for node in nodes}
    for _ in range(workers or 0):  # each goes to the node where it gets the most CPUs
        numbers[max(nodes, key=lambda node: node.cpus / (numbers[node.id] + 1)).id] += 1
    found = []
    for node in nodes:
        number = numbers[node.id]
        found += [Placement(threads or int(node.cpus) // number, node=node.id) for _ in range(number)]
        if sum(placed.cpus or 1 for placed in found if placed.node == node.id) > node.cpus:
            raise PredictorError(
                f"the Ray cluster has {sum(node.cpus for node in nodes):g} CPUs on {len(nodes)} nodes, too few for "
                f"{workers or len(nodes)} workers with {threads or 1} each; request fewer"
            )
    return found
