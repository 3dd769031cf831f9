"""The bitshift trellis in networks, with least error and unbiased.

    KOLMO_DATA=DIR python benchmarks/weights_bitshift.py --network resnet-20 --network resnet-56 [--images N]

The networks are those of weights_networks.py; only the matrices that bitshift is made for are coded. What it is not:
the calibrated trellis, which is in weights_calibrated.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from harness.tables import table
from kolmo.hyperfunctions.bitshift import Bitshift, is_made_for
from weights_networks import Network, resnet
from weights_networks import stories as own_stories

KINDS = {"least error": False, "unbiased": True}


def energy(network: Network, sizes: list[int]) -> list[list[str]]:
    """Rows: what is added to each score of a network."""
    before, found = network.score(network.weights), []
    for bits in sizes:
        for kind, unbiased in KINDS.items():
            function, decoded = Bitshift(bits, unbiased=unbiased), {}
            for name, weights in network.coded.items():
                matrix = np.ascontiguousarray(weights.reshape(len(weights), -1))
                if is_made_for(matrix.shape[1]):
                    back = function.decode(function.encode(matrix), (matrix.shape[0], matrix.shape[1]))
                    decoded[name] = back.reshape(weights.shape)
            after = network.score({**network.weights, **decoded})
            added = ", ".join(f"{after[name] - before[name]:+.4f} {name}" for name in before)
            found.append([network.name, f"{bits}", kind, added])
            print(*found[-1], flush=True)
    return found


def main() -> None:
    """Measure and print."""
    data = Path(os.environ["KOLMO_DATA"])
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", action="append", choices=["resnet-20", "resnet-56", "stories"])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4])
    options = parser.parse_args()
    makers: dict[str, Callable[[], Network]] = {
        "resnet-20": partial(resnet, data, 20, options.images),
        "resnet-56": partial(resnet, data, 56, options.images),
        "stories": own_stories,
    }
    rows = [row for name in options.network or ["resnet-20"] for row in energy(makers[name](), options.bits)]
    print(table(["network", "bit", "method", "added"], rows))


if __name__ == "__main__":
    main()
