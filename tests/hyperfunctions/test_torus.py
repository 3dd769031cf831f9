"""The seed's hyperfunction: cases worked by hand (docs/torus.md), brute force beside arithmetic, hostile payloads."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kolmo.errors import CorruptError
from kolmo.hyperfunctions.torus import CHUNK, HEADER, PRESETS, Torus
from kolmo.hyperfunctions.torus_codebook import Codebook

Matrix = npt.NDArray[np.float32]
UNLIMITED = Torus(limit=0.0)


def matrix(*pairs: tuple[float, float]) -> Matrix:
    return np.array(pairs, np.float32).reshape(1, -1)


def gaussian(rows: int, columns: int, sigma: float = 0.02, seed: int = 1) -> Matrix:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * sigma).astype(np.float32)


def header(payload: bytes) -> tuple[float, ...]:
    """(kind, C, width, padding, U, l, centre, farthest pair), flat."""
    return HEADER.unpack_from(payload)


def entries(book: Codebook) -> list[tuple[Fraction, Fraction]]:
    """The codebook by the description: the centre, then p_k = (k l / N^2 mod l, k l / N mod l), with l = N cells."""
    n = math.ceil(math.sqrt(book.points))
    return [(Fraction(n, 2), Fraction(n, 2))] + [(Fraction(k, n) % n, Fraction(k) % n) for k in range(book.points)]


# The codebook


def test_four_points_by_hand() -> None:
    # N = 2, side 2, k < 4: p = (k / 2 mod 2, k mod 2) = (0, 0), (1/2, 1), (1, 0), (3/2, 1); less the centre (1, 1)
    x, y = Codebook(4).places(np.arange(5, dtype=np.uint32))
    assert [*zip(x, y, strict=True)] == [(0, 0), (-1, -1), (-0.5, 0), (0, -1), (0.5, 0)]


def test_nine_points_by_hand() -> None:
    x, y = Codebook(9).places(np.arange(10, dtype=np.uint32))
    assert [*np.round(x[1:] + 1.5, 9)] == [0, *np.round(np.arange(1, 9) / 3, 9)]
    assert [*(y[1:] + 1.5)] == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert (x[0], y[0]) == (0, 0)


@pytest.mark.parametrize("points", [1, 2, 3, 5, 7, 12, 26, 31, 36, 50, 225, 1590, 1600])
def test_points_as_described(points: int) -> None:
    book = Codebook(points)
    x, y = book.places(np.arange(points + 1, dtype=np.uint32))
    for index, place in enumerate(entries(book)):
        assert (x[index] + book.rows / 2, y[index] + book.rows / 2) == pytest.approx(tuple(map(float, place)), abs=1e-9)


def brute_force(book: Codebook, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Squared distances, (places, entries)."""
    points = np.array([(float(a), float(b)) for a, b in entries(book)])
    squared: npt.NDArray[np.float64] = (x[:, None] - points[:, 0]) ** 2 + (y[:, None] - points[:, 1]) ** 2
    return squared


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.integers(1, 120), st.sampled_from([225, 1600, 1601, 1599])), st.integers(0, 1 << 32), st.booleans())
def test_nearest_is_nearest(points: int, seed: int, edge: bool) -> None:
    book, rng = Codebook(points), np.random.default_rng(seed)
    x, y = rng.random((2, 64)) * book.rows
    if edge:
        x, y = np.where(rng.random((2, 64)) < 0.5, np.rint(rng.random((2, 64))) * book.rows, (x, y))
    found, error = book.nearest(x, y)
    squared = brute_force(book, x, y)
    chosen = squared[np.arange(64), found]
    assert (chosen <= squared.min(axis=1) + 1e-9).all()
    clear = np.sort(squared, axis=1)[:, 1] > squared.min(axis=1) + 1e-9
    assert (found == squared.argmin(axis=1))[clear].all()
    px, py = book.places(found)
    assert np.allclose(error, abs(x - px - book.rows / 2) + abs(y - py - book.rows / 2), atol=1e-9)


