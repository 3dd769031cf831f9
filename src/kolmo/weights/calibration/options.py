"""How `kolmo.shrink` calibrates: on which text or samples, and how much of it.

What it is not: the calibration; nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MIN_WINDOW = 16  # tokens


@dataclass(frozen=True)
class Calibration:
    """Samples on which a network shows which errors of its weights count.

    Args:
        corpus: a spec (docs/corpora.md) or a `Corpus`, for a folder of transformers with its tokenizer.
        samples: what a module of torch is called with, each a tensor, a tuple of arguments, or a dictionary of keyword
            arguments; instead of a corpus.
        tokens: number of tokens of the corpus that are read, in windows that are spread over it.
        window: length in tokens of a window; shorter for models that see fewer.
        damping: part of the variance of each input, and of their median, that is added to it, above 0. More damping
            trusts the samples less.
        device: where the network runs, cpu or cuda; if None, cuda where there is one.

    Raises:
        ValueError: an argument is out of its range, or there is both a corpus and samples, or neither.

    Examples:
        >>> calibration = kolmo.Calibration("texts/", tokens=20_000)
        >>> calibration.tokens  # then kolmo.shrink("folder", "small", kolmo.Bits(3), calibrate=calibration)
        20000
    """

    corpus: Any = None
    samples: Iterable[Any] | None = None
    tokens: int = 65536
    window: int = 512
    damping: float = 0.05
    device: str | None = None

    def __post_init__(self) -> None:
        if (self.corpus is None) == (self.samples is None):
            raise ValueError("a calibration has a corpus or samples; give one of them")
        if self.window < MIN_WINDOW or self.tokens < self.window:
            raise ValueError(
                f"tokens = {self.tokens}, window = {self.window}: a window has {MIN_WINDOW} tokens or more, and "
                "there is at least one window"
            )
        if not 0 < self.damping < 1:
            raise ValueError(f"damping = {self.damping} is out of range; choose one above 0 and below 1")


def resolve(calibrate: Any) -> Calibration | None:
    """The calibration that a caller means: one, a spec of a corpus, or samples; None for none.

    Raises:
        TypeError: it is something else.
    """
    if calibrate is None or isinstance(calibrate, Calibration):
        return calibrate
    if isinstance(calibrate, str):
        return Calibration(calibrate)
    if isinstance(calibrate, Iterable):
        return Calibration(samples=calibrate)
    raise TypeError(f"calibrate is of type {type(calibrate).__name__}; give a corpus, samples or a kolmo.Calibration")
