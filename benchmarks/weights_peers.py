"""kolmo's weights beside its peers, on made matrices: bits, distance to the Gaussian bound.

    python benchmarks/weights_peers.py --markdown docs/benchmarks/weights.md

All methods get the same two matrices: Gaussian, and heavy-tailed, those of weights_core.py (Student's t with 5 degrees
of freedom, log-normal scales of rows and columns with a deviation of 0.3, one weight of 5000 ten times as large), both
with a deviation of 0.02, as trained weights have, since torus and NNCodec take their settings in units of the weights.
The gap is 10 log10(D / 2^(-2R)) dB: D the mean squared error of what was decoded over the variance, R all its bits.
harness/quantisers.py has the peers, and what is counted of each.

NNCodec runs with dependent quantisation and its parameter optimisation; beside its default, rate-distortion
quantisation off (lambda_scale 0), also with it (0.5 and 1). Its gap at our bits is the least of all its runs,
interpolated over QPs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness import quantisers, sections
from harness.measuring import log
from harness.quantisers import Method
from harness.tables import table
from kolmo.hyperfunctions.torus import PRESETS
from weights_core import gaussian, heavy

DEVIATION = 0.02
BITS = 2.0, 3.0, 4.0
TARGETS = {8: (0.80, 0.62, 0.55), 64: (0.60, 0.43, 0.37)}  # dB, of a Gaussian matrix, at BITS
MIN_LEAD_DB = 0.8  # by which our gap should be smaller than that of NNCodec on the heavy-tailed matrix
GGML = "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "IQ3_S", "Q2_K", "IQ2_S"
QPS = range(-38, -22, 2)  # of a deviation of 0.02: 1.2 to 4.6 bits
RATES = 0.0, 0.5, 1.0
MATRICES = {"G": gaussian, "H": heavy}


@dataclass(frozen=True)
class Point:
    """One method on one matrix."""

    method: Method
    bits: float
    gap: float


def measure(method: Method, weights: npt.NDArray[np.float32]) -> Point:
    """Code, decode, compare."""
    size, decoded, _ = method.code({"weight": weights})
    bits = 8 * size / weights.size
    error = float(np.square(weights - decoded["weight"], dtype=np.float64).mean() / weights.var(dtype=np.float64))
    gap = float(10 * np.log10(error * 4**bits))
    log(f"{method.family}, {method.setting}: {bits:.2f} bit, {gap:.2f} dB")
    return Point(method, bits, gap)


def at(points: Sequence[Point], bits: float) -> float:
    """The gap of a curve at so many bits, between its two neighbours; infinite outside of it."""
    known = sorted((point.bits, point.gap) for point in points)
    if not known or not known[0][0] <= bits <= known[-1][0]:
        return float("inf")
    return float(np.interp(bits, [one[0] for one in known], [one[1] for one in known]))


def nncodec_at(points: Sequence[Point], bits: float) -> float:
    """The least gap of NNCodec's curves at so many bits."""
    curves: dict[str, list[Point]] = {}
    for point in points:
        if point.method.family.startswith("NNCodec"):
            curves.setdefault(point.method.family, []).append(point)
    return min((at(curve, bits) for curve in curves.values()), default=float("inf"))


def verdicts(found: dict[str, list[Point]]) -> list[list[str]]:
    """Each target beside what was measured."""
    rows = []
    for states, wished in TARGETS.items():
        family = f"kolmo, {states} states, least error"
        ours = {name: [p for p in found[name] if p.method.family == family] for name in found}
        for bits, most in zip(BITS, wished, strict=True):
            gap = min(ours["G"], key=lambda p: abs(p.bits - bits)).gap
            rows.append([f"Gaussian, {family}, {bits:g} bit: at most {most:.2f} dB", f"{gap:.2f}", _met(gap <= most)])
        for point in ours["H"]:
            peer = nncodec_at(found["H"], point.bits)
            if np.isfinite(peer):
                what = f"heavy-tailed, {family}, {point.bits:.2f} bit: {MIN_LEAD_DB} dB better than NNCodec, {peer:.2f}"
                rows.append(
                    [what, f"{point.gap:.2f}, {peer - point.gap:.2f} better", _met(peer - point.gap >= MIN_LEAD_DB)]
                )
    return rows


def _met(yes: bool) -> str:
    return "yes" if yes else "**no**"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="rows and columns")
    parser.add_argument("--markdown", type=Path, help="write the section into this report")
    given = parser.parse_args()
    makers: list[Callable[[], Method]] = [
        *(partial(quantisers.trellis, states, bits, True) for states in TARGETS for bits in BITS),
        *(partial(quantisers.trellis, 8, bits) for bits in BITS),
        *(partial(quantisers.nncodec, qp, rate) for rate in RATES for qp in QPS),
        *(partial(quantisers.ggml, kind) for kind in GGML),
        quantisers.nf4,
        *(partial(quantisers.hqq, bits) for bits in (4, 3, 2)),
        *(partial(quantisers.nearest, bits) for bits in (4, 3, 2)),
        *(partial(quantisers.torus_preset, name) for name in PRESETS),
    ]
    methods, missing = quantisers.available(makers)
    found: dict[str, list[Point]] = {}
    for name, make in MATRICES.items():
        weights = (DEVIATION * make(given.size, given.size)).astype(np.float32)
        found[name] = [measure(method, weights) for method in methods]
    rows = []
    for one, other in zip(found["G"], found["H"], strict=True):
        cells = [f"{one.bits:.2f} / {other.bits:.2f}", f"{one.gap:.2f}", f"{other.gap:.2f}"]
        rows.append([f"{one.method.family}, {one.method.setting}", *cells])
    text = "\n".join(
        [
            sections.command(),
            f"{given.size} x {given.size} weights, Gaussian (G) and heavy-tailed (H). Gap: dB above",
            "D = 2^(-2R), everything counted, decoded.",
            "",
            table(["method", "bit, G / H", "gap, G", "gap, H"], rows),
            table(["target", "measured, dB", "met"], verdicts(found)),
            *(f"- not measured: {reason}" for reason in missing),
            *(f"- {name} {version}" for name, version in quantisers.versions().items()),
        ]
    )
    print(text)
    if given.markdown:
        sections.replace(given.markdown, "Beside the peers, on made matrices", text)


if __name__ == "__main__":
    main()