@pytest.mark.parametrize("points", [1, 2, 4, 13, 14, 15, 16, 53, 56, 57, 60, 64])
def test_the_lowest_of_equally_near_entries(points: int) -> None:
    book = Codebook(points)  # N is a power of two, so distances from places on a fine grid are exact
    steps = np.arange(8 * book.rows + 1) / 8
    x, y = (grid.ravel() for grid in np.meshgrid(steps, steps))
    squared = brute_force(book, x, y)
    assert ((squared == squared.min(axis=1, keepdims=True)).sum(axis=1) > 1).any()
    assert (book.nearest(x, y)[0] == squared.argmin(axis=1)).all()


# Payloads by hand

ONE_RING = matrix((-0.5, -0.5), (0.5, 0.5), (-0.25, 0), (0.25, 0), (-1.5, 0), (1.5, 0))
"""l = 1, U = 4: entries (0, 0), (-1/2, -1/2), (-1/4, 0), (0, -1/2), (1/4, 0) from the centre, (0, 0). The corners are
inside: entries 1 and 4 (5/16 away; the centre is 1/2 away). The last two are at 3/2 = far, ring 1 of 1, drawn in by 1/3
to (-1/2, 0) and (1/2, 0): entries 2 and 4. Indices 1 4 2 4, 2 + 5, 4 + 5: four bits each."""


def test_one_ring() -> None:
    recipe = Torus(side=1.0, points=4, classes=1, threshold=0.0, limit=0.0)
    payload = recipe.encode(ONE_RING)
    assert payload == struct.pack("<BBBBId4f", 1, 1, 4, 0, 4, 1.0, 0, 0, -1.5, 0) + bytes.fromhex("142479")
    expected = matrix((-0.5, -0.5), (0.25, 0), (-0.25, 0), (0.25, 0), (-0.75, 0), (0.75, 0))
    assert (recipe.decode(payload, (1, 12)) == expected).all()


def test_an_odd_size() -> None:
    recipe = Torus(side=1.0, points=4, classes=1, threshold=0.0, limit=0.0)
    odd = ONE_RING[:, :-1]  # the mean of these eleven is 0, and pads them
    payload = recipe.encode(odd)
    assert payload == struct.pack("<BBBBId4f", 1, 1, 4, 1, 4, 1.0, 0, 0, -1.5, 0) + bytes.fromhex("142479")
    assert recipe.decode(payload, (11, 1)).tolist() == [
        [-0.5], [-0.5], [0.25], [0], [-0.25], [0], [0.25], [0], [-0.75], [0], [0.75]
    ]  # fmt: skip


TWO_RINGS = matrix((-3, 0), (3, 0), (0, 2), (0, -2), (0.5, 0), (-0.5, 0))
"""l = 2, U = 4: entries (0, 0), (-1, -1), (-1/2, 0), (0, -1), (1/2, 0). far = 3.

One ring, radii 1, 3: (-1, 0) -> 2, (1, 0) -> 4, (0, 2/3) -> 0, (0, -2/3) -> 3: decoded (-3/2, 0), (3/2, 0), (0, 0),
(0, -3), errors 3/2, 3/2, 2, 1. Mean error 6 / 12. Indices 7 9 5 8 4 2.
Two rings, radii 1, 2, 3: the pairs at 2 are in ring 1, and (0, -2) is now exact: 5 / 12. Indices 12 14 5 8 4 2."""


@pytest.mark.parametrize(
    ("threshold", "classes", "packed"), [(0.5, 1, "795842"), (0.49, 2, "ce5842"), (0.0, 2, "ce5842")]
)
def test_as_few_rings_as_the_threshold_allows(threshold: float, classes: int, packed: str) -> None:
    recipe = Torus(side=2.0, points=4, classes=2, threshold=threshold, limit=0.0)
    payload = recipe.encode(TWO_RINGS)
    assert payload == struct.pack("<BBBBId4f", 1, classes, 4, 0, 4, 2.0, 0, 0, -3, 0) + bytes.fromhex(packed)
    below = -3 if classes == 1 else -2
    expected = matrix((-1.5, 0), (1.5, 0), (0, 0), (0, below), (0.5, 0), (-0.5, 0))
    assert (recipe.decode(payload, (1, 12)) == expected).all()


