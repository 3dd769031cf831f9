"""Metrics: bits per character and what else a table of code lengths says, with intervals.

All are ratios of sums over documents: of nats to characters (code points), UTF-8 bytes, or tokens of the raw text.

    bits per character = sum of nats / (characters ln 2)        Huang et al. (2024), eq. 1

Intervals are over documents (`evaluation.results.intervals`), from 3 different ones on. For two models the interval is
that of the difference on each document, so that what makes a document hard for both cancels. Min-K% is of Shi et al.,
"Detecting Pretraining Data from Large Language Models" (2024): the mean cost of the k % least probable tokens, low
where a text was seen in training.

What it is not: it reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.bits import bits_per, to_bits
from kolmo.errors import KolmoError
from kolmo.evaluation.results.intervals import LEVEL, ratio_interval

MIN_K = 20  # percent


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
        low, high: of bits_per_character: the 95 % confidence interval over documents, never below 0; None for fewer
            than 3 different documents.
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
        low, high: the confidence interval over documents; None for fewer than 3 different documents.
        wins: share of the documents on which the first is better, between 0 and 1.
        documents: how many both have.
    """

    value: float
    low: float | None
    high: float | None
    wins: float
    documents: int


def metrics(columns: Mapping[str, Any], *, per_text: bool = True, per_token: bool = True) -> Metrics:
    """Metrics of documents.

    Args:
        columns: arrays of shape (documents,): `characters`, `bytes`, `words`, `tokens`, `nats`; and `key`, where it is
            known which documents are equal.
        per_text: whether characters, bytes and words count: not where part of the text was left out on purpose.
        per_token: whether tokens count: not where a document is one.

    Raises:
        KolmoError: nothing was scored.
    """
    names = ("characters", "bytes", "words", "tokens")
    counts = {name: int(np.sum(columns[name])) for name in names}
    sums = Sums(len(columns["nats"]), nats=math.fsum(columns["nats"]), **counts)
    if not sums.tokens:
        raise KolmoError(f"of {sums.documents:,} documents no token was scored; take more text, or a smaller block")
    nats = sums.nats
    per_byte = bits_per(sums.bytes, nats) if per_text else None
    low, high = interval(columns["nats"], columns["characters"], columns.get("key")) if per_text else (None, None)
    return Metrics(
        sums,
        bits_per_character=bits_per(sums.characters, nats) if per_text else None,
        bits_per_byte=per_byte,
        bits_per_token=bits_per(sums.tokens, nats) if per_token else None,
        compression_rate=per_byte / 8 if per_byte is not None else None,
        token_perplexity=_exp(nats / sums.tokens) if per_token else None,
        byte_perplexity=_exp(nats / sums.bytes) if per_text else None,
        word_perplexity=_exp(nats / sums.words) if per_text else None,
        low=low,
        high=high,
    )


def interval(
    nats: npt.ArrayLike, characters: npt.ArrayLike, keys: npt.ArrayLike | None = None, *, level: float = LEVEL
) -> tuple[float, float] | tuple[None, None]:
    """The confidence interval of bits per character over documents.

    Args:
        nats: of each document, shape (n,).
        characters: of each document, shape (n,).
        keys: of each document, shape (n,): documents of one key are one draw. None: all differ.
        level: part of such intervals that hold the population's value.

    Returns:
        low, not below 0, and high; None and None for fewer than 3 different documents.

    Example:
        >>> low, high = interval([70.0, 140.0, 200.0, 90.0], [100, 200, 300, 120])
        >>> 0.9 < low < 1.0 < high < 1.1
        True
    """
    found = ratio_interval(to_bits(np.asarray(nats, np.float64)), characters, groups=keys, level=level)
    return (None, None) if found is None else (max(found.low, 0.0), found.high)


def difference(
    nats: npt.ArrayLike,
    other: npt.ArrayLike,
    characters: npt.ArrayLike,
    keys: npt.ArrayLike | None = None,
    *,
    level: float = LEVEL,
) -> Difference:
    """Bits per character of one model less those of another, paired by document.

    Args:
        nats: costs of each document under the one model, shape (n,).
        other: costs under the other.
        characters: of each document.
        keys: of each document: documents of one key are one draw. None: all differ.
        level: part of such intervals that hold the population's value.

    Example:
        >>> difference([70.0, 140.0], [71.0, 150.0], [100, 200]).wins
        1.0
    """
    costs, others, units = (np.asarray(values, np.float64) for values in (nats, other, characters))
    found = ratio_interval(to_bits(costs - others), units, groups=keys, level=level)
    value = bits_per(float(units.sum()), float(costs.sum() - others.sum()))
    low, high = (None, None) if found is None else found
    return Difference(value, low, high, float(np.mean(costs < others)), len(costs))


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


def _exp(nats: float) -> float | None:
    """None where it would not be a finite number, which JSON has no word for."""
    return math.exp(nats) if nats < 700 else None
