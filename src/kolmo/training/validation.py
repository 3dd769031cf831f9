"""How well a model predicts held-out text: in floating point (`validate`), and as the exact network (`exact_scores`).

`select` chooses how much of the text is scored, so that measuring takes a small part of the time that training takes.
What it is not: it decides neither when to measure nor what that may cost (`loop.Trainer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from kolmo.bits import LN2
from kolmo.native.dispatch import SLOW, kernels
from kolmo.predictors.embedded.network import Weights
from kolmo.progress import Progress
from kolmo.training.networks.exact import ExactNetwork
from kolmo.training.networks.models import Model
from kolmo.training.texts.data import Passage
from kolmo.training.texts.feed import Feed
from kolmo.training.texts.vocabulary import Vocabulary

SHORTEST_PIECE = 256  # symbols of each piece that are scored at least
SYMBOLS_AT_ONCE = 1 << 14  # symbols of all lanes that a model takes in one call
EXACT_SYMBOLS_AT_ONCE = 1 << 12  # the same of an exact network, whose results take 2 KiB a symbol
IGNORED = -100  # target that is not counted

Columns = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # symbols and targets, (steps, lanes)
Stop = Callable[[], bool]


def count(passages: Sequence[Passage]) -> int:
    """Symbols of all pieces."""
    return sum(len(piece) for passage in passages for piece in passage.pieces)


def count_scored(passages: Sequence[Passage]) -> int:
    """Symbols that `validate` and `exact_scores` score: all but the first of each piece."""
    return sum(len(piece) - 1 for passage in passages for piece in passage.pieces)


def size(passages: Sequence[Passage], vocabulary: Vocabulary) -> int:
    """Bytes of all pieces."""
    return sum(int(vocabulary.lengths[piece].sum()) for passage in passages for piece in passage.pieces)


def select(passages: Sequence[Passage], symbols: float) -> int | None:
    """How much of each piece to score so that the work is at most so many symbols; None is all of it.

    All pieces are kept, and scored from their first symbol on. The number is a power of two, so that scores of one run
    are of the same text although the speed varies; it is at least 256, even where that is more work.

    Args:
        passages: all held-out text.
        symbols: the limit.
    """
    if count(passages) <= symbols:
        return None
    each = SHORTEST_PIECE
    while count(beginnings(passages, 2 * each)) <= symbols:
        each *= 2
    return each


def beginnings(passages: Sequence[Passage], each: int | None) -> list[Passage]:
    """The passages with the first `each` symbols of each piece; all of them where that is None."""
    return [replace(p, pieces=tuple(piece[:each] for piece in p.pieces)) for p in passages]


@torch.no_grad()
def validate(
    model: Model,
    passages: Sequence[Passage],
    vocabulary: Vocabulary,
    dtype: torch.dtype,
    stop: Stop = lambda: False,
    progress: Progress | None = None,
) -> dict[str, float] | None:
    """Bits per byte of each passage, by name, but for the first symbol of each piece; None when stopped.

    A recurrent network reads each piece from a fresh state, with integer weights; a Transformer sees what its context
    holds, window after window. Pieces of about the same length are read side by side.
    """
    device = next(model.parameters()).device
    nats = torch.zeros(len(passages), dtype=torch.float64, device=device)
    quantised, model.quantised = model.quantised, True
    try:
        for indices in _alike([max(map(len, passage.pieces)) for passage in passages]):
            symbols, targets, owners = _lanes([passages[i] for i in indices], model.reach)
            owner = torch.tensor(indices, device=device)[torch.from_numpy(owners).to(device)]
            feed = Feed(model, symbols.shape[1], device)
            state: Any = model.start(symbols.shape[1])
            for part in _portions(symbols.shape, model.reach):
                if stop():
                    return None
                logits = model(*feed.take(symbols[part]), state, dtype)
                wanted = feed.move(targets[part].astype(np.int64))
                costs = functional.cross_entropy(
                    logits.flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=IGNORED
                )
                nats.index_add_(0, owner[part[1]], costs.view(wanted.shape).double().sum(0))
                if progress:
                    progress(int((targets[part] != IGNORED).sum()))
    finally:
        model.quantised = quantised
    found = (nats.cpu() / LN2).tolist()
    counted = [sum(int(vocabulary.lengths[piece[1:]].sum()) for piece in passage.pieces) for passage in passages]
    return {p.name: bits / number for p, bits, number in zip(passages, found, counted, strict=True)}


def exact_scores(
    weights: Weights,
    passages: Sequence[Passage],
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Bits per byte of an exact network on passages of bytes, by name; counted as `validate` does.

    On a CPU by the C kernels, where they are built, with as many threads as torch uses; else by torch.
    """
    if SLOW or torch.device(device).type != "cpu":
        reader, threads = _by_torch(weights, device), 1
    else:
        reader, threads = _by_kernels(weights), torch.get_num_threads()
    pieces = [(number, piece) for number, passage in enumerate(passages) for piece in passage.pieces]
    bits = np.zeros(len(passages))
    with ThreadPoolExecutor(threads) as pool:
        for group in _alike([len(piece) for _, piece in pieces]):
            parts = [part.tolist() for part in np.array_split(group, min(threads, len(group)))]
            found = pool.map(lambda part: reader([pieces[i][1] for i in part]), parts)
            for part, costs in zip(parts, found, strict=True):
                for i, cost in zip(part, costs, strict=True):
                    bits[pieces[i][0]] += cost
                if progress:
                    progress(sum(len(pieces[i][1]) - 1 for i in part))
    counted = [sum(len(piece) - 1 for piece in passage.pieces) for passage in passages]
    return {p.name: float(b) / number for p, b, number in zip(passages, bits, counted, strict=True)}


