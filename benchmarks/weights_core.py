"""Hyperfunctions on made matrices: distance to the Gaussian rate-distortion bound, and CPU time, by states and bits.

    python benchmarks/weights_core.py

The gap is 10 log10(D / 2^(-2R)) dB: D the mean squared error of the decoded payload over the variance, R all of its
bits over the weights. Matrices: Gaussian, and heavy-tailed (Student's t with 5 degrees of freedom, log-normal scales of
rows and columns with a deviation of 0.3, one weight of 5000 ten times as large). CPU time: one run of the encoder, the
least of --repeat runs of the decoder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.hyperfunctions.trellis import Trellis

Floats = npt.NDArray[np.float32]


def gaussian(rows: int, columns: int) -> Floats:
    """Independent, of variance 1."""
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def heavy(rows: int, columns: int) -> Floats:
    """Heavy tails, scales of rows and columns, outliers; of variance 1."""
    draw = np.random.default_rng(1)
    scales = np.exp(0.3 * draw.standard_normal((rows, 1))) * np.exp(0.3 * draw.standard_normal(columns))
    weights = draw.standard_t(5, (rows, columns)) * scales
    weights.reshape(-1)[draw.integers(0, weights.size, weights.size // 5000)] *= 10
    scaled: Floats = (weights / weights.std()).astype(np.float32)
    return scaled


def step_for(weights: Floats, states: int, bits: float) -> float:
    """The step whose payload has this many bits a weight, within 0.01."""
    step = float(2.0 ** (1 - bits))
    for _ in range(5):
        rate = 8 * len(Trellis(step, states).encode(weights)) / weights.size
        if abs(rate - bits) < 0.01:
            break
        step *= float(2.0 ** (rate - bits))
    return step


def timed(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """What it gives, and the least CPU seconds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return result, best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--states", type=int, nargs="*", default=[8, 64])
    parser.add_argument("--bits", type=float, nargs="*", default=[1.0, 2.0, 3.0, 4.0])
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    print("| matrix | states | bit | gap, dB | encode, us a weight | decode, million weights a CPU second |")
    print("|---|---|---|---|---|---|")
    for name, make in (("Gaussian", gaussian), ("heavy-tailed", heavy)):
        weights = make(given.rows, given.columns)
        for states in given.states:
            for bits in given.bits:
                function = Trellis(step_for(weights, states, bits), states)
                payload, encoding = timed(partial(function.encode, weights), 1)
                decoded, decoding = timed(partial(function.decode, payload, weights.shape), given.repeat)
                rate = 8 * len(payload) / weights.size
                error = float(((weights.astype(np.float64) - decoded) ** 2).mean() / weights.var(dtype=np.float64))
                print(
                    f"| {name} {given.rows}x{given.columns} | {states} | {rate:.2f} "
                    f"| {10 * np.log10(error * 4**rate):.2f} | {encoding / weights.size * 1e6:.2f} "
                    f"| {weights.size / decoding / 1e6:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
