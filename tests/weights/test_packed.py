"""Packed tensors: the weights of the file to the bit; embeddings that look rows up; memory within bounds."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kolmo
from kolmo.errors import CorruptError
from kolmo.hyperfunctions import TrellisOptions
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.hyperfunctions.trellis_packed import PackedLevels
from kolmo.native.dispatch import SLOW
from kolmo.weights.format import scales
from kolmo.weights.format.codes import decode
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.record import Coded
from kolmo.weights.sources.dtypes import as_torch, from_floats, from_torch

torch: Any = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.skipif(SLOW, reason="payloads of so many weights take minutes without the C kernels")


def gaussian(rows: int, columns: int) -> Any:
    return np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("states", [1, 8, 64])
@pytest.mark.parametrize("pruned", [0.0, 0.8])
def test_a_tensor_of_several_tiles(tmp_path: Path, states: int, pruned: float) -> None:
    from kolmo.weights.running.packed import PackedTensor

    weights = gaussian(700, 800)
    weights[np.abs(weights) < pruned] = 0
    path = tmp_path / "small.kolmo"
    kolmo.shrink({"w": weights}, path, kolmo.Step(0.2), hyperfunction=TrellisOptions(states))
    file = ShrunkFile(path)
    packed = PackedTensor.read(file, "w", threads=2)
    assert packed is not None
    assert packed.has_rows
    stored = file.stored_size("w")
    assert stored < packed.size < stored + weights.size * (1.4 if pruned == 0 else 3) / 8
    with ThreadPoolExecutor(3) as pool, torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e5m2):
            wanted = as_torch(file.read("w"), "F32", (700, 800)).to(dtype)
            for threads in (None, pool):
                found = packed.decode(dtype, threads)
                assert found.dtype == dtype
                assert from_torch(found) == from_torch(wanted)
            rows = packed.rows([5, 699, 0, 5], dtype)
            assert from_torch(rows) == from_torch(wanted[[5, 699, 0, 5]])
    assert packed.rows([], torch.float32).shape == (0, 800)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("transposed", [0, 1])
def test_codes_with_scales_and_wild_weights(dtype: str, transposed: int) -> None:
    """As `codes.decode` gives them; of weights that overflow the dtype, too."""
    from kolmo.weights.running.packed import PackedTensor

    function, weights, shape = Trellis(0.2), gaussian(40, 64), (64, 40) if transposed else (40, 64)
    draw = np.random.default_rng(1)
    exponents = [draw.integers(-9, 60 if part else 9, n) for part, n in enumerate(weights.shape)]
    packed, payload = scales.pack(*exponents), function.encode(weights)
    places = np.array([3, 900, 2559], "<u8")
    tail = places.tobytes() + from_floats(np.array([1e4, -3.0, 0.1], np.float32), dtype)
    code = payload + packed + tail
    one = Coded(dtype, shape, shape[1], "0" * 16, len(code), 0, 0, 3, len(packed), transposed)
    levels = PackedLevels.of(payload, one.payload_shape)
    assert levels is not None
    tensor = PackedTensor(one, levels, code)
    assert not tensor.has_rows
    found = tensor.decode(as_torch(b"", dtype, (0,)).dtype)
    assert found.shape == shape
    assert from_torch(found) == decode(one, code, function)


class Net(nn.Module):  # type: ignore[misc, name-defined]
    """An embedding, two layers, a head that may be tied."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(60, 32, padding_idx=2)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.head = nn.Linear(32, 60, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Any) -> Any:
        x = self.words(ids)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def streamed(path: Path, tied: bool = True, **given: Any) -> tuple[Any, Any, Any]:
    """A network, the same one streamed, and the stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        whole = Net(tied).eval()
    kolmo.shrink(whole, path, kolmo.Step(0.02), force=True)
    whole.load_state_dict(kolmo.load(path, framework="pt"))
    with torch.device("meta"):
        net = Net(tied).eval()
    return whole, net, kolmo.stream(net, path, **given)


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings(tmp_path: Path, tied: bool) -> None:
    whole, net, stream = streamed(tmp_path / "small.kolmo", tied)
    assert type(net.words).__name__ == "PackedEmbedding"
    assert "bits" in repr(net.words)
    assert (net.words.weight is net.head.weight) == tied
    assert all(one.is_meta or one.shape[0] == 0 or one.dim() < 2 for one in net.parameters())
    assert len(stream.parts) == 3
    ids = torch.tensor([[0, 59, 2], [2, 7, 7]])
    with torch.no_grad():
        for given in (ids, ids[:, -2:], ids[0], ids[0, 0], ids[:, :0], ids.to(torch.int32)):
            assert torch.equal(net(given), whole(given))
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(other.double()(ids), copy.deepcopy(whole).double()(ids))
        assert torch.equal(net(ids), whole(ids))
        for wrong in (60, -1):
            with pytest.raises(IndexError, match=r"within 0\.\.59"):
                net(torch.tensor([wrong]))
    assert stream.foreseen == 0
    assert stream.most == max(part.size for part in stream.parts)


def test_what_stays_an_embedding(tmp_path: Path) -> None:
    """One that is asked to stay, and one that is of another class."""

    class Scaled(nn.Embedding):  # type: ignore[misc, name-defined]
        def forward(self, ids: Any) -> Any:
            return 2 * super().forward(ids)

    whole, _, _ = streamed(tmp_path / "small.kolmo")
    with torch.device("meta"):
        one, other = Net(True).eval(), Net(True).eval()
        other.words = Scaled(60, 32)
        other.head.weight = other.words.weight
    kolmo.stream(one, tmp_path / "small.kolmo", resident=[one.words])
    kolmo.stream(other, tmp_path / "small.kolmo")
    ids = torch.arange(9)
    with torch.no_grad():
        assert torch.equal(one(ids), whole(ids))
        assert torch.equal(other.words(ids), 2 * whole.words(ids))
    assert not one.words.weight.is_meta
    assert other.words.weight.is_meta


def test_memory_is_bounded(tmp_path: Path) -> None:
    _, _, stream = streamed(tmp_path / "small.kolmo")
    everything, ids = stream.packed, torch.arange(9)
    assert everything < 3 * 60 * 32  # bytes; of 60 * 32 + 2 * 32 * 32 weights
    packed_before = -1
    for cache in (0, 1800, 2800, everything):
        whole, net, stream = streamed(tmp_path / "small.kolmo", cache=cache)
        assert packed_before < stream.packed <= cache
        packed_before = stream.packed
        with torch.no_grad():
            for _ in range(3):
                assert torch.equal(net(ids), whole(ids))
        assert (type(net.words) is nn.Embedding) == (cache < 2800)
    assert packed_before == everything
    with pytest.raises(ValueError, match="negative"):
        streamed(tmp_path / "small.kolmo", cache=-1)


def test_codes_that_cannot_be_packed(tmp_path: Path) -> None:
    """They are decoded at each call, or stay decoded within the memory that is given."""
    torch.manual_seed(1)
    whole, path = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval(), tmp_path / "exact.kolmo"
    kolmo.shrink(whole, path, kolmo.Lossless())
    x, size = torch.randn(3, 64), 4 * 64 * 64
    for cache, kept in ((None, 0), (0, 0), (size, 1), (2 * size, 2)):
        net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval()
        stream = kolmo.stream(net, path, cache=cache)
        with torch.no_grad():
            for _ in range(3):
                assert torch.equal(net(x), whole(x))
        assert sum(part.stays for part in stream.parts) == kept
        assert stream.packed == 0


def test_a_level_that_is_too_large() -> None:
    weights = gaussian(16, 64)
    weights[2, 2] = 700.0
    assert PackedLevels.of(Trellis(0.02).encode(weights), weights.shape) is None
    weights[2, 2] = 600.0
    packed = PackedLevels.of(Trellis(0.02).encode(weights), weights.shape)
    assert packed is not None
    assert packed.values.size == 1 << 16


def test_damage_is_found_when_weights_are_packed(tmp_path: Path) -> None:
    _, _, stream = streamed(tmp_path / "small.kolmo")
    data = bytearray((tmp_path / "small.kolmo").read_bytes())
    begin, size = stream.file.span("layers.1.weight")
    data[begin + size - 5] ^= 1
    (tmp_path / "damaged.kolmo").write_bytes(data)
    with pytest.raises(CorruptError, match=r"layers\.1\.weight"):
        kolmo.stream(Net(True), tmp_path / "damaged.kolmo")
    one = stream.file.record.coded["layers.1.weight"]
    stream.file.record.coded["layers.1.weight"] = replace(one, checksum="0" * len(one.checksum))
    with pytest.raises(CorruptError, match=r"layers\.1\.weight.*checksum"):
        kolmo.stream(Net(True), stream.file)
