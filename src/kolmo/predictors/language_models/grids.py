"""Noise-tolerant coding: grids, shifted against each other, on which nearly equal log-odds become equal integers.

A decoder must see the encoder's probabilities bit for bit, and floating-point sums are not the same on two machines,
or in two batch sizes. So the log-odds x of a binary decision are rounded to a cell, and a cell has one integer chance.
There are `SHIFTS` grids, each shifted by an eighth of a cell against the one before. A function of two integers,
(choice, index of the decision), selects the grid of a decision; and for each span of tokens the encoder takes the first
choice with which every decision of the span lies farther than e from all boundaries of its grid.

**Claim.** Let each decision's log-odds at the decoder differ from the encoder's by at most e. Then the decoder takes
the same chance as the encoder for every decision. That holds if every logit differs by at most E, a common shift of all
aside, where e = 2E + ROUNDING.

**Proof.** The choice is coded before its span, with chances that depend only on earlier choices. So the decoder has the
choice, and with it the grid of each decision:

               e                              e
    boundary|......|.....................|......|boundary      a cell of the decision's grid
                       x here, so x' is in the cell too

The encoder's x lies farther than e from the cell's boundaries, so the decoder's x' lies in the same cell: the same
chance, and so the same bit; by induction over decisions, tokens and spans all are the same. For the second sentence:
the masses of the two halves are sums of exp(logit), so each half's mass is off by a factor between exp(-E) and exp(E),
and x = log(right / left) by at most 2E; rounding in the exponentials and sums adds no more than a constant. QED.

**What it costs.** A decision is near a boundary with a chance of about q = 2e / w, w the cell's width. A span of n
decisions is free of these with a chance of exp(-qn) at each choice, so the number of the first choice that serves costs
about qn / ln 2 bits: 1.44 bits for each decision that would be near, or about 1.9 with short spans. A flag for each
decision would cost log2(1 / q) + 1.44 bits for each one that is near, about ten. That is the gain over flags such as
the helper bits of PMATIC (arXiv 2601.10678), which select one of two quantisations.

**The cells.** A rounding error d in log-odds costs p (1 - p) d^2 / 2 nats, and a boundary 2e / w choices; the sum of
both is least where w grows with (p (1 - p))^(-1/3), that is with cosh(x / 2)^(2/3). What this module is not: a
measurement of noise, which `predictors.language_models.block` makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache

import numpy as np

from kolmo.errors import PredictorError

MAX_LOG_ODDS = 11  # all log-odds beyond it are in one cell (a chance of 1 - 1.7e-5)
MAX_CELL_RATIO = 8  # width of the widest cell, as a multiple of the width of the middle one
SHIFTS = 8  # number of grids
ROUNDING = {
    4: 6e-6,
    8: 1e-12,
}  # bound on a decision's rounding error (exponentials, sums, logarithm), by bytes of a logit
MIN_STEP, MAX_STEP = 0, 20  # coarsest and finest step: the middle cell has width 2^(1 - step / 4)
SPANS = 6  # number of span lengths, 4^0 to 4^5 tokens
NO_CHOICES = 7  # the span of a file without any tolerance, where one grid is used throughout
NEAR_PER_SPAN = 2.5  # decisions near a boundary that a span is to have on average
PRECISION = Context(prec=40)  # decimal arithmetic is correctly rounded, so equal on all machines


@dataclass(frozen=True)
class Tolerance:
    """How decisions are rounded; a byte in a file.

    Attributes:
        step: the middle cell's width is 2^(1 - step / 4).
        span: a choice of grids holds for 4^span tokens; NO_CHOICES: there are no choices.
        slack: e, the noise of each decision's log-odds that is tolerated. Only the encoder needs it.
    """

    step: int
    span: int
    slack: float = 0.0

    @property
    def bound(self) -> float:
        """E, the noise of every logit that is tolerated in the worst case, rounding aside."""
        return self.slack / 2

    def to_bytes(self) -> bytes:
        """The byte that a file stores."""
        return bytes([self.step | self.span << 5])

    @classmethod
    def from_bytes(cls, data: bytes) -> Tolerance:
        """The tolerance of a file's byte; its slack is 0.

        Raises:
            ValueError: an encoder does not write this byte.
        """
        step, span = data[0] & 31, data[0] >> 5
        if step > MAX_STEP or not (span < SPANS or span == NO_CHOICES):
            raise ValueError(f"tolerance {data.hex()} does not exist")
        return cls(step, span)

    def shorter(self) -> Tolerance | None:
        """The same with spans of a quarter of the length; None where there are none shorter."""
        return Tolerance(self.step, self.span - 1, self.slack) if 0 < self.span < NO_CHOICES else None


WITHOUT = Tolerance(MAX_STEP, NO_CHOICES)


def tolerance(noise: float, itemsize: int) -> Tolerance:
    """The tolerance that costs least for a noise of at most `noise` in every logit.

    Args:
        noise: bound on the noise of a logit; 0 where there is not even rounding noise, as with models of integers.
        itemsize: bytes of a logit, 4 or 8.

    Raises:
        PredictorError: no grid is coarse enough.
    """
    if noise == 0:
        return WITHOUT
    slack = 2 * noise + ROUNDING[itemsize]
    # Rounding and choices together are least near here: docs/language-models.md has the measurement.
    step = min(max(round(4 * (1 - math.log2((100 * slack) ** (1 / 3)))), MIN_STEP), MAX_STEP)
    width = 2.0 ** (1 - step / 4)
    if not width > 6 * slack:
        raise PredictorError(
            f"a noise of {noise:.2g} in the logits is more than the coder can tolerate; use dtype='float32' or "
            "dtype='float64' (of GGUF models, a file with F32 weights)"
        )
    near = 16 * 0.36 * 2 * slack / width  # near decisions of a token: it has 16 decisions, most of them in wider cells
    span = min(max(round(math.log(NEAR_PER_SPAN / near, 4)), 0), SPANS - 1)
    return Tolerance(step, span, slack)


def tables(tolerance: Tolerance) -> bytes:
    """The tables of a token tree: slack, tokens of a span (0: no choices), number of points; the points; their chances.

    All are doubles. Of grid k, every eighth point from the k-th on is a boundary, and a cell's chance is that of the
    point in its middle. Chances are integers of 65536, the same on all machines; points may differ in the last bit,
    which is part of ROUNDING.
    """
    points, chances = _points(tolerance.step)
    span = 0 if tolerance.span == NO_CHOICES else 4**tolerance.span
    return np.array([tolerance.slack, span, len(points), *points, *chances], np.float64).tobytes()


@cache
def _points(step: int) -> tuple[list[float], list[int]]:
    """Points an eighth of a cell apart: ascending log-odds, and chances of 65536, by exact decimal arithmetic."""
    c = PRECISION
    part = c.divide(c.exp(c.multiply(c.ln(Decimal(2)), c.divide(Decimal(4 - step), Decimal(4)))), Decimal(SHIFTS))
    thirds = c.divide(Decimal(2), Decimal(3))
    upper, growth = [Decimal(0)], Decimal(1)
    while upper[-1] < MAX_LOG_ODDS:
        if growth < MAX_CELL_RATIO:
            half = c.exp(c.divide(upper[-1], Decimal(2)))
            cosh = c.divide(c.add(half, c.divide(Decimal(1), half)), Decimal(2))
            growth = min(c.exp(c.multiply(thirds, c.ln(cosh))), Decimal(MAX_CELL_RATIO))
        upper.append(c.add(upper[-1], c.multiply(part, growth)))
    chances = [_chance(x) for x in upper]
    points = [-float(x) for x in reversed(upper[1:])] + [float(x) for x in upper]
    return points, [65536 - p for p in reversed(chances[1:])] + chances


def _chance(x: Decimal) -> int:
    """65536 times the sigmoid, rounded, within 1..65535."""
    c = PRECISION
    p = c.divide(Decimal(65536), c.add(Decimal(1), c.exp(c.minus(x))))
    return min(max(int(p.to_integral_value()), 1), 65535)
