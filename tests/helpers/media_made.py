"""Folders of pictures and of sounds, to train on."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def make_pictures(folder: Path) -> None:
    """Three pictures in colour and one in grey; a file that is none."""
    image: Any = importlib.import_module("PIL.Image")
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(3):
        walk = np.clip(np.cumsum(rng.integers(-6, 7, (36, 70, 1)), 1) + 128, 0, 255)
        pixels = (walk + rng.integers(0, 3, (36, 70, 3))).clip(0, 255).astype(np.uint8)
        image.fromarray(pixels).save(folder / f"{number}.png")
    image.fromarray(rng.integers(0, 9, (20, 30)).astype(np.uint8)).save(folder / "deeper" / "grey.bmp")
    (folder / "notes.txt").write_text("not a picture")


def make_sounds(folder: Path) -> None:
    """Three sounds of one channel and one of two; one that is too short, and a file that is none."""
    soundfile: Any = importlib.import_module("soundfile")
    (folder / "deeper").mkdir(parents=True)
    for number in range(3):
        soundfile.write(folder / f"{number}.flac", tone(number), 16000, subtype="PCM_16")
    soundfile.write(folder / "deeper" / "both.wav", tone(7, 2), 44100, subtype="PCM_16")
    soundfile.write(folder / "short.wav", tone(1)[:100], 16000, subtype="PCM_16")
    (folder / "notes.txt").write_text("not a sound")


def tone(number: int, channels: int = 1) -> npt.NDArray[np.int16]:
    """A chord with noise, different for each number."""
    rng, time = np.random.default_rng(number), np.arange(6000)
    wave = 4000 * np.sin(time / (5 + number)) + 2000 * np.sin(time / 17.3) + 500 * np.sin(time / (2 + number / 3))
    beside = 0.7 * np.roll(wave, 3) + rng.normal(0, 30, len(wave))
    both = np.stack([wave + rng.normal(0, 40, len(wave)), beside], 1)[:, :channels]
    rounded: npt.NDArray[np.int16] = np.rint(both).astype(np.int16)
    return rounded


__all__ = ["make_pictures", "make_sounds", "tone"]
