"""Priors of the mixers of sound: what a mixer believes before the first sample (docs/audio.md, "Priors").

A mixer runs over pieces of sound; between them it forgets the sound but keeps what it learned about histories and
weights. What it is not: it needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from kolmo.native import tables
from kolmo.predictors.embedded.kinds.sound.shapes import SoundShape, configuration, pack_prior, unpack_prior

TABLE_BITS = 18
Piece = tuple[tuple[int, ...], bytes]  # parameters of the kind `audio`; samples


def train_sound_prior(shape: SoundShape, pieces: Iterable[Piece], began: bytes, network: object = None) -> bytes:
    """Run a mixer over pieces of sound once.

    Args:
        shape: of the mixer.
        pieces: none of them empty; a change of parameters starts a new mixer from what the last one learned.
        began: the prior that it starts from, in the layout of `sound_shapes.plain_prior`.
        network: a `kernels.SampleNetwork`, where the shape has one.

    Returns:
        What was learned, as `sound_shapes.pack_prior` packs it.

    Raises:
        ImportError: the C kernels are not built.
    """
    from kolmo.native import _kernels as kernels

    mixer, last = None, None
    for parameters, data in pieces:
        if mixer is None or parameters != last:
            if mixer is not None:
                began = unpack_prior(shape, pack_prior(shape, mixer.learned()))
            config = configuration(shape, parameters, TABLE_BITS if shape.contexts else 12)
            constants = tables.packed(), tables.softplus().tobytes()
            mixer = kernels.SoundMixer(config, *constants, began, len(data), network)  # type: ignore[arg-type]
        last = parameters
        mixer.forget(len(data))
        mixer.costs(data)
    if mixer is None:
        raise ValueError("a prior is learned from at least one piece of sound")
    return pack_prior(shape, mixer.learned())
