"""How language models run here: device, batch, where their files are. None of it is part of a file's meaning.

A file opens with any of these settings; they are the reader's own. What it is not: settings that a file records (dtype,
context, chunk, tolerance) are arguments of a predictor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """How to run a language model.

    Attributes:
        device: of torch, or "auto": CUDA where there is one.
        batch: lanes at once; 0: as many as are worth it and fit.
        verify: whether the encoder decodes each block, and compares, before it goes on.
        model: a folder or file to take in place of the one that a file names; its hashes must be the same.
    """

    device: str = "auto"
    batch: int = 0
    verify: bool = True
    model: str | None = None


_settings = Settings()


def settings() -> Settings:
    """The settings of this process."""
    return _settings


def use(**changes: object) -> Settings:
    """Change settings for all language models opened or started from now on; returns the settings before.

    Args:
        changes: attributes of `Settings` by name.
    """
    global _settings
    before = _settings
    _settings = replace(_settings, **changes)  # type: ignore[arg-type]
    return before
