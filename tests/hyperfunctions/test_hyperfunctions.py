"""One contract for all hyperfunctions: what comes back, what is refused, and what damage can do."""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kolmo.errors import CorruptError, KolmoError
from kolmo.hyperfunctions import bitshift, torus, trellis
from kolmo.hyperfunctions.base import FAMILIES, Hyperfunction, restore

Matrix = npt.NDArray[np.float32]
RECIPES: dict[str, Hyperfunction] = {f"torus {name}": preset for name, preset in torus.PRESETS.items()}
RECIPES["torus without limit"] = torus.Torus(limit=0.0)
RECIPES["trellis 8"] = trellis.Trellis(0.01)
RECIPES["trellis 64"] = trellis.Trellis(0.01, 64)
RECIPES["bitshift 4"] = bitshift.Bitshift(4)
RECIPES["bitshift 3, not rotated"] = bitshift.Bitshift(3, rotated=False)
RECIPES["bitshift 2, seed"] = bitshift.Bitshift(2, seed=12345)
every = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())

SHAPES = [(0, 0), (0, 5), (5, 0), (1, 1), (3, 3), (1, 11), (11, 1), (2, 5), (7, 13), (48, 64), (1, 16385), (130, 127)]


def gaussian(shape: tuple[int, int], sigma: float = 0.03, seed: int = 1) -> Matrix:
    return (np.random.default_rng(seed).standard_normal(shape) * sigma).astype(np.float32)


def matrices() -> dict[str, Matrix]:
    outlier, ramp = gaussian((20, 31)), np.linspace(-0.2, 0.2, 600, dtype=np.float32).reshape(20, 30)
    outlier[3, 4] = 9.0
    return {
        "zeros": np.zeros((9, 14), np.float32),
        "constant": np.full((9, 15), -0.07, np.float32),
        "two values": np.where(gaussian((16, 16)) > 0, np.float32(0.04), np.float32(-0.04)),
        "outlier": outlier,
        "ramp": ramp,
        "sparse": np.where(gaussian((30, 30), 1) > 2, np.float32(0.3), np.float32(0)),
        "minute": gaussian((12, 12), 1e-7),
        "large": gaussian((12, 12), 40.0),
        "heavy": (np.random.default_rng(3).standard_t(3, (40, 40)) * 0.02).astype(np.float32),
    }


def test_every_family_is_under_test() -> None:
    there = {name for name in FAMILIES if find_spec(f"kolmo.hyperfunctions.{name}")}
    assert {recipe.name for recipe in RECIPES.values()} == there


@every
def test_a_file_can_name_it(recipe: Hyperfunction) -> None:
    assert isinstance(recipe, Hyperfunction)
    assert recipe.name in FAMILIES
    assert recipe.version >= 1
    again = restore(recipe.name, json.loads(json.dumps(recipe.parameters)))
    assert (again.name, again.version, again.parameters) == (recipe.name, recipe.version, recipe.parameters)
    weights = gaussian((20, 21))
    assert again.encode(weights) == recipe.encode(weights)


def test_unknown_names_and_parameters() -> None:
    with pytest.raises(KolmoError, match=r"'nonsense' is not known; choose from .*torus"):
        restore("nonsense", {})
    for name in {recipe.name for recipe in RECIPES.values()}:
        with pytest.raises(KolmoError, match=name):
            restore(name, {"nonsense": 1})


def check(recipe: Hyperfunction, weights: Matrix) -> None:
    """The same payload twice, and the same weights from it, with any number of threads."""
    before = weights.copy()
    payload = recipe.encode(weights)
    assert isinstance(payload, bytes)
    assert (weights == before).all()
    assert payload == recipe.encode(weights)
    decoded = recipe.decode(payload, (weights.shape[0], weights.shape[1]))
    assert decoded.dtype == np.float32
    assert decoded.shape == weights.shape
    assert decoded.dtype.isnative
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable
    assert np.isfinite(decoded).all()
    for threads in (1, 2, 5):
        again = recipe.decode(payload, (weights.shape[0], weights.shape[1]), threads=threads)
        assert again.tobytes() == decoded.tobytes()


@every
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(recipe: Hyperfunction, shape: tuple[int, int]) -> None:
    check(recipe, gaussian(shape))


