"""Sounds to train and to validate on.

What it is not: it knows no model, and draws no batches; `sampler` does. Samples are read as integers of 16 bits, and of
sounds with several channels the first two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import reason
from kolmo.installing import install

Sound = npt.NDArray[np.int16]  # (samples, 1 or 2)
SUFFIXES = {".aif", ".aiff", ".au", ".caf", ".flac", ".ogg", ".opus", ".wav"}
MAX_SAMPLES = 1 << 28  # of a source, of all channels; sounds beyond are left out
LEAST_SAMPLES = 4096  # of a sound that is used
HELD_OUT_EVERY = 10  # every tenth sound is held out, or the last one of fewer


@dataclass(frozen=True)
class SoundSource:
    """A folder of sounds. Every tenth of them is held out for validation.

    Attributes:
        name: of the folder.
        weight: share of the samples that are trained on, in any unit.
        learned, held_out: sounds.
        size: bytes of the files.
        sha256: of the names, sizes and contents of the files, hexadecimal.
    """

    name: str
    weight: float
    learned: Sequence[Sound]
    held_out: Sequence[Sound]
    size: int
    sha256: str

    def describe(self) -> dict[str, Any]:
        """What tells sources apart, ready for JSON."""
        return {"name": self.name, "weight": self.weight, "bytes": self.size, "sha256": self.sha256}


def open_sounds(sources: Sequence[tuple[Path, float | None]]) -> tuple[SoundSource, ...]:
    """Open the sounds of a run: all under each folder whose names end as those of sounds.

    Args:
        sources: folders with their weights; None everywhere: by their numbers of samples.

    Raises:
        KolmoError: a folder has fewer than two sounds, one cannot be read, or two folders have the same name.
        MissingExtraError: soundfile is not installed.
    """
    names = [path.resolve().name for path, _ in sources]
    for name in names:
        if names.count(name) > 1:
            raise KolmoError(
                f"{name}: two folders have this name, which their results go by; rename one, or link to it"
            )
    return tuple(_open(path, weight) for path, weight in sources)


def _open(folder: Path, weight: float | None) -> SoundSource:
    digest, size, sounds, samples = hashlib.sha256(), 0, list[Sound](), 0
    for path in _files(folder):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
        sound = _decode(path)
        size, samples = size + len(content), samples + sound.size
        if samples > MAX_SAMPLES:
            break
        if len(sound) >= LEAST_SAMPLES:
            sounds.append(sound)
    if len(sounds) < 2:
        raise KolmoError(
            f"{folder}: {len(sounds)} sounds of {LEAST_SAMPLES} samples or more are too few to train on; "
            "give a folder with two or more"
        )
    held = sounds[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or sounds[-1:]
    chosen = {id(sound) for sound in held}
    learned = [sound for sound in sounds if id(sound) not in chosen]
    total = sum(sound.size for sound in sounds)
    name = folder.resolve().name
    return SoundSource(name, total if weight is None else weight, learned, held, size, digest.hexdigest())


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise KolmoError(f"{folder}: not a folder; name one with sounds to train on")
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield path


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


__all__ = ["Sound", "SoundSource", "open_sounds"]
