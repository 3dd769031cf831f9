"""Random samples of sounds, changed as recordings differ: in loudness, speed, colour, noise, bits, channels.

A pool of tracks, each a part of a sound with changes of its own, is renewed bit by bit. What a batch holds follows from
the seed and its number alone, so a run goes on wherever it was left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kolmo.native.samples.network import OTHER, PAST
from kolmo.training.networks.samples import Batch
from kolmo.training.sounds.data import Sound, SoundSource

Floats = npt.NDArray[np.float32]
TRACKS = 80  # in the pool,
RENEWED = 10  # of which as many are renewed
RENEW_EVERY = 150  # batches
PART = 24_000  # most samples of a sound in a track, before its speed is changed
BEGINNINGS = 0.13  # share of samples with fewer than PAST before them
BITS = ((8, 0.6), (16, 0.37), (24, 0.03))  # of a track's samples, with their shares
STEREO = 0.15  # share of tracks that are made of two sounds of one channel
NATURAL = 0.5  # share of sounds that are changed in loudness at most; of the others:
SAME_SPEED, ANY_SPEED = 0.2, 0.45  # shares of sounds at their speed, and at one from 0.7 to 1.45;
SPEEDS = ((1.378, 0.1), (2.756, 0.08), (0.5, 0.07))  # and at others: 16 kHz as 22, 44 and 8
COLOURED, NOISY, LOUDNESS = (
    0.5,
    0.35,
    0.7,
)  # shares of sounds with changed spectra, with noise, of tracks with other loudness


@dataclass(frozen=True)
class Track:
    """Samples of a channel, of the other one (zeros without it), their bits, and whether there is another channel."""

    own: npt.NDArray[np.int32]
    other: npt.NDArray[np.int32]
    bits: int
    stereo: bool


def make_track(sources: Sequence[SoundSource], rng: np.random.Generator) -> Track:
    """A track from a random sound, with random changes."""
    bits = int(rng.choice([b for b, _ in BITS], p=[share for _, share in BITS]))
    sound = _pick(sources, rng)
    gain = float(np.exp(rng.uniform(-1.2, 0.8))) if rng.random() < LOUDNESS else 1.0
    if bits > 8 and rng.random() < 0.3:
        gain *= float(np.exp(rng.uniform(-2.5, 0)))
    if sound.shape[1] == 2:
        own, other, stereo = _changed(sound[:, 0], sound[:, 1], rng)
    else:
        own, other, stereo = _changed(sound[:, 0], None, rng)
        if rng.random() < STEREO:
            own, other, stereo = *_mixed(own, _changed(_pick(sources, rng)[:, 0], None, rng)[0], rng), True
    edge, factor = 1 << bits - 1, gain * 2.0 ** (bits - 16)

    def whole(wave: Floats) -> npt.NDArray[np.int32]:
        return np.clip(np.floor(wave * factor), -edge, edge - 1).astype(np.int32)

    return Track(whole(own), whole(other) if stereo else np.zeros(len(own), np.int32), bits, stereo)


def _pick(sources: Sequence[SoundSource], rng: np.random.Generator) -> Sound:
    shares = np.array([source.weight for source in sources], float)
    sounds = sources[int(rng.choice(len(sources), p=shares / shares.sum()))].learned
    sizes = np.array([len(sound) for sound in sounds], float)
    return sounds[int(rng.choice(len(sounds), p=sizes / sizes.sum()))]


def _changed(
    first: npt.NDArray[np.int16], second: npt.NDArray[np.int16] | None, rng: np.random.Generator
) -> tuple[Floats, Floats, bool]:
    """A part of one or two channels, with the same changes; which one is predicted is chance."""
    length = min(len(first), PART)
    at = int(rng.integers(0, len(first) - length + 1))
    waves = [wave[at : at + length].astype(np.float32) for wave in (first, second) if wave is not None]
    natural, u = bool(rng.random() < NATURAL), rng.random()
    speed = 1.0 if natural or u < SAME_SPEED else rng.uniform(0.7, 1.45)
    if not natural and u >= SAME_SPEED + ANY_SPEED:
        shares = np.array([share for _, share in SPEEDS])
        speed = float(rng.choice([s for s, _ in SPEEDS], p=shares / shares.sum()))
    tilt = rng.uniform(0, 0.5) if not natural and rng.random() < COLOURED else 0.0
    knots = rng.normal(0, tilt, 8) if tilt else np.zeros(8)
    if speed != 1 or tilt:
        waves = [_filtered(wave, speed, knots) for wave in waves]
    if not natural and rng.random() < NOISY:
        level = float(np.exp(rng.uniform(-1, 4.5)))
        waves = [wave + (level * rng.standard_normal(len(wave))).astype(np.float32) for wave in waves]
    if len(waves) == 1:
        return waves[0], waves[0], False
    swapped = bool(rng.random() < 0.5)
    return waves[swapped], waves[not swapped], True


def _filtered(wave: Floats, speed: float, knots: npt.NDArray[np.float64]) -> Floats:
    """A sound of `speed` times as many samples, its spectrum multiplied by the exponential of a curve through knots."""
    spectrum, size = np.fft.rfft(wave), int(len(wave) * speed) // 2 * 2
    out = np.zeros(size // 2 + 1, complex)
    keep = min(len(spectrum), len(out))
    out[:keep] = spectrum[:keep]
    out *= np.exp(np.interp(np.linspace(0, 7, len(out)), np.arange(8), knots))
    result: Floats = (np.fft.irfft(out, size) * (size / len(wave))).astype(np.float32)
    return result


def _mixed(first: Floats, second: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Two sounds as two microphones would take them."""
    size = min(len(first), len(second))
    a, b = first[:size], second[:size]
    near, far = rng.uniform(0.2, 1.0, 2), rng.uniform(-0.2, 1.0, 2)
    far[rng.integers(2)] *= rng.random() < 0.5
    delay = int(rng.integers(0, 6)) if rng.random() < 0.5 else 0
    own = near[0] * a + far[0] * b + np.exp(rng.uniform(-1, 3)) * rng.standard_normal(size)
    other = near[1] * np.roll(a, delay) + far[1] * b + np.exp(rng.uniform(-1, 3)) * rng.standard_normal(size)
    if rng.random() < 0.2:
        other = own + 0.3 * rng.standard_normal(size)
    return own.astype(np.float32), other.astype(np.float32)