def test_no_more_rings_than_help() -> None:
    recipe = Torus(side=2.0, points=4, classes=7, threshold=0.0, limit=0.0)
    only = matrix((-3, 0), (3, 0), (-3, 0), (3, 0), (0.5, 0), (-0.5, 0))  # all in the outermost: one ring is as good
    assert header(recipe.encode(only))[1] == 1


@pytest.mark.parametrize(("limit", "kind"), [(0.41, 0), (0.42, 1), (0.0, 1)])
def test_the_limit_keeps_raw(limit: float, kind: int) -> None:
    recipe = Torus(side=2.0, points=4, classes=2, threshold=0.0, limit=limit)  # the error is 5 / 12
    payload = recipe.encode(TWO_RINGS)
    assert payload[0] == kind
    if kind == 0:
        assert payload == b"\0" + TWO_RINGS.astype("<f4").tobytes()
        assert (recipe.decode(payload, (1, 12)) == TWO_RINGS).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (1, 1), (3, 3)])
def test_fewer_than_ten_weights_stay_raw(shape: tuple[int, int]) -> None:
    weights = gaussian(*shape)
    payload = UNLIMITED.encode(weights)
    assert payload == b"\0" + weights.tobytes()
    assert (UNLIMITED.decode(payload, shape) == weights).all()


@pytest.mark.parametrize("value", [0.0, 0.3, -7.5e8, 3e-39, 3.4028235e38])
def test_a_constant_is_its_centre(value: float) -> None:
    weights = np.full((3, 5), value, np.float32)
    payload = PRESETS["llm"].encode(weights)
    assert header(payload)[1:4] == (0, 1, 1)  # no rings, one bit a pair
    assert header(payload)[6:] == tuple(map(float, weights[0, :4]))
    assert payload[HEADER.size :] == b"\0"
    assert (PRESETS["llm"].decode(payload, (3, 5)) == weights).all()