Reader = Callable[[Sequence[npt.NDArray[Any]]], list[float]]


def _by_kernels(weights: Weights) -> Reader:
    """Bits of each piece, read side by side, by the C kernels."""
    network = kernels.Network(weights.config, weights.weights)

    def read(pieces: Sequence[npt.NDArray[Any]]) -> list[float]:
        lanes = network.start(len(pieces))

        def step(symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
            sums = np.frombuffer(lanes.step(symbols.tobytes()), np.uint32)
            return sums.reshape(*symbols.shape, 512)

        return _bits(pieces, step)

    return read


def _by_torch(weights: Weights, device: torch.device | str) -> Reader:
    """The same by torch."""
    network = ExactNetwork(weights, device)

    def read(pieces: Sequence[npt.NDArray[Any]]) -> list[float]:
        lanes = network.start(len(pieces))
        return _bits(pieces, lambda symbols: lanes.step(torch.from_numpy(symbols)).cpu().numpy())

    return read


def _bits(pieces: Sequence[npt.NDArray[Any]], step: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]) -> list[float]:
    """Bits of each piece but for its first byte.

    Args:
        pieces: of bytes.
        step: partial sums after each byte, (steps, lanes, 512), for bytes of shape (steps, lanes).
    """
    symbols, targets = _side_by_side(pieces)
    bits = np.zeros(len(pieces))
    rows = max(EXACT_SYMBOLS_AT_ONCE // len(pieces), 1)
    for at in range(0, len(symbols), rows):
        sums, wanted = step(np.ascontiguousarray(symbols[at : at + rows])), targets[at : at + rows]
        counted = wanted != IGNORED
        chosen = np.take_along_axis(sums, 256 + np.where(counted, wanted, 0)[..., None], -1)[..., 0]
        spent = np.log2(sums[..., 1].astype(np.float64) / chosen)
        bits += (spent * counted).sum(0)
    return [float(b) for b in bits]


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in groups of which no length is twice another: side by side, they are padded to the longest."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for _, group in groupby(order, key=lambda i: (lengths[i] - 1).bit_length()):
        yield list(group)


def _lanes(passages: Sequence[Passage], reach: int | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Any]:
    """Symbols and targets of all pieces, (steps, lanes), and the passage that each lane belongs to, (lanes,)."""
    columns = [_side_by_side(passage.pieces) for passage in passages]
    if reach is not None:
        columns = [_windows(*pair, min(reach, max(len(symbols) for symbols, _ in columns))) for pair in columns]
    steps = max(len(symbols) for symbols, _ in columns)
    rows = [[(0, steps - len(symbols)), (0, 0)] for symbols, _ in columns]
    symbols = np.concatenate([np.pad(pair[0], more) for pair, more in zip(columns, rows, strict=True)], axis=1)
    targets = [np.pad(pair[1], more, constant_values=IGNORED) for pair, more in zip(columns, rows, strict=True)]
    owners = np.repeat(np.arange(len(columns)), [pair[0].shape[1] for pair in columns])
    return symbols, np.concatenate(targets, axis=1), owners


def _side_by_side(pieces: Sequence[npt.NDArray[Any]]) -> Columns:
    """Pieces as lanes, the shorter ones filled up with what is not counted."""
    longest = max(len(piece) for piece in pieces) - 1
    symbols = np.zeros((longest, len(pieces)), pieces[0].dtype)
    targets = np.full(symbols.shape, IGNORED, np.int64)
    for lane, piece in enumerate(pieces):
        symbols[: len(piece) - 1, lane], targets[: len(piece) - 1, lane] = piece[:-1], piece[1:]
    return symbols, targets


def _windows(symbols: npt.NDArray[Any], targets: npt.NDArray[Any], reach: int) -> Columns:
    """Every window of `reach` steps as a lane of its own."""
    steps = -(-len(symbols) // reach) * reach
    more = ((0, steps - len(symbols)), (0, 0))
    symbols, targets = np.pad(symbols, more), np.pad(targets, more, constant_values=IGNORED)
    return tuple(x.T.reshape(-1, reach).T for x in (symbols, targets))  # type: ignore[return-value]


def _portions(shape: tuple[int, ...], reach: int | None) -> Iterator[tuple[slice, slice]]:
    """What a model takes in one call: some steps of all lanes, or with a `reach` all steps of some lanes."""
    steps, lanes = shape
    most = max(SYMBOLS_AT_ONCE // (lanes if reach is None else steps), 1)
    if reach is None:
        yield from ((slice(at, at + most), slice(None)) for at in range(0, steps, most))
    else:
        yield from ((slice(None), slice(at, at + most)) for at in range(0, lanes, most))


__all__ = ["beginnings", "count", "count_scored", "exact_scores", "select", "size", "validate"]
