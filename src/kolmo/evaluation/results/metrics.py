"""Metrics of a table of code lengths: bits per character and others, with confidence intervals.

All are ratios of sums over documents: of nats to characters (code points), bytes of UTF-8, or tokens.

    bits per character = sum of nats / (characters ln 2)        Huang et al. (2024), eq. 1

Intervals are over documents (`evaluation.results.intervals`), for 3 or more different ones. For two models the interval
is that of the paired differences, so that the difficulty of a document for both models cancels. Min-K % is by Shi et
al., "Detecting Pretraining Data from Large Language Models" (2024): the mean cost of the k % least probable tokens,
which is low if a text was in the training data.

What it is not: it does not read tables from files.
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
from kolmo.evaluation.results.intervals import DEFAULT_LEVEL, ratio_interval

MIN_K_PERCENT = 20  # percent of the tokens that Min-K % averages over

MAX_EXPONENT = 700  # nats per unit above which a perplexity is not finite


@dataclass(frozen=True)
class DocumentSums:
    """Sums over documents.

    Attributes:
        documents: the number of documents.
        characters, bytes, words: the size of all texts.
        tokens: the number of scored tokens.
        nats: the cost of the scored tokens.
    """

    documents: int
    characters: int
    bytes: int
    words: int
    tokens: int
    nats: float


@dataclass(frozen=True)
class Metrics:
    """Metrics of a set of documents. A metric that the mode does not define, or that is infinite, is None.

    Attributes:
        sums: the sums that the metrics are computed from.
        bits_per_character, bits_per_byte, bits_per_token: the code length per unit.
        compression_rate: compressed size per byte of text, bits_per_byte / 8.
        token_perplexity, byte_perplexity, word_perplexity: exp(nats per unit).
        low, high: the 95 % confidence interval of bits_per_character over documents, at least 0; None for fewer than 3
            different documents.
    """

    sums: DocumentSums
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
        """All values in one dictionary, the sums first, for JSON and tables."""
        facts = asdict(self)
        return {**facts.pop("sums"), **facts}


@dataclass(frozen=True)
class Difference:
    """The difference of two models in bits per character, over the same documents.

    Attributes:
        value: bits per character of the first model minus those of the second; negative if the first is better.
        low, high: the confidence interval over documents; None for fewer than 3 different documents.
        wins: the fraction of documents on which the first model is better, between 0 and 1.
        documents: the number of documents.
    """

    value: float
    low: float | None
    high: float | None
    wins: float
    documents: int


def metrics(columns: Mapping[str, Any], *, per_text: bool = True, per_token: bool = True) -> Metrics:
    """Compute the metrics of documents.

    Args:
        columns: arrays of shape (documents,): `characters`, `bytes`, `words`, `tokens`, `nats`; and optionally `key`,
            which equal documents share.
        per_text: whether metrics per character, byte and word are defined; not if the mode leaves much text unscored.
        per_token: whether metrics per token are defined; not for compressors, whose only token is the document.

    Raises:
        KolmoError: no token was scored.
    """
    names = ("characters", "bytes", "words", "tokens")
    counts = {name: int(np.sum(columns[name])) for name in names}
    sums = DocumentSums(len(columns["nats"]), nats=math.fsum(columns["nats"]), **counts)
    if not sums.tokens:
        raise KolmoError(f"no token of {sums.documents:,} documents was scored; use more text, or a smaller block")
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
    nats: npt.ArrayLike, characters: npt.ArrayLike, keys: npt.ArrayLike | None = None, *, level: float = DEFAULT_LEVEL
) -> tuple[float, float] | tuple[None, None]:
    """The confidence interval of bits per character over documents.

    Args:
        nats: the cost of each document, shape (n,).
        characters: the number of characters of each document, shape (n,).
        keys: the key of each document, shape (n,): documents with the same key count as one draw. None: all differ.
        level: the confidence level.

    Returns:
        low, at least 0, and high; None and None for fewer than 3 different documents.

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
    level: float = DEFAULT_LEVEL,
) -> Difference:
    """The difference of two models in bits per character, paired by document.

    Args:
        nats: the cost of each document under the first model, shape (n,).
        other: the cost of each document under the second model, shape (n,).
        characters: the number of characters of each document, shape (n,).
        keys: the key of each document, shape (n,): documents with the same key count as one draw. None: all differ.
        level: the confidence level.

    Example:
        >>> difference([70.0, 140.0], [71.0, 150.0], [100, 200]).wins
        1.0
    """
    costs, others, units = (np.asarray(values, np.float64) for values in (nats, other, characters))
    found = ratio_interval(to_bits(costs - others), units, groups=keys, level=level)
    value = bits_per(float(units.sum()), float(costs.sum() - others.sum()))
    low, high = (None, None) if found is None else found
    return Difference(value, low, high, float(np.mean(costs < others)), len(costs))


def min_k(nats: npt.ArrayLike, percent: float = MIN_K_PERCENT) -> float:
    """Mean nats of the `percent` % least probable tokens, at least one. NaN is ignored; NaN if no token is left.

    Example:
        >>> min_k([1.0, 2.0, 3.0, 4.0, 5.0])
        5.0
    """
    costs = np.asarray(nats, np.float32)
    costs = costs[~np.isnan(costs)]
    if not len(costs):
        return math.nan
    count = max(int(len(costs) * percent / 100), 1)
    return float(np.partition(costs, len(costs) - count)[-count:].mean(dtype=np.float64))


def subsets(columns: Mapping[str, Any]) -> dict[str, npt.NDArray[np.intp]]:
    """The indices of the documents of each subset, in the order in which the subsets first occur."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(columns["subset"]):
        places.setdefault(name, []).append(place)
    return {name: np.array(found, np.intp) for name, found in places.items()}


def select(columns: Mapping[str, Any], places: Sequence[int] | npt.NDArray[np.intp]) -> dict[str, Any]:
    """The columns of the documents at these indices."""
    return {
        name: values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]
        for name, values in columns.items()
    }


def _exp(nats: float) -> float | None:
    """exp(nats); None if that is not finite, which JSON cannot represent."""
    return math.exp(nats) if nats < MAX_EXPONENT else None
