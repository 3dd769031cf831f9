"""Products in Triton: the bits of the kernels for the CPU, on a GPU or by the interpreter of triton, which needs none.

CI does not install triton, which unpacks to 1 GB (CONTRIBUTING.md says how to run this). With it, one test runs this
file once more with `TRITON_INTERPRET=1`, and another one compiles the kernels, for which no GPU is needed either.
"""

from __future__ import annotations

import copy
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kolmo.errors import MissingExtraError
from kolmo.hyperfunctions.bitshift_payload import Payload, pack
from kolmo.native.dispatch import kernels
from kolmo.weights.running import triton_product

torch: Any = pytest.importorskip("torch")
modules: Any = pytest.importorskip("kolmo.weights.running.modules")
nn = torch.nn

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NO_TRITON = "triton is not installed; pip install triton"

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of sums of infinities in NumPy


@pytest.fixture
def device() -> Any:
    """The device on which the kernels run here: the CPU by the interpreter, or a GPU."""
    pytest.importorskip("triton", reason=NO_TRITON)
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("needs a GPU, or TRITON_INTERPRET=1")
    return torch.device("cpu" if INTERPRETED else "cuda:0")


@pytest.fixture
def on_gpu(device: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function of a copy of a module and its inputs on that device."""

    def call(module: Any, *inputs: Any, function: Callable[..., Any] | None = None) -> Any:
        with monkeypatch.context() as patch:
            if INTERPRETED:
                patch.setattr(triton_product, "GPU", ("cpu",))
            moved = copy.deepcopy(module).to(device)
            return (function or type(moved).__call__)(moved, *(x.to(device) for x in inputs)).cpu()

    return call


def code(rows: int, columns: int, bits: int = 4, log_states: int = 12, seed: int | None = 7) -> Any:
    """A payload of random words, with all kinds of exponents."""
    rng = np.random.default_rng(rows * columns + bits)
    words = rng.integers(0, 2**32, (rows, -(-columns // 32) * bits), np.uint32)
    exponents = rng.integers(0, 256, rows).astype(np.uint8)
    exponents[0] = 0
    payload = pack(log_states, bits, seed, float(np.float32(0.01)), (rows, columns), words, exponents)
    return torch.frombuffer(bytearray(payload), dtype=torch.uint8)


def activations(count: int, columns: int) -> Any:
    """Rows of activations; if there are many, some of zeros, of tiny numbers, and of what is not a finite number."""
    x = np.random.default_rng(count).standard_normal((count, columns)).astype(np.float32)
    if count > 5:
        x[1] = 0
        x[2, columns // 2] = np.inf
        x[3] *= np.float32(1e-20)
        x[4, 0] = np.nan
        x[5] *= np.float32(1e-40)
    return torch.from_numpy(x)


def head_of(payload: Any, rows: int, columns: int) -> triton_product.Head:
    return triton_product.Head.of(Payload.parse(payload.numpy().data, (rows, columns)))


def bits_of(x: Any) -> Any:
    return np.asarray(x.cpu()).view("u4")


CASES = [  # rows, columns, rows of activations; bits, base-2 logarithm of states, seed
    ((1, 1, 1), 4, 12, 1),
    ((33, 40, 2), 3, 16, 2**32 - 1),
    ((40, 300, 1), 2, 12, None),
    ((18, 128, 1), 3, 12, 3),
    ((16, 64, 1), 4, 16, None),
    ((5, 1100, 7), 4, 12, 7),
    ((70, 130, 17), 2, 16, None),
    ((3, 70, 65), 3, 12, None),
]


@pytest.mark.parametrize(("shape", "bits", "log_states", "seed"), CASES)
def test_products_have_the_bits_of_the_kernels(
    shape: tuple[int, int, int], bits: int, log_states: int, seed: int | None, device: Any
) -> None:
    rows, columns, count = shape
    payload, x = code(rows, columns, bits, log_states, seed), activations(count, columns)
    head = head_of(payload, rows, columns)
    found = triton_product.product(payload.to(device), head, x.to(device))
    expected = kernels.bitshift_product(payload.numpy(), rows, columns, x.numpy(), 1)
    assert np.array_equal(bits_of(found).reshape(-1), np.frombuffer(expected, "u4"))


@pytest.mark.parametrize("block", [32, 1024])
def test_rows_are_decoded_and_turned(block: int, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_product, "TURN_BLOCK", block)  # several passes over a row, or one
    monkeypatch.setattr(triton_product, "DECODE_COLUMNS", 64)
    for rows, columns, bits in ((17, 129, 3), (16, 256, 2)):
        payload = code(rows, columns, bits)
        head = head_of(payload, rows, columns)
        places = torch.tensor([16, 3, 3, 0][rows < 17 :])
        for restore in (False, True):
            found = triton_product.rows(payload.to(device), head, places.to(device), restore)
            expected = kernels.bitshift_rows(payload.numpy(), rows, columns, places.numpy(), int(restore), 1)
            assert np.array_equal(bits_of(found).reshape(-1), np.frombuffer(expected, "u4"))
    x = activations(2, 200)
    for back in (False, True):
        found = triton_product.rotate(x.to(device), 2**31, back)
        expected = kernels.bitshift_rotate(x.numpy(), 200, 2**31, int(back), 1)
        assert np.array_equal(bits_of(found).reshape(-1), np.frombuffer(expected, "u4"))


def test_nothing_to_compute(device: Any) -> None:
    for rows, columns, count in ((0, 64, 2), (4, 0, 2), (4, 64, 0)):
        payload = torch.from_numpy(np.frombuffer(bytearray(pack(
            12, 4, 1, 0.0, (rows, columns), np.zeros((rows, -(-columns // 32) * 4), np.uint32), np.zeros(rows, np.uint8)
        )), np.uint8))  # fmt: skip
        head = head_of(payload, rows, columns)
        y = triton_product.product(payload.to(device), head, torch.ones(count, columns, device=device))
        assert y.shape == (count, rows)
        assert not y.any()
    assert triton_product.rows(payload.to(device), head, torch.zeros(0, dtype=torch.int64), True).shape == (0, 64)


def wild_of(*places: int) -> Any:
    values = torch.arange(len(places), dtype=torch.float32) * 1000 + 500
    return modules.Wild(torch.tensor(places), values.view(torch.int32))


def test_modules_compute_the_same(on_gpu: Callable[..., Any]) -> None:
    linear = modules.ResidentLinear(code(20, 96), nn.Linear(96, 20), wild=wild_of(5, 90, 95, 96 * 7 + 1))
    x = torch.randn(3, 96)
    assert torch.equal(on_gpu(linear, x), linear(x))
    assert torch.equal(on_gpu(linear, function=lambda moved: moved.weight), linear.weight)
    linear.activations = "float"
    assert torch.allclose(on_gpu(linear, x), linear(x), rtol=1e-4, atol=1e-4)
    embedding = modules.ResidentEmbedding(code(18, 40, 3), nn.Embedding(18, 40), wild=wild_of(5, 7, 40 * 17))
    ids = torch.tensor([[17, 0], [3, 17]])
    assert torch.equal(on_gpu(embedding, ids), embedding(ids))
    conv = modules.ResidentConv(code(6, 18, 2), nn.Conv2d(2, 6, 3))
    picture = torch.randn(1, 2, 3, 4)
    assert torch.equal(on_gpu(conv, picture), conv(picture))


def test_transposed_modules_compute_the_same(on_gpu: Callable[..., Any]) -> None:
    kind = pytest.importorskip("transformers.pytorch_utils").Conv1D
    transposed = modules.ResidentTransposed(code(5, 64), kind(64, 5), wild=wild_of(3, 64 + 3, 200))
    x = torch.randn(2, 5)
    assert torch.allclose(on_gpu(transposed, x), transposed(x), rtol=1e-4, atol=1e-4)


def test_a_loaded_code_is_read_anew(on_gpu: Callable[..., Any]) -> None:
    """The head is kept apart from the code on the GPU, so it must follow it."""
    linear = modules.ResidentLinear(code(4, 32, seed=7), nn.Linear(32, 4))
    other = modules.ResidentLinear(code(4, 32, seed=9), linear.plain)
    x = torch.randn(1, 32)

    def load(moved: Any, given: Any) -> Any:
        moved.load_state_dict(other.state_dict())
        return moved(given)

    assert torch.equal(on_gpu(linear, x, function=load), other(x))
    assert not torch.equal(linear(x), other(x))


def test_what_to_do_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = modules.ResidentLinear(code(4, 32), nn.Linear(32, 4))
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "kolmo.weights.running.triton_kernels", raising=False)
    monkeypatch.delattr("kolmo.weights.running.triton_kernels", raising=False)
    monkeypatch.setattr(triton_product, "GPU", ("cpu",))
    with pytest.raises(MissingExtraError, match=r"compute on cpu with triton .*; install torch for CUDA"):
        linear(torch.zeros(1, 32))


@pytest.mark.skipif(INTERPRETED, reason="runs this file itself")
def test_with_the_interpreter() -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", [80, 90])
def test_machine_code_has_no_fused_or_inexact_operations(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton: Any = pytest.importorskip("triton", reason=NO_TRITON)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    backends: Any = importlib.import_module("triton.backends.compiler")
    compiler: Any = importlib.import_module("triton.compiler")
    jitted: Any = importlib.import_module("kolmo.weights.running.triton_kernels")
    floats = dict.fromkeys(("x", "units", "y", "octaves"), "*fp32") | dict.fromkeys(("root", "scale"), "fp32")
    known = floats | {"q": "*i8", "words": "*i32", "exponents": "*u8", "places": "*i64"}
    coded = {"BITS": 3, "STATES": 16, "COLUMNS": 64}
    for function, constants in (
        (jitted.turn, {"BACK": True, "BLOCK": 128}),
        (jitted.round_rows, {"BLOCK": 128}),
        (jitted.decode, coded),
        (jitted.multiply, {**coded, "ROWS": 16, "COUNT": 1}),
        (jitted.multiply, {**coded, "ROWS": 64, "COUNT": 64}),
    ):
        names = function.arg_names
        types = {name: "constexpr" if name in constants else known.get(name, "i32") for name in names}
        source = compiler.ASTSource(function, types, {(names.index(name),): one for name, one in constants.items()})
        target = backends.GPUTarget("cuda", capability, 32)
        found = triton.compile(source, target=target, options={"enable_fp_fusion": False})
        text = found.asm["ptx"]
        assert "mul.rn.f32" in text
        assert not re.search(r"fma\.\w+\.f32|\.ftz|\.approx|div\.full", text)
        assert ("div.rn.f32" in text) == (function is jitted.round_rows)
        assert found.asm["cubin"]
