"""Sounds to train and to validate on.

What it is not: it knows no model, and draws no batches; `sampler` does. Samples are read as integers of 16 bits, and of
sounds with several channels the first two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import reason
from kolmo.installing import install
from kolmo.training.media.source import MediaSource, Medium, open_media

Sound = npt.NDArray[np.int16]  # (samples, 1 or 2)
SUFFIXES = frozenset((".aif", ".aiff", ".au", ".caf", ".flac", ".ogg", ".opus", ".wav"))
MAX_SAMPLES = 1 << 28  # of a source, of all channels; sounds beyond are left out
LEAST_SAMPLES = 4096  # of a sound that is used


SoundSource = MediaSource[Sequence[Sound]]


def open_sounds(sources: Sequence[tuple[Path, float | None]], run: Path | None = None) -> tuple[SoundSource, ...]:
    """Open the sounds of a run: all under each folder whose names end as those of sounds.

    Args:
        sources: folders with their weights; None everywhere: by their numbers of samples.
        run: the folder of the run, whose files are left out.

    Raises:
        KolmoError: as for `open_media`.
        MissingExtraError: soundfile is not installed.
    """
    return open_media(sources, SOUNDS, run)


def _decode(path: Path) -> Sound:
    """The first two channels of a sound, or its only one."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise MissingExtraError(f"sounds are read with soundfile ({error}); {install('train')}") from None
    try:
        samples: npt.NDArray[np.int16] = soundfile.read(path, dtype="int16", always_2d=True)[0]
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise KolmoError(f"{path}: not a sound that soundfile reads ({reason(error)}); remove it") from None
    return np.ascontiguousarray(samples[:, :2])


def _samples(sound: Sound) -> int:
    return sound.size


def _as_they_are(sounds: Sequence[Sound]) -> Sequence[Sound]:
    return sounds


SOUNDS = Medium(
    "sounds",
    f"sounds of {LEAST_SAMPLES} samples or more",
    SUFFIXES,
    _decode,
    _samples,
    MAX_SAMPLES,
    LEAST_SAMPLES,
    _as_they_are,
)

__all__ = ["Sound", "SoundSource", "open_sounds"]
