"""The training of a network that predicts samples: random samples of sounds in, a better network and a log out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kolmo.bits import LN2
from kolmo.native.samples.network import OTHER, PAST
from kolmo.predictors.embedded.sample_network import SampleShape
from kolmo.training.media.trainer import MediaTrainer
from kolmo.training.monitor import Monitor
from kolmo.training.networks.samples import Batch, SampleModel
from kolmo.training.optim import Optimisers
from kolmo.training.products.folder import RunFolder
from kolmo.training.settings import Settings
from kolmo.training.sounds.data import SoundSource
from kolmo.training.sounds.sampler import SampleSampler

CHUNK = 2048  # samples of a held-out piece, which know nothing of those before it
CHUNKS = 6  # pieces of each source and number of bits, the same ones in every validation
BITS = (8, 16)

Piece = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32] | None, int]  # a channel, the other one, bits
Cost = Callable[[Piece], float]  # bits of all samples of a piece


class SampleTrainer(MediaTrainer):
    """A network of samples in training.

    Args:
        shape: of the network.
        settings: see there; `lanes` samples are a batch.
        sources: of sounds.
        folder: takes log and checkpoint.
        save_every: seconds of training between checkpoints.
        monitor: is told of steps, phases and log lines, and may stop the training.
    """

    def __init__(
        self,
        shape: SampleShape,
        settings: Settings,
        sources: Sequence[SoundSource],
        folder: RunFolder,
        *,
        save_every: float = 120.0,
        monitor: Monitor | None = None,
    ) -> None:
        super().__init__(settings, folder, save_every, monitor)
        self.model = SampleModel(shape)
        self.optimisers = Optimisers(self.model, settings)
        self.sampler = SampleSampler(sources, settings.lanes, settings.seed)
        self.pieces = draw_pieces(sources)

    def learn(self, progress: float) -> tuple[Tensor, int]:
        """One batch."""
        batch = self.sampler.batch(self.step)
        nats = self.model(batch)
        nats.mean().backward()
        parameters = [*self.model.matrices(), *self.model.rest()]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)  # a loud sample at a beginning is very improbable
        self.optimisers.step(progress)
        size = int(batch.bits.sum()) // 8
        return nats.detach().sum() / (size * LN2), size

    def held_out_scores(self) -> dict[str, float]:
        """Bits per byte of the held-out pieces, by name."""
        return score(self.pieces, self._cost)

    def _cost(self, piece: Piece) -> float:
        return float(self.model(whole(piece)).double().sum()) / LN2

    def content(self) -> dict[str, Any]:
        """Nothing more: batches follow from the number of steps."""
        return {}

    def fill(self, saved: dict[str, Any]) -> None:
        """Nothing more."""


def whole(piece: Piece) -> Batch:
    """All samples of a piece as a batch."""
    own, other, bits = piece
    padded = np.concatenate([np.zeros(PAST, np.int32), own])
    past = torch.from_numpy(padded).unfold(0, PAST, 1)[:-1].flip(1)
    beside = np.zeros(len(own), np.int32) if other is None else other
    both = torch.from_numpy(np.concatenate([np.zeros(OTHER - 1, np.int32), beside]))
    kind = torch.full((len(own),), bits), torch.full((len(own),), int(other is not None))
    return Batch(past, both.unfold(0, OTHER, 1).flip(1), *kind, torch.from_numpy(own))


def draw_pieces(sources: Sequence[SoundSource]) -> dict[str, list[Piece]]:
    """Pieces of held-out sounds, evenly spaced, with 8 and 16 bits, by source; of two channels the second one."""
    found = dict[str, list[Piece]]()
    for source in sources:
        places = [(sound, at) for sound in source.held_out for at in range(0, len(sound) - CHUNK + 1, CHUNK)]
        chosen = [places[i * len(places) // CHUNKS] for i in range(min(CHUNKS, len(places)))]
        for bits in BITS:
            found[f"{source.name}, {bits} bits"] = [_piece(sound[at : at + CHUNK], bits) for sound, at in chosen]
    return found


def _piece(samples: npt.NDArray[np.int16], bits: int) -> Piece:
    channels = [np.ascontiguousarray(channel.astype(np.int32) >> 16 - bits) for channel in samples.T]
    return channels[-1], channels[0] if len(channels) == 2 else None, bits


def score(pieces: dict[str, list[Piece]], cost: Cost) -> dict[str, float]:
    """Bits per byte of pieces, by name."""
    scores = {}
    for name, parts in pieces.items():
        size = sum(len(own) * bits // 8 for own, _, bits in parts)
        scores[name] = sum(map(cost, parts)) / size
    return scores


__all__ = ["Piece", "SampleTrainer", "draw_pieces", "score", "whole"]
