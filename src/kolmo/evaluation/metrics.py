"""Metrics: bits per character and what else a table of code lengths says, with intervals.

All are ratios of sums over documents: of nats to characters (code points), UTF-8 bytes, or tokens of the raw text.

    bits per character = sum of nats / (characters ln 2)        Huang et al. (2024), eq. 1

Intervals are bootstrap percentiles over documents (Efron, 1979): documents are drawn with replacement, as many as there
are, and the ratio is taken again. For two models both take the same draws, so that what makes a document hard for both
cancels. Min-K% is of Shi et al., "Detecting Pretraining Data from Large Language Models" (2024): the mean cost of the
k % least probable tokens, low where a text was seen in training.

What it is not: it reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.bits import LN2
from kolmo.errors import KolmoError

DRAWS = 2000
AT_ONCE = 1 << 22  # numbers of a bootstrap that are in memory together
SEED = 0
MIN_K = 20  # percent

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """What is summed over documents.

    Attributes:
        documents, characters, bytes, words: of all texts.
        tokens: that were scored.
        nats: their cost.
    """

    documents: int
    characters: int
    bytes: int
    words: int
    tokens: int
    nats: float


@dataclass(frozen=True)
class Metrics:
    """Metrics of some documents. Those whose denominator the mode does not define, and infinite ones, are None.

    Attributes:
        sums: what they are made from.
        bits_per_character, bits_per_byte, bits_per_token: code length.
        compression_rate: packed bytes per raw byte, bits_per_byte / 8.
        token_perplexity, byte_perplexity, word_perplexity: exp(nats per unit).
        low, high: of bits_per_character: 95 % of the bootstrap; None for fewer than two documents.
    """

    sums: Sums
    bits_per_character: float | None
    bits_per_byte: float | None
    bits_per_token: float | None
    compression_rate: float | None
    token_perplexity: float | None
    byte_perplexity: float | None
    word_perplexity: float | None
    low: float | None
    high: float | None

    def record(self) -> dict[str, Any]:
        """Flat, for JSON and tables; sums first."""
        facts = asdict(self)
        return {**facts.pop("sums"), **facts}


@dataclass(frozen=True)
class Difference:
    """Bits per character of one model less those of another, over the same documents.

    Attributes:
        value: below 0, the first is better.
        low, high: 95 % of the bootstrap.
        wins: share of draws in which the first is better.
        documents: how many both have.
    """

    value: float
    low: float
    high: float
    wins: float
    documents: int


def metrics(
    columns: Mapping[str, Any], *, per_text: bool = True, per_token: bool = True, draws: int = DRAWS
) -> Metrics:
    """Metrics of documents.

    Args:
        columns: arrays of shape (documents,): `characters`, `bytes`, `words`, `tokens`, `nats`.
        per_text: whether characters, bytes and words count: not where part of the text was left out on purpose.
        per_token: whether tokens count: not where a document is one.
        draws: of the bootstrap.

    Raises:
        KolmoError: nothing was scored.
    """
    names = ("characters", "bytes", "words", "tokens")
    counts = {name: int(np.sum(columns[name])) for name in names}
    sums = Sums(len(columns["nats"]), nats=math.fsum(columns["nats"]), **counts)
    if not sums.tokens:
        raise KolmoError(f"of {sums.documents:,} documents no token was scored; take more text, or a smaller block")
    nats = sums.nats
    per_byte = nats / sums.bytes if per_text else None
    low = high = None
    if per_text and sums.documents > 1 and draws:
        low, high = interval(columns["nats"], columns["characters"], draws=draws)
    return Metrics(
        sums,
        bits_per_character=nats / (sums.characters * LN2) if per_text else None,
        bits_per_byte=per_byte / LN2 if per_byte is not None else None,
        bits_per_token=nats / (sums.tokens * LN2) if per_token else None,
        compression_rate=per_byte / LN2 / 8 if per_byte is not None else None,
        token_perplexity=_exp(nats / sums.tokens) if per_token else None,
        byte_perplexity=_exp(per_byte) if per_byte is not None else None,
        word_perplexity=_exp(nats / sums.words) if per_text else None,
        low=low,
        high=high,
    )


def interval(
    nats: npt.ArrayLike, characters: npt.ArrayLike, *, level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentiles of bits per character over draws of documents, with a fixed seed.

    Args:
        nats: of each document, shape (n,).
        characters: of each document, shape (n,).
        level: share of draws between the two.
        draws: how many.
    """
    drawn = _draw(np.stack([np.asarray(nats, np.float64), np.asarray(characters, np.float64)]), draws)
    rates = drawn[0] / (drawn[1] * LN2)
    tail = (1 - level) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(low), float(high)


def difference(
    nats: npt.ArrayLike, other: npt.ArrayLike, characters: npt.ArrayLike, *, level: float = 0.95, draws: int = DRAWS
) -> Difference:
    """Bits per character of one model less those of another, paired by document.

    Args:
        nats: costs of each document under the one model, shape (n,).
        other: costs under the other.
        characters: of each document.
        level: share of draws within the interval.
        draws: how many.
    """
    costs, others, units = (np.asarray(values, np.float64) for values in (nats, other, characters))
    drawn = _draw(np.stack([costs - others, units]), draws)
    rates = drawn[0] / (drawn[1] * LN2)
    tail = (1 - level) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    value = float((costs.sum() - others.sum()) / (units.sum() * LN2))
    return Difference(value, float(low), float(high), float(np.mean(rates < 0)), len(costs))


def min_k(nats: npt.ArrayLike, percent: float = MIN_K) -> float:
    """Mean nats of the `percent` % least probable tokens, at least one; NaN of none. NaN counts as not scored."""
    costs = np.asarray(nats, np.float32)
    costs = costs[~np.isnan(costs)]
    if not len(costs):
        return math.nan
    count = max(int(len(costs) * percent / 100), 1)
    return float(np.partition(costs, len(costs) - count)[-count:].mean(dtype=np.float64))


def subsets(columns: Mapping[str, Any]) -> dict[str, npt.NDArray[np.intp]]:
    """Places of the documents of each subset, in the order in which subsets begin."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(columns["subset"]):
        places.setdefault(name, []).append(place)
    return {name: np.array(found, np.intp) for name, found in places.items()}


def select(columns: Mapping[str, Any], places: Sequence[int] | npt.NDArray[np.intp]) -> dict[str, Any]:
    """The columns of some documents."""
    return {
        name: values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]
        for name, values in columns.items()
    }


def _draw(values: Floats, draws: int) -> Floats:
    """Sums of values, shape (m, n), over draws of n of the n with replacement: shape (m, draws)."""
    count = values.shape[1]
    random = np.random.default_rng(SEED)
    sums = np.empty((len(values), draws))
    step = max(AT_ONCE // max(count, 1), 1)
    for first in range(0, draws, step):
        last = min(first + step, draws)
        chosen = random.integers(0, count, (last - first, count))
        for k, row in enumerate(values):
            sums[k, first:last] = row[chosen].sum(axis=1)
    return sums


def _exp(nats: float) -> float | None:
    """None where it would not be a finite number, which JSON has no word for."""
    return math.exp(nats) if nats < 700 else None
