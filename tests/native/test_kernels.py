"""The C kernels against their specification in NumPy: the same bits on every input, shape and instruction set."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.native import reference, tables
from kolmo.predictors.embedded.context_mixing import (
    FAST,
    FULL,
    LARGE,
    SHAPES,
    Shape,
    configuration,
    plain_prior,
    unpack_prior,
)
from kolmo.predictors.embedded.context_mixing import pack_prior as pack

pytestmark = pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")

CODE = b"def f(x):\n    return [x, (1, 2)]\n\n\nclass A:\n    def g(self) -> int:\n        return self.f(3)\n" * 4
FIXTURES = {
    "prose": b"It was the best of times, it was the worst of times; it was the age of wisdom. " * 5,
    "code": CODE,
    "records": b"".join(n.to_bytes(3, "little") + b"\0\1\2ab\xff" for n in range(160)),
    "utf-8": "Größe, naïveté, 数字と文字; ça va? ".encode() * 12,
    "binary": random.Random(1).randbytes(500),
    "zeros": bytes(900),
    "brackets": b"(((<[[{{" * 20 + b"}}]]>)))" * 30,
}
ALL_SELECTORS = Shape("all selectors", FULL.contexts, (1, 0, *range(2, 12)))


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    yield
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def arguments(shape: Shape, size: int, table_bits: int = 14) -> tuple[bytes, bytes, bytes, int]:
    return configuration(shape, table_bits, 10), tables.packed(), plain_prior(shape), size


@pytest.mark.parametrize("data", FIXTURES.values(), ids=FIXTURES.keys())
@pytest.mark.parametrize("shape", [FAST, FULL, LARGE, ALL_SELECTORS], ids=lambda shape: shape.name)
def test_every_path_gives_the_reference_bits(shape: Shape, data: bytes) -> None:
    expected = reference.ContextMixer(*arguments(shape, len(data))).costs(data)
    for path in NATIVE.PATHS:
        NATIVE.force_path(path)
        assert NATIVE.ContextMixer(*arguments(shape, len(data))).costs(data) == expected, path


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_each_decodes_the_other(shape: Shape) -> None:
    data = CODE[:250]
    payloads = set()
    for writer in (reference, NATIVE):
        encoder = writer.BinaryEncoder()
        writer.ContextMixer(*arguments(shape, len(data))).encode(encoder, data)
        payloads.add(encoder.finish())
    (payload,) = payloads
    for reader in (reference, NATIVE):
        model = reader.ContextMixer(*arguments(shape, len(data)))
        assert model.decode(reader.BinaryDecoder(payload), len(data)) == data


@settings(max_examples=30, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=120) | st.text(min_size=1, max_size=60).map(lambda text: text.encode()),
    table_bits=st.integers(12, 16),
    contexts=st.sets(st.sampled_from([*range(36), *range(40, 47)]), min_size=10, max_size=14),
    selectors=st.sets(st.sampled_from([*range(2, 12), 16, 17]), min_size=1, max_size=5),
)
def test_any_shape_gives_the_reference_bits(
    data: bytes, table_bits: int, contexts: set[int], selectors: set[int]
) -> None:
    shape = Shape("any", tuple(sorted(contexts)), (1, *sorted(selectors)))
    expected = reference.ContextMixer(*arguments(shape, len(data), table_bits)).costs(data)
    for path in NATIVE.PATHS:
        NATIVE.force_path(path)
        assert NATIVE.ContextMixer(*arguments(shape, len(data), table_bits)).costs(data) == expected


def test_long_input_gives_the_same_bits_on_every_path() -> None:
    draw = random.Random(2)
    data = b"".join(draw.choice([CODE, draw.randbytes(40), b"%d,%d\n" % (draw.random() * 99, 7)]) for _ in range(1000))
    costs = set()
    for path in NATIVE.PATHS:
        NATIVE.force_path(path)
        costs.add(NATIVE.ContextMixer(*arguments(FULL, len(data), 18)).costs(data))
    assert len(costs) == 1


@pytest.mark.parametrize("path", ["reference", *(NATIVE.PATHS if NATIVE else ())])
def test_the_environment_forces_a_path(path: str) -> None:
    data = b"so it goes, and so it goes on. " * 4
    program = f"import kolmo; print(*[kolmo.compress({data!r}, level).hex() for level in (1, 5)])"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KOLMO_KERNEL": path},
        capture_output=True,
        text=True,
        check=True,
    )
    import kolmo

    assert run.stdout.split() == [kolmo.compress(data, level).hex() for level in (1, 5)]


def test_an_unknown_path_is_an_error_with_the_choices() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import kolmo.native.dispatch"],
        env={**os.environ, "KOLMO_KERNEL": "mmx"},
        capture_output=True,
        text=True,
    )
    assert run.returncode
    assert "choose from reference, baseline" in run.stderr


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_a_model_serves_one_direction_and_its_size(kernels: ModuleType) -> None:
    model = kernels.ContextMixer(*arguments(FAST, 10))
    model.costs(b"abc")
    with pytest.raises(ValueError, match="one direction"):
        model.encode(kernels.BinaryEncoder(), b"d")
    with pytest.raises(ValueError, match="more bytes"):
        model.costs(b"efghijklm")


def test_the_kernel_refuses_what_does_not_fit() -> None:
    good = arguments(FAST, 10)
    for bad in (
        (good[0][:-4], *good[1:]),
        (good[0], good[1][:-1], *good[2:]),
        (*good[:2], good[2] + b"\0\0\0\0", 10),
        (*good[:3], 0),
        (*good[:3], (1 << 30) + 1),
        (configuration(FAST, 31, 10), *good[1:]),
        (configuration(Shape("far", (1, 3, 5, 30), (1,)), 14, 10), *good[1:]),
        arguments(Shape("an opinion in a context", (*FAST.contexts, 36), (1,)), 10),  # they need a network
        arguments(Shape("an opinion in a selector", FAST.contexts, (1, 12)), 10),
        (configuration(Shape("late", FULL.contexts, (0, 1)), 14, 10), *good[1:2], plain_prior(FULL), 10),
    ):
        with pytest.raises(ValueError, match="fit the kernel"):
            NATIVE.ContextMixer(*bad)


def test_one_object_in_two_threads_is_an_error_not_a_crash() -> None:
    data = random.Random(4).randbytes(300_000)
    model = NATIVE.ContextMixer(*arguments(FULL, 2 * len(data)))
    errors = []

    def use() -> None:
        try:
            model.costs(data)
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another thread" in str(error) for error in errors)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_learned_prior_survives_its_packing(shape: Shape) -> None:
    model = NATIVE.ContextMixer(*arguments(shape, len(CODE)))
    model.costs(CODE)
    learned = model.learned()
    packed = pack(shape, learned)
    prior = unpack_prior(shape, packed)
    assert len(prior) == len(learned)
    assert pack(shape, prior) == packed
    model.forget()
    again = NATIVE.ContextMixer(configuration(shape, 14, 10), tables.packed(), prior, len(CODE))
    plain = NATIVE.ContextMixer(*arguments(shape, len(CODE)))
    assert bits(again.costs(CODE)) < bits(plain.costs(CODE))


def bits(costs: bytes) -> float:
    import numpy as np

    return float((16 - np.log2(np.frombuffer(costs, "=u2").astype(float))).sum())
