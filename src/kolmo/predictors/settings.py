"""How predictors run here: device, batch, where a model's files are. None of it is part of a file's meaning.

A file opens with any of these settings; they are the reader's own. What it is not: settings that a file records (dtype,
context, chunk, tolerance) are arguments of a predictor.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunSettings:
    """How to run a predictor. Handed to what opens one: `registry.resolve`, `registry.restore`, `kolmo.decompress`.

    Attributes:
        device: of torch, or "auto": CUDA where there is one.
        batch: lanes that a language model reads at once; 0: as many as fit and are worth it.
        verify: whether a language model's encoder takes the decoder's way, token by token, so that what it writes
            decodes here; else it reads whole chunks at once, which is faster.
        model: a folder or file to use in place of the one that a file names; its hashes must be the same.

    Example:
        >>> from kolmo.predictors.registry import resolve
        >>> resolve("hf:models/a", settings=RunSettings(device="cpu", batch=8))  # doctest: +SKIP
    """

    device: str = "auto"
    batch: int = 0
    verify: bool = True
    model: str | None = None


DEFAULT_SETTINGS = RunSettings()
