"""Products with bitshift payloads: the same bits on every path, with any number of threads and of rows at once."""

from __future__ import annotations

import multiprocessing
import random
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from helpers.implementations import IMPLEMENTATIONS, NATIVE
from kolmo.native.bitshift_product import reference

PATHS = NATIVE.PATHS if NATIVE else ()


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    yield
    if NATIVE:
        NATIVE.force_path(NATIVE.PATHS[-1])


def payload(
    rows: int, columns: int, bits: int, log_states: int = 12, rotated: bool = True, scale: float = 0.01
) -> bytes:
    """Random words; any are valid weights."""
    source = random.Random(f"{rows} {columns} {bits} {log_states}")
    words = source.randbytes(4 * rows * bits * -(-columns // 32))
    head = reference.HEADER.pack(log_states, bits, rotated, 0, 77 if rotated else 0, scale, 0)
    return head + words + source.randbytes(rows)


def activations(count: int, columns: int) -> Any:
    """Rows of all kinds: usual ones, zeros, tiny ones, and some that are not finite."""
    x = np.random.default_rng(count).standard_normal((count, columns)).astype(np.float32)
    if count > 5:
        x[1] = 0
        x[2, columns // 2] = np.inf
        x[3] *= np.float32(1e-20)
        x[4, 0] = np.nan
        x[5] *= np.float32(1e-40)
    return x


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.parametrize("log_states", [12, 16])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 32, 1), (33, 40, 2), (40, 576, 7), (5, 1100, 30)], ids=str)
def test_every_path_gives_the_reference_bits(shape: tuple[int, int, int], bits: int, log_states: int) -> None:
    rows, columns, count = shape
    for rotated in (False, True):
        code, x = payload(rows, columns, bits, log_states, rotated), activations(count, columns)
        places = np.concatenate([np.arange(rows), np.arange(0, rows, 3)]).astype(np.int64)
        finite = np.nan_to_num(x, posinf=1)  # the sign of what is not a number is not specified
        expected = [
            reference.bitshift_product(code, rows, columns, x),
            *(reference.bitshift_rows(code, rows, columns, places, restore) for restore in (0, 1)),
            *(reference.bitshift_rotate(finite, columns, 5, back) for back in (0, 1)),
        ]
        for path in PATHS:
            NATIVE.force_path(path)
            for threads in (1, 3):
                found = [
                    NATIVE.bitshift_product(code, rows, columns, x, threads),
                    *(NATIVE.bitshift_rows(code, rows, columns, places, restore, threads) for restore in (0, 1)),
                    *(NATIVE.bitshift_rotate(finite, columns, 5, back, threads) for back in (0, 1)),
                ]
                for one, other in zip(found, expected, strict=True):
                    assert np.array_equal(np.frombuffer(one, "u4"), np.frombuffer(other, "u4")), (path, threads)


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
def test_threads_and_rows_at_once_change_nothing() -> None:
    rows, columns = 1000, 1500  # enough work for several threads
    code, x = payload(rows, columns, 4), activations(64, columns)
    whole = np.frombuffer(NATIVE.bitshift_product(code, rows, columns, x), "u4").reshape(64, rows)
    for threads in (2, 5):
        assert NATIVE.bitshift_product(code, rows, columns, x, threads) == whole.tobytes()
    for count in (1, 3, 16):
        parts = [NATIVE.bitshift_product(code, rows, columns, x[i : i + count], 2) for i in range(0, 64, count)]
        assert b"".join(parts) == whole.tobytes()
    results: list[bytes] = []  # callers that want the threads at the same time
    callers = [
        threading.Thread(target=lambda: results.append(bytes(NATIVE.bitshift_product(code, rows, columns, x, 3))))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [whole.tobytes()] * 4


def _in_child(code: bytes, rows: int, columns: int, x: Any, pipe: Any) -> None:
    pipe.send(bytes(NATIVE.bitshift_product(code, rows, columns, x, 3)))


@pytest.mark.skipif(NATIVE is None, reason="the C kernels are not built here")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    code, x = payload(1000, 1500, 2), activations(3, 1500)
    expected = NATIVE.bitshift_product(code, 1000, 1500, x, 3)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_in_child, args=(code, 1000, 1500, x, there))
    child.start()
    assert here.poll(60)
    assert here.recv() == expected
    child.join()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_the_product_is_that_of_the_page(kernels: Any) -> None:
    """One row with the arithmetic of docs/bitshift.md, in integers of Python and single steps of binary32."""
    columns, bits, log_states, scale = 70, 3, 12, 0.037
    code = payload(1, columns, bits, log_states, rotated=False, scale=scale)
    words = struct.unpack("<9I", code[16:52])
    string = "".join(f"{word:032b}" for word in words)
    twice = string + string  # cyclic
    x = np.random.default_rng(2).standard_normal(columns).astype(np.float32)
    top = np.abs(x).max()
    total = 0
    weights = []
    for t in range(columns):
        state = int(twice[bits * t : bits * t + log_states], 2)
        h = state * 0x379B28F5 % 2**32 & 0x3F3F3F3F
        value = sum(h.to_bytes(4, "little")) - 126
        q = round(float(x[t] * (np.float32(127) / top)))
        total += value * q
        weights.append(value)
    e = code[-1]
    factor = np.float32(scale) * np.float32(2 ** (e % 16 / 16)) * np.float32(2.0 ** ((e >> 4) - 15))
    y = np.float32(total) * ((top / np.float32(127)) * factor)
    assert np.frombuffer(kernels.bitshift_product(code, 1, columns, x), np.float32) == [y]
    row = np.frombuffer(kernels.bitshift_rows(code, 1, columns, np.zeros(1, np.int64), 1), np.float32)
    assert np.array_equal(row, np.array(weights, np.float32) * factor)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_special_rows(kernels: Any) -> None:
    x = activations(6, 64)
    y = np.frombuffer(kernels.bitshift_product(payload(20, 64, 4), 20, 64, x), np.float32).reshape(6, 20)
    assert (y[1] == 0).all()
    assert not np.signbit(y[1]).any()
    assert np.array_equal(y[3] == 0, y[0] == 0)
    assert (y[5] == 0).all()
    assert np.isnan(y[[2, 4]]).all()
    assert np.isfinite(y[[0, 1, 3, 5]]).all()
    dead = payload(20, 64, 4)[:-20] + bytes(20)  # exponent 0
    assert (np.frombuffer(kernels.bitshift_product(dead, 20, 64, x[:1]), np.float32) == 0).all()


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
@pytest.mark.parametrize("columns", [1, 2, 31, 32, 576, 1000])
def test_rotations(kernels: Any, columns: int) -> None:
    x = np.random.default_rng(1).standard_normal((3, columns)).astype(np.float32)
    turned = np.frombuffer(kernels.bitshift_rotate(x, columns, 9, 0), np.float32).reshape(x.shape)
    assert np.allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5)
    back = np.frombuffer(kernels.bitshift_rotate(turned, columns, 9, 1), np.float32).reshape(x.shape)
    assert np.allclose(back, x, atol=1e-5)
    identity = np.eye(columns, dtype=np.float32)
    matrix = np.frombuffer(kernels.bitshift_rotate(identity, columns, 9, 0), np.float32).reshape(columns, columns)
    assert np.allclose(x @ matrix, turned, atol=1e-4)  # linear
    rows = np.frombuffer(kernels.bitshift_rows(payload(4, columns, 4), 4, columns, np.arange(4), 1), np.float32)
    y = np.frombuffer(kernels.bitshift_product(payload(4, columns, 4), 4, columns, x), np.float32).reshape(3, 4)
    exact = x @ rows.reshape(4, columns).T
    scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(rows.reshape(4, columns), axis=1)
    assert (np.abs(y - exact) <= 0.03 * scale).all()  # rounded activations


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_what_does_not_fit_is_refused(kernels: Any) -> None:
    code, x, place = payload(3, 40, 2), np.zeros((2, 40), np.float32), np.zeros(1, np.int64)
    header = {"states": (0, 13), "bits": (1, 5), "flags": (2, 2), "zero": (3, 1)}
    damaged = {name: code[:at] + bytes([value]) + code[at + 1 :] for name, (at, value) in header.items()}
    for wrong in (*damaged.values(), code[:15], code[:-1], code + b"\0", b""):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.bitshift_product(wrong, 3, 40, x)
        with pytest.raises(ValueError, match="do not fit"):
            kernels.bitshift_rows(wrong, 3, 40, place, 1)
    for arguments in (
        (code, -1, 40, x),
        (code, 3, -1, x),
        (code, 3, 1 << 20, x),
        (code, 3, 40, x[:, :39].copy()),
        (code, 3, 40, x, 0),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.bitshift_product(*arguments)
    for places in (np.array([3]), np.array([-1]), np.array([2**62]), b"1234567"):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.bitshift_rows(code, 3, 40, places, 1)
    for columns, seed in ((0, 1), (39, 1), (1 << 20, 1), (40, 1 << 32)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.bitshift_rotate(x, columns, seed, 0)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS)
def test_matrices_without_weights(kernels: Any) -> None:
    assert kernels.bitshift_product(payload(0, 40, 2), 0, 40, np.zeros((2, 40), np.float32)) == b""
    assert kernels.bitshift_product(payload(3, 0, 2), 3, 0, b"") == b""
    assert kernels.bitshift_rows(payload(3, 0, 2), 3, 0, np.zeros(1, np.int64), 1) == b""
    assert kernels.bitshift_product(payload(3, 40, 2), 3, 40, b"") == b""
