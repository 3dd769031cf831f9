"""Drawing one of many: randomness from a seed, and `choose` with temperature, top-k and top-p.

All predictors that give a distribution draw from it by `choose`, so that the same options mean the same everywhere; a
predictor that is fused with the coder decodes random bits instead (`kolmo.sampling`), where `remapped_bits` applies the
temperature. Top-k is from Fan et al. (2018),
top-p from Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020).

What it is not: a source of randomness for cryptography.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHUNK_BYTES = 1 << 10  # bytes of randomness that are computed at once
REMAP = 4096  # entries of the table that `remapped_bits` makes, as `coder.BinaryDecoder` takes it
LARGEST_LOG_ODDS = 40  # nats; beyond it a 16-bit probability is at its end


@dataclass(frozen=True)
class Choice:
    """How to draw from a distribution; by default from all of it, as it is.

    Attributes:
        temperature: logits are divided by it, so that below 1 the likely become likelier; 0 takes the likeliest.
        top_k: draw from so many of the likeliest only.
        top_p: draw from the fewest likeliest only whose probabilities sum to this, in (0, 1].

    Raises:
        ValueError: a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} is not a number from 0 up")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top-k {self.top_k} is not a number from 1 up")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top-p {self.top_p} is not a number above 0 and at most 1")


@lru_cache(maxsize=8)
def remapped_bits(temperature: float) -> bytes | None:
    """A temperature as `coder.BinaryDecoder` applies it, to the log-odds of each bit; None for 1, which does nothing.

    Entry i stands for the probabilities from 16 i to 16 i + 15 of 65,536 and holds the probability that replaces
    them, 16 bits, little-endian, in 1..65535: the logistic function of their middle's log-odds divided by the
    temperature. The arithmetic is decimal, whose `ln` and `exp` are rounded correctly, so the table is the same on all
    machines.

    Args:
        temperature: above 0.
    """
    if temperature == 1:
        return None
    with localcontext() as context:
        context.prec = 12
        table = []
        for i in range(REMAP // 2):  # the other half mirrors it
            one = Decimal(16 * i + 8) / 65536
            log_odds = (one / (1 - one)).ln() / Decimal(max(temperature, 1e-6))
            log_odds = max(min(log_odds, Decimal(LARGEST_LOG_ODDS)), Decimal(-LARGEST_LOG_ODDS))
            table.append(max(round(65536 / (1 + (-log_odds).exp())), 1))
    return struct.pack(f"<{REMAP}H", *table, *(65536 - one for one in reversed(table)))


class Randomness:
    """Random bytes and numbers that a seed determines, equal on all machines: SHAKE-256, chunk after chunk.

    What is drawn depends on the seed and on how many bytes were drawn before, not on the sizes of the calls.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chunks = 0
        self._left = b""

    def take(self, count: int) -> bytes:
        """The next `count` random bytes."""
        parts = [self._left]
        missing = count - len(self._left)
        while missing > 0:
            name = f"kolmo sample {self._seed} {self._chunks}"
            parts.append(hashlib.shake_256(name.encode()).digest(CHUNK_BYTES))
            self._chunks += 1
            missing -= CHUNK_BYTES
        drawn = b"".join(parts)
        self._left = drawn[count:]
        return drawn[:count]

    def uniform(self) -> float:
        """A number in [0, 1), a multiple of 2^-53; takes seven bytes."""
        return (int.from_bytes(self.take(7), "little") >> 3) / (1 << 53)


def choose(
    logits: npt.NDArray[np.floating[Any]],
    uniform: float,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """Draw an index from a distribution: the inverse of its cumulated probabilities at `uniform`.

    In this order: divide by the temperature, keep the `top_k` likeliest, of these the fewest that reach `top_p`. Of
    equally likely ones those with the lower index count as likelier. Sums are in binary64, so that the same `uniform`
    gives the same index wherever it does not fall on an edge, within rounding.

    Args:
        logits: natural logarithms of probabilities, in any common scale (nats), shape (n,); -inf is impossible.
        uniform: in [0, 1), such as `Randomness.uniform` gives.
        temperature: 0 takes the likeliest, whatever `uniform` is.
        top_k: None keeps all.
        top_p: None keeps all.

    Raises:
        ValueError: no logit is finite, one is not a number, or an option is out of its range (see `Choice`).
    """
    import numpy as np

    Choice(temperature, top_k, top_p)  # checks them
    wide = np.asarray(logits, np.float64)
    most = wide.max(initial=-math.inf)
    if not math.isfinite(most):  # NaN and inf surface here too
        raise ValueError("there is nothing to choose from: no logit is finite, or one is not a number")
    if temperature == 0:
        return int(wide.argmax())
    with np.errstate(over="ignore"):  # of a tiny temperature: -inf, rightly
        weights = np.exp((wide - most) / temperature)
    if top_k is not None or top_p is not None:
        order = np.argsort(-weights, kind="stable")
        kept = len(order) if top_k is None else min(top_k, len(order))
        if top_p is not None:
            sums = np.cumsum(weights[order[:kept]])
            kept = min(int(np.searchsorted(sums, top_p * sums[-1])) + 1, kept)
        weights[order[kept:]] = 0
    sums = np.cumsum(weights)
    at = int(np.searchsorted(sums, uniform * sums[-1], side="right"))
    return min(at, int(np.flatnonzero(weights)[-1]))  # rounding may lead past the last
