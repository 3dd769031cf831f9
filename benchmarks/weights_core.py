"""Hyperfunctions on made matrices: distance to the Gaussian rate-distortion bound, and CPU time, by states and bits.

    python benchmarks/weights_core.py --markdown docs/benchmarks/weights.md

The gap is 10 log10(D / 2^(-2R)) dB: D the mean squared error of the decoded payload over the variance, R all of its
bits over the weights. Matrices: Gaussian, and heavy-tailed (Student's t with 5 degrees of freedom, log-normal scales of
rows and columns with a deviation of 0.3, one weight of 5000 ten times as large). CPU time: the median of --repeat
runs of each. Two threads: wall time of the decoder on one and on two, taking turns; the ratio is of the medians, and
is meaningless on a busy machine: there, compare CPU times, whose difference is the overhead of threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import sections
from harness.measuring import log
from harness.tables import table
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.bitshift import Bitshift
from kolmo.hyperfunctions.trellis import LEAST_ERROR, Trellis

Floats = npt.NDArray[np.float32]
HEAD = ["matrix", "bit", "gap, dB", "encode, us a weight", "decode, million weights a CPU second"]
KINDS: dict[str, dict[str, Any]] = {"": {}, ", least error": LEAST_ERROR}


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


def step_for(weights: Floats, states: int, bits: float, settings: dict[str, Any]) -> float:
    """The step whose payload has this many bits a weight, within 0.01."""
    step = float(2.0 ** (1 - bits))
    for _ in range(5):
        rate = 8 * len(Trellis(step, states, **settings).encode(weights)) / weights.size
        if abs(rate - bits) < 0.01:
            break
        step *= float(2.0 ** (rate - bits))
    return step


def timed(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """What it gives, and the median CPU seconds."""
    taken = []
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        taken.append(time.process_time() - start)
    return result, statistics.median(taken)


def row_of(what: str, function: Hyperfunction, weights: Floats, repeat: int) -> tuple[list[str], bytes]:
    """The bits, the gap, and the times of one hyperfunction, as a row of the table; and the payload."""
    shape = weights.shape[0], weights.shape[1]
    payload, encoding = timed(partial(function.encode, weights), repeat)
    decoded, decoding = timed(partial(function.decode, payload, shape), repeat)
    rate = 8 * len(payload) / weights.size
    error = float(((weights.astype(np.float64) - decoded) ** 2).mean() / weights.var(dtype=np.float64))
    cells = [f"{10 * np.log10(error * 4**rate):.2f}", f"{encoding / weights.size * 1e6:.2f}"]
    row = [what, f"{rate:.2f}", *cells, f"{weights.size / decoding / 1e6:.1f}"]
    log(" ".join(row))
    return row, payload


def bitshift_rows(rows: int, columns: int, repeat: int) -> list[list[str]]:
    """The table of the bitshift trellis: each number of bits, rotated or not, and once with all states."""
    found = []
    for name, make in (("Gaussian", gaussian), ("heavy-tailed", heavy)):
        weights = make(rows, columns)
        for rotated, bits in product((True, False), (2, 3, 4)):
            what = f"{name}, 4096 states{'' if rotated else ', not rotated'}"
            found.append(row_of(what, Bitshift(bits, rotated=rotated), weights, repeat)[0])
        few = weights[: max(rows // 16, 1)]
        found += [
            row_of(f"{name}, 65536 states, {len(few)} rows", Bitshift(bits, 65536), few, 1)[0] for bits in (2, 3, 4)
        ]
    return found


def threaded(function: Trellis, payload: bytes, shape: tuple[int, int], repeat: int) -> list[str]:
    """Decoding on one and two threads: median wall and CPU milliseconds of each, and the ratio of wall times."""
    wall: dict[int, list[float]] = {1: [], 2: []}
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeat):
        for threads in wall:
            start, before = time.perf_counter(), time.process_time()
            function.decode(payload, shape, threads)
            wall[threads].append(time.perf_counter() - start)
            spent[threads].append(time.process_time() - before)
    medians = [statistics.median(times[threads]) for times in (wall, spent) for threads in (1, 2)]
    return [*(f"{1000 * seconds:.0f}" for seconds in medians), f"{medians[0] / medians[1]:.2f}"]


def write_bitshift(rows: int, columns: int, repeat: int, markdown: Path | None) -> None:
    """Measure the bitshift trellis, print, write."""
    found = bitshift_rows(rows, columns, repeat)
    text = "\n".join(
        [
            sections.command(),
            f"{rows} x {columns} weights, as above. Encoding has about three searches for each row; decoding is of",
            "whole matrices, which products with activations do not need.",
            "",
            table(HEAD, found),
        ]
    )
    print(text)
    if markdown:
        sections.replace(markdown, "The bitshift trellis alone", text)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--states", type=int, nargs="*", default=[8, 64])
    parser.add_argument("--bits", type=float, nargs="*", default=[1.0, 2.0, 3.0, 4.0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--bitshift", action="store_true", help="measure the bitshift trellis instead")
    parser.add_argument("--markdown", type=Path, help="write the section into this report")
    given = parser.parse_args()
    if given.bitshift:
        write_bitshift(given.rows, given.columns, given.repeat, given.markdown)
        return
    rows, scaling = [], []
    for name, make in (("Gaussian", gaussian), ("heavy-tailed", heavy)):
        weights = make(given.rows, given.columns)
        for states, (kind, settings) in product(given.states, KINDS.items()):
            for bits in given.bits:
                function = Trellis(step_for(weights, states, bits, settings), states, **settings)
                row, payload = row_of(f"{name}, {states} states{kind}", function, weights, given.repeat)
                rows.append(row)
                if states == given.states[0] and name == "Gaussian" and not kind:
                    scaling.append([*row[:2], *threaded(function, payload, weights.shape, 4 * given.repeat)])
    text = "\n".join(
        [
            sections.command(),
            f"{given.rows} x {given.columns} weights. Gaps are of decoded payloads, everything counted; 0 dB is the",
            "rate-distortion bound of a Gaussian of the same variance, which a heavy-tailed matrix can go below.",
            "",
            table(HEAD, rows),
            "Decoding on one and two threads, ms; ratio of wall times:",
            "",
            table(["matrix", "bit", "wall, 1", "wall, 2", "CPU, 1", "CPU, 2", "ratio"], scaling),
        ]
    )
    print(text)
    if given.markdown:
        sections.replace(given.markdown, "The trellis alone", text)


if __name__ == "__main__":
    main()