class SampleSampler:
    """Draws batches.

    Args:
        sources: of sounds.
        count: samples in a batch.
        seed: of chance.
    """

    def __init__(self, sources: Sequence[SoundSource], count: int, seed: int) -> None:
        self.sources, self.count, self.seed = sources, count, seed
        self._numbers: list[int] = []  # of the tracks in the pool
        self._tracks: list[Track] = []

    def batch(self, number: int) -> Batch:
        """The batch of a step."""
        self._renew(number // RENEW_EVERY)
        rng = np.random.default_rng([self.seed, 1, number])
        lengths = np.array([len(track.own) for track in self._tracks])
        ends = np.cumsum(lengths)
        drawn = rng.integers(0, ends[-1], self.count)
        which = np.searchsorted(ends, drawn, side="right")
        at = drawn - ends[which] + lengths[which] + self._begins[which]
        known = np.where(rng.random(self.count) < BEGINNINGS, rng.integers(0, PAST + 1, self.count), PAST)
        places, begins = torch.from_numpy(at), torch.from_numpy(known)
        past = self._own.unfold(0, PAST, 1)[places - PAST].flip(1)
        other = self._other.unfold(0, OTHER, 1)[places - OTHER + 1].flip(1)
        cut = torch.nonzero(begins < PAST)[:, 0]
        past[cut] *= torch.arange(PAST) < begins[cut, None]
        other[cut] *= torch.arange(OTHER) <= begins[cut, None]
        bits, stereo = (torch.tensor([getattr(t, name) for t in self._tracks])[which] for name in ("bits", "stereo"))
        return Batch(past, other, bits, stereo.long(), self._own[places])

    def _renew(self, renewals: int) -> None:
        """The pool after so many renewals: in each place the latest track whose number belongs there."""
        last = TRACKS + RENEWED * renewals
        numbers = [last - 1 - (last - 1 - place) % TRACKS for place in range(TRACKS)]
        if numbers == self._numbers:
            return
        old = dict(zip(self._numbers, self._tracks, strict=True))
        self._tracks = [
            old.get(n) or make_track(self.sources, np.random.default_rng([self.seed, 0, n])) for n in numbers
        ]
        self._numbers = numbers
        gap = np.zeros(PAST, np.int32)
        self._begins = np.cumsum([PAST, *(len(track.own) + PAST for track in self._tracks)])[:-1]
        self._own = _joined([part for track in self._tracks for part in (gap, track.own)])
        self._other = _joined([part for track in self._tracks for part in (gap, track.other)])


def _joined(parts: list[npt.NDArray[np.int32]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))


__all__ = ["SampleSampler", "Track", "make_track"]
