"""Tokens as decisions, and the grids that make noise harmless: C and NumPy, one decoding what the other wrote."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.errors import CorruptError, PredictorError
from kolmo.native import reference
from kolmo.predictors.language_models import grids
from kolmo.predictors.language_models.grids import Tolerance

KERNELS = [reference, *([NATIVE] if NATIVE else [])]
Floats = npt.NDArray[np.floating[Any]]


def rows(seed: int, count: int, vocabulary: int, dtype: Any, spread: float = 4) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Logits, and targets that follow them."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((count, vocabulary)) * spread).astype(dtype)
    noise = rng.gumbel(size=logits.shape)  # the greatest of logit + Gumbel noise follows the softmax
    return logits, (logits + noise).argmax(1).astype(np.int32)


def encode(kernels: Any, tables: bytes, logits: Floats, targets: npt.NDArray[np.int32]) -> bytes:
    encoder = kernels.TokenEncoder(kernels.TokenTree(tables, logits.shape[1]))
    encoder.encode(logits, logits.itemsize, targets)
    return bytes(encoder.finish())


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 255, 256, 257, 300, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_decodes_what_the_other_wrote_through_noise(vocabulary: int, dtype: Any) -> None:
    itemsize = np.dtype(dtype).itemsize
    chosen = grids.tolerance(3e-4 if itemsize == 4 else 1e-4, itemsize)
    tables = grids.tables(chosen)
    logits, targets = rows(vocabulary, 60, vocabulary, dtype)
    ideal = sum(-math.log2(p) for p in softmax(logits)[np.arange(60), targets])
    rng = np.random.default_rng(5)
    for writer in KERNELS:
        packed = encode(writer, tables, logits, targets)
        assert 8 * len(packed) < 1.1 * ideal + 60 * 0.2 + 24
        for reader in KERNELS:
            decoder = reader.TokenDecoder(reader.TokenTree(tables, vocabulary), packed)
            for row, target in zip(logits, targets, strict=True):
                half = row.astype(np.float64)
                # The worst that can be done: all of the target's side down, all else up, and a shift of all.
                worst = half + np.where(np.arange(vocabulary) <= target, -1, 1) * chosen.bound * 0.999 + 0.25
                random = half + rng.choice([-1, 1], vocabulary) * chosen.bound * 0.999 - 2
                noisy = np.ascontiguousarray(worst if target % 2 else random, dtype)
                assert decoder.decode(noisy, itemsize) == target


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_noise_beyond_the_tolerance_does_harm(kernels: Any) -> None:
    """The tests above can fail."""
    chosen = grids.tolerance(1e-5, 4)
    tables = grids.tables(chosen)
    logits, targets = rows(3, 2000, 40, np.float32)
    decoder = kernels.TokenDecoder(kernels.TokenTree(tables, 40), encode(kernels, tables, logits, targets))
    noise = np.random.default_rng(1).choice([-0.02, 0.02], logits.shape).astype(np.float32)
    found = []
    try:
        for row in logits + noise:
            found.append(decoder.decode(row, 4))
    except CorruptError:
        pass
    assert found != targets.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.sampled_from([0.0, 1e-6, 1e-3]), st.floats(0.01, 30))
@settings(max_examples=40, deadline=None)
def test_same_bytes(seed: int, vocabulary: int, noise: float, spread: float) -> None:
    logits, targets = rows(seed, 8, vocabulary, np.float64, spread)
    tables = grids.tables(grids.tolerance(noise, 8))
    packed = [encode(kernels, tables, logits, targets) for kernels in KERNELS]
    assert packed[0] == packed[-1]
    for kernels in KERNELS:
        decoder = kernels.TokenDecoder(kernels.TokenTree(tables, vocabulary), packed[0])
        assert [decoder.decode(row, 8) for row in logits] == targets.tolist()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_sums_of_a_device(kernels: Any) -> None:
    """The two stages, groups and then leaves, are the same code as the whole row's."""
    vocabulary = 1000
    logits, targets = rows(1, 50, vocabulary, np.float64)
    tables = grids.tables(grids.tolerance(1e-4, 8))
    tree = kernels.TokenTree(tables, vocabulary)
    masses = np.zeros((50, 1024))
    masses[:, :vocabulary] = np.exp(np.maximum(logits - logits.max(1, keepdims=True), -64))
    groups = masses.reshape(50, 4, 256)
    tops = np.ascontiguousarray(groups.sum(2))
    leaves = np.ascontiguousarray(groups[np.arange(50), targets // 256])
    encoder = kernels.TokenEncoder(tree)
    encoder.encode_sums(tops, leaves, targets)
    packed = encoder.finish()
    assert packed == encode(kernels, tables, logits, targets)
    decoder = kernels.TokenDecoder(tree, packed)
    for k, target in enumerate(targets):
        group = decoder.group(tops[k])
        assert group == target // 256
        assert decoder.leaf(group, np.ascontiguousarray(groups[k, group])) == target
    with pytest.raises(ValueError, match="not finite"):
        kernels.TokenDecoder(tree, packed).group(tops[0] * math.nan)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_costs_are_nats(kernels: Any) -> None:
    for dtype, near in ((np.float32, 1e-6), (np.float64, 1e-12)):
        logits, targets = rows(2, 30, 700, dtype)
        tree = kernels.TokenTree(grids.tables(grids.tolerance(0, 8)), 700)
        costs = np.frombuffer(tree.costs(logits, logits.itemsize, targets, False), np.float64)
        np.testing.assert_allclose(costs, -np.log(softmax(logits)[np.arange(30), targets]), rtol=near, atol=near)
        coded = np.frombuffer(tree.costs(logits, logits.itemsize, targets, True), np.float64).sum() / math.log(2)
        written = 8 * len(encode(kernels, grids.tables(grids.tolerance(0, 8)), logits, targets))
        assert coded - 8 < written < coded + 10


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_extremes(kernels: Any) -> None:
    """Certainties, impossible tokens and infinities; NaN is refused."""
    tables = grids.tables(grids.tolerance(1e-5, 4))
    logits = np.zeros((6, 300), np.float32)
    logits[0, 7] = 1e30
    logits[1, 7] = -1e30
    logits[2, :299] = -np.inf
    logits[3] = 3e38 * np.where(np.arange(300) % 2, 1, -1)
    targets = np.array([8, 7, 3, 0, 299, 0], np.int32)
    decoder = kernels.TokenDecoder(kernels.TokenTree(tables, 300), encode(kernels, tables, logits, targets))
    assert [decoder.decode(row, 4) for row in logits] == targets.tolist()
    for bad in (np.nan, np.inf):
        for place in (0, 150, 299):
            row = np.zeros((1, 300), np.float32)
            row[0, place] = bad
            with pytest.raises(ValueError, match="not finite"):
                encode(kernels, tables, row, np.array([0], np.int32))
            with pytest.raises(ValueError, match="not finite"):
                kernels.TokenTree(tables, 300).costs(row, 4, np.array([0], np.int32), False)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_misuse(kernels: Any) -> None:
    tables = grids.tables(grids.tolerance(1e-5, 4))
    tree = kernels.TokenTree(tables, 300)
    row = np.zeros((1, 300), np.float32)
    one = np.array([1], np.int32)
    for bad in (b"", tables[:-8], tables[:3]):
        with pytest.raises(ValueError, match="not those of a token tree"):
            kernels.TokenTree(bad, 300)
    with pytest.raises(ValueError, match="not those of a token tree"):
        kernels.TokenTree(tables, 0)
    for target in (-1, 300):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            kernels.TokenEncoder(tree).encode(row, 4, np.array([target], np.int32))
    for itemsize in (2, 8):
        with pytest.raises(ValueError, match="a row of the vocabulary's logits"):
            kernels.TokenEncoder(tree).encode(row, itemsize, one)
    encoder = kernels.TokenEncoder(tree)
    encoder.encode(row, 4, one)
    assert encoder.choices() == 0
    encoder.finish()
    with pytest.raises(ValueError, match="finished"):
        encoder.finish()
    decoder = kernels.TokenDecoder(tree, b"")
    unlikely = np.arange(300, dtype=np.float32)[::-1].copy()
    with pytest.raises(CorruptError, match=r"ends too early|no choice of grids"):
        _ = [decoder.decode(unlikely, 4) for _ in range(1000)]
    decoder = kernels.TokenDecoder(kernels.TokenTree(grids.tables(grids.WITHOUT), 300), b"")
    with pytest.raises(CorruptError, match="ends too early"):
        _ = [decoder.decode(unlikely, 4) for _ in range(1000)]


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_spans(kernels: Any) -> None:
    """The choice goes before its span; where none serves, that is an error; a choice without end is damage."""
    logits, targets = rows(4, 40, 600, np.float64)
    payloads = set()
    for span in range(grids.SPANS):
        chosen = Tolerance(8, span, 1e-4)
        tables = grids.tables(chosen)
        tree = kernels.TokenTree(tables, 600)
        encoder = kernels.TokenEncoder(tree)
        for k in range(0, 40, 7):
            encoder.encode(logits[k : k + 7], 8, targets[k : k + 7])
        packed = encoder.finish()
        assert encoder.choices() == -(-40 // 4**span)
        assert packed == encode(kernels, tables, logits, targets)
        decoder = kernels.TokenDecoder(tree, packed)
        assert [decoder.decode(row, 8) for row in logits] == targets.tolist()
        payloads.add(packed)
    assert len(payloads) >= 4  # 64, 256 and 1024 tokens are one span here
    encoder = kernels.TokenEncoder(kernels.TokenTree(grids.tables(Tolerance(8, 0, 3.0)), 600))
    with pytest.raises(OverflowError, match="no choice of grids"):
        encoder.encode(logits, 8, targets)
    decoder = kernels.TokenDecoder(kernels.TokenTree(grids.tables(Tolerance(8, 0, 1e-4)), 600), bytes(40))
    with pytest.raises(CorruptError, match="a span of tokens has no choice of grids"):
        decoder.decode(logits[0], 8)


def test_odds() -> None:
    """Of each level, by both; on either side of a decision the masses of its ids."""
    for vocabulary, levels in ((600, 10), (200, 8), (1, 8)):
        logits, targets = rows(6, 12, vocabulary, np.float64)
        found = [
            np.frombuffer(
                kernels.TokenTree(grids.tables(grids.WITHOUT), vocabulary).odds(logits, 8, targets), np.float64
            ).reshape(12, levels)
            for kernels in KERNELS
        ]
        np.testing.assert_allclose(found[0], found[-1], atol=1e-11)
    masses = np.exp(rows(6, 12, 600, np.float64)[0])
    logits, targets = rows(6, 12, 600, np.float64)
    odds = np.frombuffer(KERNELS[-1].TokenTree(grids.tables(grids.WITHOUT), 600).odds(logits, 8, targets), np.float64)
    np.testing.assert_allclose(odds[::10], np.log(masses[:, 512:].sum(1) / masses[:, :512].sum(1)), atol=1e-11)


@pytest.mark.skipif(NATIVE is None, reason="needs the C kernels")
def test_paths_agree() -> None:
    logits, targets = rows(9, 20, 3000, np.float32)
    tables = grids.tables(grids.tolerance(1e-4, 4))
    sizes = set()
    try:
        for path in NATIVE.PATHS:
            NATIVE.force_path(path)
            packed = encode(NATIVE, tables, logits, targets)
            sizes.add(len(packed))
            for other in NATIVE.PATHS:
                NATIVE.force_path(other)
                decoder = NATIVE.TokenDecoder(NATIVE.TokenTree(tables, 3000), packed)
                assert [decoder.decode(row, 4) for row in logits] == targets.tolist()
    finally:
        NATIVE.force_path(NATIVE.PATHS[-1])
    assert len(sizes) == 1


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("noise", [2.0**-40, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1])
def test_every_tolerance_leaves_room(noise: float, itemsize: int) -> None:
    """The premises of the proof: cells are much wider than 2e, and the slack covers what noise of logits can do."""
    chosen = grids.tolerance(noise, itemsize)
    read = Tolerance.from_bytes(chosen.to_bytes())
    assert (read.step, read.span) == (chosen.step, chosen.span)
    slack, span, count, *values = np.frombuffer(grids.tables(chosen), np.float64).tolist()
    assert slack >= 2 * noise + grids.ROUNDING[itemsize]
    assert span == 4**chosen.span
    points, chances = np.array(values[: int(count)]), np.array(values[int(count) :])
    assert len(points) == len(chances) == count
    assert (points[grids.SHIFTS :] - points[: -grids.SHIFTS]).min() > 6 * slack
    np.testing.assert_array_equal(points, -points[::-1])
    assert points[-1] >= grids.MAX_LOG_ODDS
    assert (np.diff(points) > 0).all()
    assert (np.diff(chances) >= 0).all()
    assert chances.min() >= 1
    assert chances.max() <= 65535
    np.testing.assert_allclose(chances, np.clip(65536 / (1 + np.exp(-points)), 1, 65535), atol=0.5001)


def test_too_much_noise() -> None:
    with pytest.raises(PredictorError, match=r"noise of 0\.5 .*float64"):
        grids.tolerance(0.5, 4)
    assert grids.tolerance(0, 4) == grids.WITHOUT
    assert Tolerance.from_bytes(grids.WITHOUT.to_bytes()) == grids.WITHOUT
    assert grids.WITHOUT.shorter() is None
    assert Tolerance(3, 0, 1e-3).shorter() is None
    for bad in (21, 31, 6 << 5, 7 << 5 | 21, 255):
        with pytest.raises(ValueError, match="does not exist"):
            Tolerance.from_bytes(bytes([bad]))


def test_a_near_decision_costs_two_bits() -> None:
    """The gain over a flag for each decision, which would cost some ten bits where a decision is near a boundary."""
    logits, targets = rows(5, 3000, 256, np.float64, 2)
    bits = [
        8 * len(encode(KERNELS[-1], grids.tables(Tolerance(4, 3, slack)), logits, targets)) for slack in (1e-9, 4e-3)
    ]
    tree = KERNELS[-1].TokenTree(grids.tables(grids.WITHOUT), 256)
    odds = np.abs(np.frombuffer(tree.odds(logits, 8, targets), np.float64))
    width = 2.0 ** (1 - 4 / 4) * np.minimum(np.cosh(odds / 2) ** (2 / 3), grids.MAX_CELL_RATIO)
    near = (2 * 4e-3 / width)[odds < grids.MAX_LOG_ODDS].sum()
    assert 100 < near < 300
    assert 1.2 * near < bits[1] - bits[0] < 2.6 * near


def test_chances_never_change() -> None:
    """They are part of the format: integers from exact decimal arithmetic, the same on every machine."""
    whole = hashlib.sha256()
    for step in range(grids.MIN_STEP, grids.MAX_STEP + 1):
        whole.update(np.array(grids._points(step)[1], "<u2").tobytes())
    assert whole.hexdigest()[:16] == "2d61607369d9a917"
