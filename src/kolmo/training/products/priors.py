"""Priors of mixers from samples of text: what a mixer believes before the first byte (docs/context-mixing.md).

A mixer runs over the samples; between them it forgets the data but keeps what it learned about histories, weights and
curves. `kolmo train` makes the priors of the mixers that read its network's predictions in this way, from the pieces
that it held out, and `scripts/train_prior.py` those that ship with the package. What it is not: it needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kolmo.native import tables
from kolmo.native.dispatch import SLOW
from kolmo.predictors.embedded.context_mixing import Shape, configuration, inflate, inflated_prior, pack_prior, prior
from kolmo.predictors.embedded.network import Weights
from kolmo.predictors.embedded.neural_levels import SHAPES

TABLE_BITS, MATCH_BITS = 24, 16
MIN_TEXT_BYTES = 1 << 14  # least text that priors are learned from
TRAINED_BYTES_PER_TEXT_BYTE = 64  # bytes that the network was trained on, for each byte that priors are learned from
SAMPLE_BYTES = 1 << 11  # of one sample: priors matter most for small files
CAN_LEARN = not SLOW  # the NumPy reference does not give back what a mixer has learned


def train_prior(shape: Shape, samples: Sequence[bytes], began: bytes, network: Weights | None = None) -> bytes:
    """Run a mixer over samples once.

    Args:
        shape: of the mixer.
        samples: texts, none of them empty.
        began: the prior that it starts from, in the layout of `context_mixing.plain_prior`.
        network: whose predictions the mixer reads, where its shape has one.

    Returns:
        What was learned, as `context_mixing.pack_prior` packs it.

    Raises:
        ImportError: the C kernels are not built.
        ValueError: the shape reads a network's predictions, and there is none.
    """
    from kolmo.native import _kernels as kernels

    config, size = configuration(shape, TABLE_BITS, MATCH_BITS), max(map(len, samples))
    if not shape.network:
        mixer = kernels.ContextMixer(config, tables.packed(), began, size)
        for sample in samples:
            mixer.forget()
            mixer.costs(sample)
        return pack_prior(shape, mixer.learned())
    if network is None:
        raise ValueError(f"the shape {shape.name} reads the predictions of a network; give one")
    kernel = kernels.Network(network.config, network.weights)
    reader = kernels.NeuralMixer(config, tables.packed(), began, size, 1, 1, kernel)
    for sample in samples:
        reader.forget(len(sample))
        reader.score(sample, len(sample))
    return pack_prior(shape, reader.learned())


def with_priors(weights: Weights, pieces: Sequence[bytes], trained: int) -> Weights:
    """The network with priors of the mixers that will read its predictions, learned from texts it has not seen.

    The mixers start from the priors that ship with the package, and keep these where they cannot learn. The same
    arguments give the same priors.

    Args:
        weights: the network.
        pieces: texts that it was not trained on.
        trained: bytes that it was trained on: what is learned from is in proportion, so that this takes some hundredth
            of the training's time.
    """
    samples = samples_of(pieces, max(trained // TRAINED_BYTES_PER_TEXT_BYTE, MIN_TEXT_BYTES))
    if not samples or not CAN_LEARN:
        return replace(weights, priors=b"".join(map(inflated_prior, SHAPES)))
    packed = (train_prior(shape, samples, prior(shape), weights) for shape in SHAPES)
    return replace(weights, priors=b"".join(map(inflate, packed)))


def samples_of(pieces: Sequence[bytes], size: int) -> list[bytes]:
    """Samples from the beginnings of the pieces, which give equal parts, `size` bytes together at most.

    >>> [len(sample) for sample in samples_of([bytes(5000), bytes(9000)], 6000)]
    [2048, 952, 2048, 952]
    """
    length = size // max(len(pieces), 1)
    return [
        piece[at : min(at + SAMPLE_BYTES, length)]
        for piece in pieces
        for at in range(0, min(len(piece), length), SAMPLE_BYTES)
    ]