def test_presets() -> None:
    published = {
        "llm": (0.1, 1600, 3, 0.001, 0.006),
        "unet": (0.1, 225, 3, 0.001, 0),
        "mobilenet": (0.8, 1600, 4, 0.001, 0),
    }
    assert {name: tuple(preset.parameters.values()) for name, preset in PRESETS.items()} == published
    assert Torus() == PRESETS["llm"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"points": 0},
        {"points": 1 << 21},
        {"classes": 0},
        {"classes": 256},
        {"side": 0.0},
        {"side": math.nan},
        {"threshold": -1.0},
        {"limit": math.inf},
    ],
)
def test_impossible_parameters(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        Torus(**parameters)  # type: ignore[arg-type]


# Against the description, step by step


def described(recipe: Torus, weights: Matrix) -> list[int]:
    """Indices by the words of the description: a loop over pairs, and all entries tried for each."""
    flat = weights.ravel()
    if flat.size % 2:
        flat = np.append(flat, np.float32(flat.mean(dtype=np.float64)))
    pairs = flat.reshape(-1, 2).astype(np.float64)
    centre = pairs.mean(axis=0).astype(np.float32).astype(np.float64)
    n, half = math.ceil(math.sqrt(recipe.points)), recipe.side / 2
    line = [(k * recipe.side / n**2 - half, k % n * recipe.side / n - half) for k in range(recipe.points)]
    book = np.array([(0.0, 0.0), *line])
    far = max(math.dist(pair, centre) for pair in pairs)
    inner = [bool((abs(pair - centre) <= half).all()) for pair in pairs]
    best: tuple[float, list[int]] = (math.inf, [])
    for classes in [0] if all(inner) else range(1, recipe.classes + 1):
        indices, errors = [], []
        for pair, inside in zip(pairs - centre, inner, strict=True):
            c, radius = 0, half
            while not inside and (c == 0 or (math.hypot(*pair) > radius and c < classes)):
                c += 1
                radius = half + c * (far - half) / classes
            drawn = pair * half / radius
            entry = int(((drawn - book) ** 2).sum(axis=1).argmin())
            indices.append(entry + (recipe.points + 1) * c)
            errors.append(abs(book[entry] * radius / half - pair).mean())
        if np.mean(errors) < best[0]:
            best = float(np.mean(errors)), indices
        if np.mean(errors) <= recipe.threshold:
            break
    return best[1]


def unpacked(payload: bytes, count: int) -> list[int]:
    width = payload[2]
    bits = "".join(f"{byte:08b}" for byte in payload[HEADER.size :])
    assert set(bits[count * width :]) <= {"0"}
    return [int(bits[i * width : (i + 1) * width], 2) for i in range(count)]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([*PRESETS.values(), Torus(points=30), Torus(points=7, classes=9, threshold=0.0)]),
    st.sampled_from([0.01, 0.05, 0.3]),
    st.integers(10, 120),
)
def test_encoding_as_described(seed: int, recipe: Torus, sigma: float, size: int) -> None:
    recipe = Torus(recipe.side, recipe.points, recipe.classes, recipe.threshold, 0.0)
    weights = gaussian(1, size, sigma, seed) + np.float32(0.1)
    payload = recipe.encode(weights)
    indices = unpacked(payload, (size + 1) // 2)
    assert indices == described(recipe, weights)
    assert payload[2] == max(1, max(indices).bit_length())
    assert payload == recipe.encode(weights)


@pytest.mark.parametrize("size", [2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 6 * CHUNK + 33])
def test_chunks_leave_no_seam(size: int) -> None:
    weights = gaussian(1, size, 0.03)
    recipe = Torus(points=30)
    payload = recipe.encode(weights)
    indices = unpacked(payload, (size + 1) // 2)
    _, classes, _, _, _, _, x0, y0, x1, y1 = header(payload)
    book, n = entries(Codebook(30)), 6
    radii = [0.05 + c * (math.hypot(x1 - x0, y1 - y0) - 0.05) / max(1, int(classes)) for c in range(int(classes) + 1)]
    pairs = []
    for index in indices:
        ring, entry = divmod(index, 31)
        grown = 0.1 / n * radii[ring] / 0.05
        pairs += [float(book[entry][0] - n // 2) * grown + x0, float(book[entry][1] - n // 2) * grown + y0]
    assert np.allclose(recipe.decode(payload, (1, size)), [pairs[:size]], rtol=1e-6, atol=1e-8)


# What was measured with the published code


def gap(recipe: Torus, weights: Matrix) -> tuple[float, float]:
    """Bits a weight, everything counted, and dB above the Gaussian bound D = 2^(-2R)."""
    payload = recipe.encode(weights)
    decoded = recipe.decode(payload, weights.shape).astype(np.float64)
    rate = 8 * len(payload) / weights.size
    distortion = np.mean((decoded - weights) ** 2) / np.var(weights.astype(np.float64))
    return rate, 10 * math.log10(distortion / 2 ** (-2 * rate))


def test_gap_to_the_gaussian_bound() -> None:
    rate, distance = gap(PRESETS["llm"], gaussian(512, 1024))
    assert rate == pytest.approx(6.0, abs=0.005)
    assert distance == pytest.approx(7.6, abs=0.2)


def test_one_outlier_sets_the_rings_for_all() -> None:
    weights = gaussian(512, 1024)
    weights.reshape(-1)[np.random.default_rng(2).choice(weights.size, 8, replace=False)] = 40 * 0.02
    rate, distance = gap(PRESETS["llm"], weights)
    assert rate == pytest.approx(6.0, abs=0.005)
    assert distance == pytest.approx(15.6, abs=0.4)


def test_the_largest_numbers_stay_finite() -> None:
    weights = gaussian(4, 6)
    weights[0, :4] = np.array([3.4028235e38, -3.4028235e38, -3.4028235e38, 3.4028235e38], np.float32)
    decoded = UNLIMITED.decode(UNLIMITED.encode(weights), (4, 6))
    assert np.isfinite(decoded).all()
    assert PRESETS["llm"].encode(weights)[0] == 0  # nothing is left of the others: raw


# Hostile payloads

WEIGHTS = gaussian(5, 11, 0.1)
PAYLOAD = UNLIMITED.encode(WEIGHTS)


def put(offset: int, form: str, value: float) -> bytes:
    packed = struct.pack("<" + form, value)
    return PAYLOAD[:offset] + packed + PAYLOAD[offset + len(packed) :]


DAMAGED = {
    "empty": b"",
    "kind": put(0, "B", 2),
    "no rings, though indices have": put(1, "B", 0),
    "width 0": put(2, "B", 0),
    "width 255": put(2, "B", 255),
    "padding": put(3, "B", 0),
    "no points": put(4, "I", 0),
    "too many points": put(4, "I", 0xFFFFFFFF),
    "no side": put(8, "d", 0.0),
    "side is not a number": put(8, "d", math.nan),
    "infinite side": put(8, "d", math.inf),
    "a side that holds all": put(8, "d", 1e6),
    "centre is not a number": put(16, "f", math.nan),
    "centre infinite": put(20, "f", -math.inf),
    "farthest is not a number": put(28, "f", math.nan),
    "index too large": PAYLOAD[:32] + b"\xff\xff" + PAYLOAD[34:],
    "bits after the last pair": PAYLOAD[:-1] + bytes([PAYLOAD[-1] | 1]),
    "longer": PAYLOAD + b"\0",
    "indices need fewer bits": PAYLOAD[:32] + bytes(len(PAYLOAD) - 32),
    "raw, cut short": b"\0" + WEIGHTS.tobytes()[:-1],
    "raw, longer": b"\0" + WEIGHTS.tobytes() + b"\0",
    "raw, no number": b"\0" + np.full_like(WEIGHTS, np.nan).tobytes(),
}


@pytest.mark.parametrize("payload", DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_told(payload: bytes) -> None:
    with pytest.raises(CorruptError, match="damaged payload of torus, at offset") as caught:
        UNLIMITED.decode(payload, (5, 11))
    assert caught.value.offset is not None


def test_the_payload_under_test_has_what_is_damaged() -> None:
    assert header(PAYLOAD)[:4] == (1, 3, 13, 1)
    assert len(PAYLOAD) * 8 > 32 * 8 + 28 * 13


def test_cut_short_anywhere() -> None:
    for size in range(len(PAYLOAD)):
        with pytest.raises(CorruptError):
            UNLIMITED.decode(PAYLOAD[:size], (5, 11))


@pytest.mark.parametrize("shape", [(0, 0), (3, 3), (5, 10), (5, 12), (56, 1), (1 << 20, 1 << 20)])
def test_another_shape(shape: tuple[int, int]) -> None:
    with pytest.raises(CorruptError):
        UNLIMITED.decode(PAYLOAD, shape)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(PAYLOAD) * 8 - 1)), min_size=1, max_size=6))
def test_flipped_bits_are_told_or_decode(flips: list[tuple[int]]) -> None:
    damaged = bytearray(PAYLOAD)
    for (bit,) in flips:
        damaged[bit >> 3] ^= 1 << (bit & 7)
    try:
        decoded = UNLIMITED.decode(bytes(damaged), (5, 11))
    except CorruptError:
        return
    assert decoded.shape == (5, 11)
    assert np.isfinite(decoded).all()


def test_decoding_needs_no_parameters() -> None:
    assert (PRESETS["mobilenet"].decode(PAYLOAD, (5, 11)) == UNLIMITED.decode(PAYLOAD, (5, 11))).all()
