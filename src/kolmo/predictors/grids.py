"""Noise-tolerant coding: two staggered grids on which nearly equal log-odds become equal integers.

A decoder must see the encoder's probabilities bit for bit, and floating-point sums are not the same on two machines,
or in two batch sizes. So the log-odds x of a binary decision are rounded to a cell, and a cell has one integer chance.

**Claim.** Let every logit of the decoder differ from the encoder's by at most E, a common shift of all aside. Then the
decoder takes the same chance as the encoder for every decision.

**Proof.** The masses of the two halves are sums of exp(logit), so each half's mass is off by a factor between
exp(-E) and exp(E), and x = log(right / left) by at most 2E. Rounding in the exponentials and sums adds no more than a
constant (`ROUNDING`). Let e = 2E + ROUNDING, and let every cell of grid A be wider than 4e:

              e                                e
    ..|......|.|........cell k of A............|.|......|..       boundaries of A
    --------------|--------------------|------------------       boundaries of B: the middles of A's cells
       x here: A says k on both sides  ^     x here, within e of a boundary of A: B serves

 1. x lies farther than e from all of A's boundaries. The encoder says "A" (the flag 0). The decoder's x' lies in
    the same cell of A.
 2. x lies within e of a boundary of A. The encoder says "B" (the flag 1). The nearest boundary of B is half a cell of A
    away, more than 2e, so x lies farther than e from it, and x' lies in the same cell of B.

The flag is coded like any decision, with a chance that depends on earlier flags alone, which the decoder has. After the
flag both take the chance of the same cell, so the arithmetic decoder returns the same bit; by induction over
decisions and tokens all are the same. QED. The bound is a worst case over all logits: noise of that size, and even an
adversary's, is tolerated.

Related: PMATIC (arXiv 2601.10678), whose helper bits say which of two quantisations of a bit's probability serves. Here
the flag is a coded decision of its own, one for each decision and not for each token: cheap where it never comes
(2^-16 of a chance costs 2.2e-5 bits), and where it comes, only the one decision near a boundary pays.

**The cells.** A rounding error d in log-odds costs p (1 - p) d^2 / 2 nats, so cells may grow where p nears 0 or 1:
widths are d min(cosh(x / 2), 2), as 1 / sqrt(p (1 - p)) = 2 cosh(x / 2). Wider cells have fewer boundaries, and flags
come less often. What it is not: it knows no model, and measures no noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache
from itertools import pairwise

import numpy as np

from kolmo.errors import PredictorError

LIMIT = 11  # log-odds: beyond, all is one cell (a chance of 1 - 1.7e-5)
WIDEST = 2  # of the cells in the middle
ROUNDING = {4: 6e-6, 8: 1e-12}  # of a decision's log-odds, by the bytes of a logit: exponentials, sums, logarithm
FINEST, COARSEST = 20, 1  # steps: cells of 2^-(s / 4) in the middle
EXACT = 255  # the tolerance of a file without any
PRECISION = Context(prec=40)  # decimal: correctly rounded, so the same on all machines


@dataclass(frozen=True)
class Tolerance:
    """How decisions are rounded; three bytes in a file.

    Attributes:
        noise: E = 2^-(noise / 4), the bound on a logit's noise that is tolerated; EXACT: none is.
        step: the middle cell's width is 2^-(step / 4).
        rarity: a flag's first chance is 2^-rarity.
    """

    noise: int
    step: int
    rarity: int

    @property
    def bound(self) -> float:
        """E, the noise of a logit that is tolerated."""
        return 0.0 if self.noise == EXACT else 2.0 ** (-self.noise / 4)

    def to_bytes(self) -> bytes:
        """The three bytes."""
        return bytes([self.noise, self.step, self.rarity])

    @classmethod
    def from_bytes(cls, data: bytes) -> Tolerance:
        """From three bytes of a file.

        Raises:
            ValueError: no encoder wrote these.
        """
        noise, step, rarity = data
        if not COARSEST <= step <= FINEST or not 1 <= rarity <= 16 or not (noise == EXACT or noise <= 200):
            raise ValueError(f"tolerance {data.hex()} does not exist")
        return cls(noise, step, rarity)


def tolerance(noise: float, itemsize: int) -> Tolerance:
    """The cheapest tolerance of a noise of at least `noise` in every logit.

    Args:
        noise: bound on the noise of a logit; 0 for none at all, of rounding neither: models of integers.
        itemsize: bytes of a logit, 4 or 8.

    Raises:
        PredictorError: no grid is coarse enough.
    """
    if noise == 0:
        return Tolerance(EXACT, FINEST, 16)
    steps = math.floor(-4 * math.log2(noise) + 1e-9)
    slack = 2 * 2.0 ** (-steps / 4) + ROUNDING[itemsize]
    # Rounding costs about d^2 / 100 bits a decision near the middle, flags 2 e / d times some 10 bits; the sum is least
    # where d = (1000 e)^(1/3); far from the middle both are less.
    width = (600 * slack) ** (1 / 3)
    step = min(max(math.floor(-4 * math.log2(width)), COARSEST), FINEST)
    if steps < 0 or 2.0 ** (-step / 4) <= 4.1 * slack:
        raise PredictorError(
            f"a noise of {noise:.2g} in the logits is more than the coder can tolerate; use --dtype float32 or float64 "
            "(of GGUF models, a file with F32 weights)"
        )
    rarity = min(max(round(-math.log2(slack / 2.0 ** (-step / 4))), 1), 16)
    return Tolerance(min(steps, 200), step, rarity)


def tables(tolerance: Tolerance, itemsize: int) -> bytes:
    """What a token tree of the kernels takes: slack, rarity, sizes, boundaries of A and B, chances of A and B.

    All as doubles. Chances are integers of 65536, the same on all machines; boundaries may differ in the last bit,
    which is part of ROUNDING.
    """
    bounds, chances = _grids(tolerance.step)
    slack = -1.0 if tolerance.noise == EXACT else 2 * tolerance.bound + ROUNDING[itemsize]
    head = [slack, tolerance.rarity, len(bounds[0]), len(bounds[1])]
    return np.array([*head, *bounds[0], *bounds[1], *chances[0], *chances[1]], np.float64).tobytes()


@cache
def _grids(step: int) -> tuple[list[list[float]], list[list[int]]]:
    """Boundaries (log-odds) and chances (of 65536) of both grids, by exact decimal arithmetic."""
    c = PRECISION
    width = c.power(Decimal(2), c.divide(Decimal(-step), Decimal(4)))
    upper = [c.divide(width, Decimal(2))]
    while upper[-1] < LIMIT:
        half = c.exp(c.divide(upper[-1], Decimal(2)))
        growth = min(c.divide(c.add(half, c.divide(Decimal(1), half)), Decimal(2)), Decimal(WIDEST))
        upper.append(c.add(upper[-1], c.multiply(width, growth)))
    a = [c.minus(x) for x in reversed(upper)] + upper
    b = [c.divide(c.add(x, y), Decimal(2)) for x, y in pairwise(a)]
    return [[float(x) for x in a], [float(x) for x in b]], [_chances(a), _chances(b)]


def _chances(bounds: list[Decimal]) -> list[int]:
    """The chance of each cell: the sigmoid of its middle; the two outer cells are represented by LIMIT."""
    c = PRECISION
    middles = [c.divide(c.add(x, y), Decimal(2)) for x, y in pairwise(bounds)]
    chances = []
    for x in [Decimal(-LIMIT), *middles, Decimal(LIMIT)]:
        p = c.divide(Decimal(65536), c.add(Decimal(1), c.exp(c.minus(x))))
        chances.append(min(max(int(p.to_integral_value()), 1), 65535))
    return chances
