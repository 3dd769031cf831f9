"""The memory beside a language model: C and Python give the same bits, both ways; what it learns; what it refuses."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kolmo.native import reference, tables
from kolmo.native.dispatch import kernels
from kolmo.predictors.language_models import grids

VOCABULARY = 700
KINDS = bytes(1 if k == 10 else 2 if k % 7 == 3 else 0 for k in range(VOCABULARY))
SPANS = [grids.WITHOUT, grids.Tolerance(8, 0, 1e-3), grids.Tolerance(8, 1, 1e-3)]


def logits(ids: np.ndarray, seed: int) -> np.ndarray:
    """Logits under which the ids are likely, and others too."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 2, (len(ids), VOCABULARY)).astype(np.float32)
    rows[np.arange(len(ids)), ids] += 3
    return rows


def lanes(seed: int = 0, lengths: tuple[int, ...] = (40, 39, 17)) -> list[np.ndarray]:
    """Lanes of tokens that repeat each other in part."""
    rng = np.random.default_rng(seed)
    phrase = rng.integers(0, VOCABULARY, 12)
    texts = []
    for length in lengths:
        text = rng.integers(0, VOCABULARY, length)
        text[5:17] = phrase
        text[length // 2 :] = np.resize(text[: length // 2], length - length // 2)
        texts.append(text.astype(np.int32))
    return texts


def start(
    module: ModuleType, tolerance: grids.Tolerance, texts: list[np.ndarray], remembered: int = 1 << 16
) -> tuple[Any, Any]:
    tree = module.TokenTree(grids.tables(tolerance), VOCABULARY)
    lengths = np.array([len(text) for text in texts], np.int32).tobytes()
    return tree, module.TokenMemory(tree, tables.packed(), KINDS, lengths, remembered)


def encode(module: ModuleType, tolerance: grids.Tolerance, texts: list[np.ndarray], group: int = 2) -> list[bytes]:
    tree, memory = start(module, tolerance, texts)
    payloads = []
    for first in range(0, len(texts), group):
        encoders = []
        for k, text in enumerate(texts[first : first + group]):
            encoder = module.TokenEncoder(tree, True)
            encoder.encode(logits(text, first + k), 4, text)
            encoders.append(encoder)
        memory.encode(encoders, first)
        payloads += [encoder.finish() for encoder in encoders]
    return payloads


def decode(
    module: ModuleType, tolerance: grids.Tolerance, texts: list[np.ndarray], payloads: list[bytes], group: int = 2
) -> list[list[int]]:
    tree, memory = start(module, tolerance, texts)
    decoders = [module.TokenDecoder(tree, payload, memory, k) for k, payload in enumerate(payloads)]
    rows = [logits(text, k) for k, text in enumerate(texts)]
    found: list[list[int]] = [[] for _ in texts]
    for first in range(0, len(texts), group):
        group_lanes = range(first, min(first + group, len(texts)))
        for at in range(max(len(texts[k]) for k in group_lanes)):
            for k in group_lanes:
                if at < len(texts[k]):
                    found[k].append(decoders[k].decode(rows[k][at : at + 1], 4))
    return found


@pytest.mark.parametrize("tolerance", SPANS)
def test_c_and_python_write_the_same_bits_and_read_each_other(tolerance: grids.Tolerance) -> None:
    texts = lanes()
    written = encode(kernels, tolerance, texts)
    assert written == encode(reference, tolerance, texts)
    expected = [text.tolist() for text in texts]
    assert decode(kernels, tolerance, texts, written) == expected
    assert decode(reference, tolerance, texts, written) == expected


def test_paths_write_the_same_bits() -> None:
    texts = lanes(1, (300, 290))
    first = None
    for path in kernels.PATHS:
        if hasattr(kernels, "force_path"):
            kernels.force_path(path)
        written = encode(kernels, SPANS[1], texts)
        assert first is None or written == first
        first = written


def test_costs_are_what_is_written() -> None:
    texts = lanes(2, (200, 180))
    tree, memory = start(kernels, grids.WITHOUT, texts)
    encoders = []
    for k, text in enumerate(texts):
        encoders.append(kernels.TokenEncoder(tree, True))
        encoders[k].encode(logits(text, k), 4, text)
    nats = np.frombuffer(memory.costs(encoders, 0))
    assert len(nats) == 380
    written = sum(map(len, encode(kernels, grids.WITHOUT, texts)))
    assert abs(written - nats.sum() / np.log(2) / 8) < 2 * len(texts)
    small_tree, small = start(reference, grids.WITHOUT, lanes())
    kept = []
    for k, text in enumerate(lanes()):
        kept.append(reference.TokenEncoder(small_tree, True))
        kept[k].encode(logits(text, k), 4, text)
    ours, theirs = np.frombuffer(small.costs(kept, 0)), None
    small_tree, small = start(kernels, grids.WITHOUT, lanes())
    kept = []
    for k, text in enumerate(lanes()):
        kept.append(kernels.TokenEncoder(small_tree, True))
        kept[k].encode(logits(text, k), 4, text)
    theirs = np.frombuffer(small.costs(kept, 0))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_what_repeats_costs_little() -> None:
    text = np.random.default_rng(3).integers(0, VOCABULARY, 200).astype(np.int32)
    flat = np.zeros((200, VOCABULARY), np.float32)
    sizes = []
    for texts in ([text], [text, text]):
        tree, memory = start(kernels, grids.WITHOUT, texts)
        encoders = []
        for part in texts:
            encoders.append(kernels.TokenEncoder(tree, True))
            encoders[-1].encode(flat, 4, part)
        memory.encode(encoders, 0)
        sizes.append(sum(len(encoder.finish()) for encoder in encoders))
    assert sizes[0] == pytest.approx(200 * np.log2(VOCABULARY) / 8, rel=0.1)
    assert sizes[1] < 1.1 * sizes[0]


def test_wrong_uses_are_errors() -> None:
    texts = lanes()
    tree, memory = start(kernels, grids.WITHOUT, texts)
    encoder = kernels.TokenEncoder(tree, True)
    with pytest.raises(ValueError, match="does not hold all tokens"):
        memory.encode([encoder], 0)
    with pytest.raises(ValueError, match="does not have these lanes"):
        kernels.TokenDecoder(tree, b"", memory, 3)
    with pytest.raises(ValueError, match="whole rows"):
        kernels.TokenDecoder(tree, b"", memory, 0).group(np.ones(3))
    for kinds, lengths, remembered in ((b"", [1], 1), (KINDS, [], 1), (KINDS, [-1], 1), (KINDS, [1], 0)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.TokenMemory(tree, tables.packed(), kinds, np.array(lengths, np.int32).tobytes(), remembered)
    decoder = kernels.TokenDecoder(tree, bytes(400), memory, 2)
    rows = np.zeros((1, VOCABULARY), np.float32)
    for _ in texts[2]:
        decoder.decode(rows, 4)
    with pytest.raises(ValueError, match="no token left"):
        decoder.decode(rows, 4)