@every
@pytest.mark.parametrize("weights", matrices().values(), ids=matrices().keys())
def test_matrices(recipe: Hyperfunction, weights: Matrix) -> None:
    check(recipe, weights)


@every
def test_what_comes_back_is_near(recipe: Hyperfunction) -> None:
    weights = gaussian((64, 65))
    decoded = recipe.decode(recipe.encode(weights), weights.shape)
    assert np.mean((decoded - weights) ** 2) < 0.1 * np.mean(weights**2)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([*RECIPES]), st.integers(0, 40), st.integers(0, 40), st.integers(0, 1 << 32))
def test_any_shape(name: str, rows: int, columns: int, seed: int) -> None:
    check(RECIPES[name], gaussian((rows, columns), 0.05, seed))


@every
def test_memory_order_is_no_matter(recipe: Hyperfunction) -> None:
    weights = gaussian((24, 31))
    expected = recipe.encode(weights)
    assert recipe.encode(np.asfortranarray(weights)) == expected
    assert recipe.encode(np.repeat(weights, 2, axis=1)[:, ::2]) == expected
    assert recipe.encode(weights.astype(weights.dtype.newbyteorder())) == expected
    frozen = weights.copy()
    frozen.flags.writeable = False
    assert recipe.encode(frozen) == expected


@every
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(2, 3), (20, 30)], ids=str)
def test_what_is_no_number_is_refused(recipe: Hyperfunction, value: float, shape: tuple[int, int]) -> None:
    weights = gaussian(shape)
    weights[1, 2] = value
    with pytest.raises(ValueError, match="finite"):
        recipe.encode(weights)


@every
@pytest.mark.parametrize("shape", [(), (24,), (2, 3, 4)], ids=str)
def test_two_dimensions(recipe: Hyperfunction, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        recipe.encode(np.zeros(shape, np.float32))


@every
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ticks_count_the_weights(recipe: Hyperfunction, shape: tuple[int, int]) -> None:
    weights = gaussian(shape)
    done: list[int] = []
    assert recipe.encode(weights, done.append) == recipe.encode(weights)
    assert sum(done) == weights.size
    assert min(done, default=0) >= 0


@every
def test_a_tick_stops_the_work(recipe: Hyperfunction) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.encode(gaussian((32, 32)), stop)


@every
def test_threads_may_share_it(recipe: Hyperfunction) -> None:
    several = [gaussian((30, 40 + i), seed=i) for i in range(6)]
    alone = [recipe.encode(weights) for weights in several]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(recipe.encode, several)) == alone


@every
@pytest.mark.parametrize("shape", [(3, 3), (9, 13), (40, 41)], ids=str)
def test_cut_short_or_longer(recipe: Hyperfunction, shape: tuple[int, int]) -> None:
    payload = recipe.encode(gaussian(shape))
    for size in sorted({*range(min(64, len(payload))), len(payload) // 2, len(payload) - 1}):
        with pytest.raises(CorruptError):
            recipe.decode(payload[:size], shape)
    with pytest.raises(CorruptError):
        recipe.decode(payload + b"\0", shape)


@every
@pytest.mark.parametrize("seed", range(3))
def test_damage_is_told_or_harmless(recipe: Hyperfunction, seed: int) -> None:
    draw = random.Random(seed)
    weights = gaussian((13, 11), 0.05, seed)
    payload = recipe.encode(weights)
    for _ in range(60):
        damaged = bytearray(payload)
        for _ in range(draw.randint(1, 3)):  # near the beginning, where headers are, as often as anywhere
            damaged[draw.randrange(draw.choice([min(40, len(payload)), len(payload)]))] ^= 1 << draw.randrange(8)
        try:
            decoded = recipe.decode(bytes(damaged), (13, 11))
        except CorruptError:
            continue
        assert decoded.shape == (13, 11)
        assert np.isfinite(decoded).all()


@every
@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (13, 10), (13, 12), (1, 1 << 40)], ids=str)
def test_another_shape(recipe: Hyperfunction, shape: tuple[int, int]) -> None:
    """Told before anything of the shape's size is allocated."""
    payload = recipe.encode(gaussian((13, 11)))
    if shape == (1, 1 << 40) and sys.maxsize < 1 << 40:
        pytest.skip("no such shape on this machine")
    with pytest.raises(CorruptError):
        recipe.decode(payload, shape)
