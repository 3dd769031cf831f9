"""The mixer of sound: the same bits on all paths and in NumPy, and the mirror of encoding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import CorruptError
from kolmo.native import reference, tables
from kolmo.predictors.embedded.kinds.sound import shapes as sound_shapes
from kolmo.predictors.embedded.kinds.sound.shapes import Filter, SoundShape

kernels = pytest.importorskip("kolmo.native._kernels")

SMALL = SoundShape("small", (Filter(5, 3, 2, 655), Filter(4, 0, 1, 66)), 1, ((7, 524), (3, 900)), 328, 6, 14)
BARE = SoundShape("bare", (Filter(3, 1, 1, 131),), 0, ((2, 524),), 66, 0, 12)


@pytest.fixture(params=[path for path in kernels.PATHS if path != "reference"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    kernels.force_path(request.param)
    yield request.param
    kernels.force_path(kernels.PATHS[-1])


def wave(kind: str, size: int, bits: int) -> bytes:
    """Bytes of little-endian samples of a kind of sound."""
    rng, peak = np.random.default_rng(7), (1 << bits - 1) - 1
    t = np.arange(size * 8 // bits + 1)
    values = {
        "noise": rng.integers(-peak - 1, peak + 1, len(t)),
        "tone": (0.7 * peak * np.sin(t * 0.1) + rng.normal(0, 2, len(t))).astype(np.int64),
        "silence": np.zeros(len(t), np.int64),
        "edges": np.where(t % 7 < 3, peak, -peak - 1),
    }[kind]
    return b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in values)[:size]


def random_network(module: object) -> reference.SampleNetwork:
    """Small random weights of a network of samples (docs/samples.md)."""
    rng, width = np.random.default_rng(5), 64
    parts = [rng.integers(-3000, 3000, 24 * 48).astype("<i4")]
    for rows, inputs in ((width, 128), (31, width)):
        parts += [
            rng.integers(-60, 60, rows * inputs).astype("i1"),
            np.full(rows, 1e-4, "<f4"),
            rng.normal(0, 0.1, rows).astype("<f4"),
        ]
    network: reference.SampleNetwork = module.SampleNetwork(  # type: ignore[attr-defined]
        np.array([width, 1], "=i4").tobytes(), b"".join(part.tobytes() for part in parts)
    )
    return network


def mixer(
    module: object, shape: SoundShape, parameters: tuple[int, ...], size: int, network: object = None
) -> reference.SoundMixer:
    config = sound_shapes.configuration(shape, parameters, shape.table_bits)
    constants = tables.packed(), tables.softplus().tobytes()
    result: reference.SoundMixer = module.SoundMixer(config, *constants, sound_shapes.plain_prior(shape), size, network)  # type: ignore[attr-defined]
    return result


CASES = [
    ("tone", 8, 1, 0, 1, 0, 211),
    ("tone", 16, 1, 0, 0, 0, 400),
    ("tone", 16, 2, 1, 0, 3, 301),
    ("noise", 16, 8, 0, 1, 5, 150),
    ("edges", 24, 1, 0, 0, 0, 300),
    ("edges", 8, 3, 0, 0, 2, 200),
    ("tone", 24, 2, 1, 1, 4, 250),
    ("silence", 16, 1, 0, 0, 0, 333),
    ("noise", 24, 1, 0, 0, 1, 1),
    ("noise", 16, 2, 0, 0, 0, 1),
    ("noise", 8, 1, 0, 0, 0, 1),
]


@pytest.mark.parametrize("shape", [SMALL, BARE], ids=lambda s: s.name)
@pytest.mark.parametrize(("kind", "bits", "channels", "big", "plain", "phase", "size"), CASES)
def test_paths_and_numpy_give_the_same_bits(
    path: str, shape: SoundShape, kind: str, bits: int, channels: int, big: int, plain: int, phase: int, size: int
) -> None:
    data, parameters = wave(kind, size, bits), (bits, channels, big, plain, phase)
    costs = mixer(kernels, shape, parameters, size).costs(data)
    assert costs == mixer(reference, shape, parameters, size).costs(data)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[6]], ids=str)
def test_with_a_network(path: str, case: tuple[str, int, int, int, int, int, int]) -> None:
    kind, bits, channels, big, plain, phase, size = case
    data, parameters = wave(kind, size, bits), (bits, channels, big, plain, phase)
    costs = mixer(kernels, SMALL, parameters, size, random_network(kernels)).costs(data)
    assert costs == mixer(reference, SMALL, parameters, size, random_network(reference)).costs(data)
    assert costs != mixer(kernels, SMALL, parameters, size).costs(data)


@pytest.mark.parametrize("module", [kernels, reference], ids=["C", "NumPy"])
@pytest.mark.parametrize(("kind", "bits", "channels", "big", "plain", "phase", "size"), CASES[:6])
def test_decoding_mirrors_encoding(
    module: object, kind: str, bits: int, channels: int, big: int, plain: int, phase: int, size: int
) -> None:
    data, parameters = wave(kind, size, bits), (bits, channels, big, plain, phase)
    head = -phase % (bits // 8) + bits // 8 * 20
    encoder, writer = BinaryEncoder(), mixer(module, SMALL, parameters, size)
    for part in (data[:head], data[head:]):
        writer.encode(encoder, part)
    decoder, reader = BinaryDecoder(encoder.finish()), mixer(module, SMALL, parameters, size)
    assert reader.decode(decoder, head) + reader.decode(decoder, size - head) == data


def test_a_payload_that_ends_early_is_corrupt() -> None:
    with pytest.raises(CorruptError):
        mixer(kernels, SMALL, (16, 1, 0, 0, 0), 1 << 20).decode(BinaryDecoder(b"abc"), 1 << 20)


def test_calls_end_with_a_sample() -> None:
    for module in (kernels, reference):
        with pytest.raises(ValueError, match="part of a sample"):
            mixer(module, BARE, (16, 1, 0, 0, 0), 100).costs(bytes(3))


def test_configurations_are_checked() -> None:
    for parameters in [(12, 1, 0, 0, 0), (16, 9, 0, 0, 0), (16, 0, 0, 0, 0), (16, 2, 0, 0, 4), (16, 1, 2, 0, 0)]:
        with pytest.raises(ValueError, match="configuration"):
            mixer(kernels, BARE, parameters, 10)
