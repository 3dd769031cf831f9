"""Modules that compute with codes: products equal to the kernel's, in any shape, dtype and module, in little memory."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import kolmo
from kolmo.errors import CorruptError, KolmoError
from kolmo.hyperfunctions.bitshift_payload import pack
from kolmo.native.dispatch import kernels
from kolmo.weights.format.reader import ShrunkFile

torch: Any = pytest.importorskip("torch")
modules: Any = pytest.importorskip("kolmo.weights.running.modules")
nn = torch.nn


def code(rows: int, columns: int, bits: int = 4, seed: int | None = 7) -> Any:
    """A payload of random words: any are valid weights."""
    rng = np.random.default_rng(rows * columns + bits)
    words = rng.integers(0, 2**32, (rows, -(-columns // 32) * bits), np.uint32)
    exponents = rng.integers(200, 256, rows).astype(np.uint8)
    payload = pack(12, bits, seed, 0.001, (rows, columns), words, exponents)
    return torch.frombuffer(bytearray(payload), dtype=torch.uint8)


def close(found: Any, expected: Any, tolerance: float = 0.02) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert float((found - expected).detach().norm()) <= tolerance * float(expected.detach().norm())


def memory_of(module: Any) -> int:
    """Bytes of all parameters and buffers of a module, and of what else it has."""
    tensors = {id(one): one for one in (*module.parameters(), *module.buffers(), *module.plain.parameters())}
    return sum(one.numel() * one.element_size() for one in tensors.values() if not one.is_meta)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_linear_module_is_the_product_of_the_kernel(bits: int, dtype: Any) -> None:
    payload, x = code(48, 80, bits), torch.randn(2, 3, 80).to(dtype)
    plain = nn.Linear(80, 48, dtype=dtype)
    linear = modules.ResidentLinear(payload, plain)
    expected = kernels.bitshift_product(payload.numpy(), 48, 80, x.float().view(6, 80).numpy())
    y = torch.frombuffer(expected, dtype=torch.float32).view(2, 3, 48)
    with torch.inference_mode():
        found = linear(x)
    assert found.dtype == dtype
    assert torch.equal(found, (y + plain.bias.float()).to(dtype))
    assert torch.equal(linear(x[0, 0]), found[0, 0])
    assert linear(x[:0]).shape == (0, 3, 48)
    assert memory_of(linear) - 48 * plain.bias.element_size() <= 1.1 * payload.numel()
    close(found.float(), nn.functional.linear(x.float(), linear.weight.float(), plain.bias.float()))


def test_activations_as_floats_lose_nothing() -> None:
    for seed in (None, 3):
        linear = modules.ResidentLinear(code(1000, 560, 3, seed), nn.Linear(560, 1000), "float")
        x = torch.randn(5, 560)
        close(linear(x), nn.functional.linear(x, linear.weight, linear.bias), 1e-5)
        linear.activations = "int8"
        close(linear(x), nn.functional.linear(x, linear.weight, linear.bias))


def test_an_embedding_decodes_the_rows_that_are_looked_up() -> None:
    payload = code(50, 64)
    embedding = modules.ResidentEmbedding(payload, nn.Embedding(50, 64))
    weight, ids = embedding.weight, torch.tensor([[3, 49, 3], [0, 1, 16]])
    assert torch.equal(embedding(ids), weight[ids])
    assert torch.equal(embedding.to(torch.bfloat16)(ids), weight[ids].bfloat16())
    assert embedding(ids[:0]).shape == (0, 3, 64)
    assert memory_of(embedding) == payload.numel()
    for wrong in (50, -1):
        with pytest.raises(IndexError, match=r"0\.\.49"):
            embedding(torch.tensor([wrong]))


CONVOLUTIONS = [
    nn.Conv2d(4, 20, 3, padding=1),
    nn.Conv2d(4, 20, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 2), padding_mode="circular"),
    nn.Conv2d(4, 20, 1, bias=False),
    nn.Conv1d(6, 20, 5, padding="same"),
    nn.Conv1d(6, 20, 4, stride=3, padding=2, padding_mode="reflect", dilation=2),
]


@pytest.mark.parametrize("plain", CONVOLUTIONS, ids=str)
def test_convolutions(plain: Any) -> None:
    plain = copy.deepcopy(plain)
    shape = plain.weight.shape
    conv = modules.ResidentConv(code(shape[0], shape[1:].numel()), plain, "float")
    x = torch.randn(2, shape[1], *(11, 13)[: len(shape) - 2])
    expected = copy.deepcopy(plain)
    expected.weight = nn.Parameter(conv.weight)
    with torch.no_grad():
        close(conv(x), expected(x), 1e-5)
        close(conv(x[0]), expected(x[0]), 1e-5)
        conv.activations = "int8"
        close(conv(x), expected(x), 0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(64, 64),
        lambda: nn.Conv1d(64, 64, 3, stride=2, padding=1, dilation=2),
        lambda: nn.Conv2d(16, 64, 3, padding="same", padding_mode="circular"),
        lambda: nn.Embedding(100, 64, padding_idx=3),
    ],
)
def test_settings_of_the_module_that_it_stands_for(make: Any, tmp_path: Any) -> None:
    """Models read them, as Whisper the stride of its convolutions."""
    plain, path = make(), tmp_path / "small.kolmo"
    resident, packed = nn.Sequential(make()), nn.Sequential(make())
    kolmo.shrink(resident, path, hyperfunction="bitshift")
    kolmo.resident(resident, path)
    kolmo.shrink(packed, path, force=True)
    kolmo.stream(packed, path)
    assert isinstance(resident[0], modules.Resident)
    for one in (resident[0], copy.deepcopy(resident[0]), pickle.loads(pickle.dumps(resident[0])), packed[0]):
        assert {name: getattr(one, name) for name in plain.__constants__} == {
            name: getattr(plain, name) for name in plain.__constants__
        }
    with pytest.raises(AttributeError, match="nothing"):
        resident[0].nothing  # noqa: B018


def test_the_transposed_matrices_of_transformers() -> None:
    kind = pytest.importorskip("transformers.pytorch_utils").Conv1D
    for seed in (None, 4):
        plain = kind(96, 40)  # outputs, inputs
        module = modules.ResidentTransposed(code(40, 96, 4, seed), plain)
        x = torch.randn(2, 3, 40)
        close(module(x), x @ module.weight + plain.bias, 1e-5)


def test_gradients_other_devices_and_damage_are_refused() -> None:
    linear = modules.ResidentLinear(code(16, 32), nn.Linear(32, 16))
    with pytest.raises(KolmoError, match="only for inference"):
        linear(torch.zeros(1, 32, requires_grad=True))
    with torch.no_grad():
        linear(torch.zeros(1, 32, requires_grad=True))
    with pytest.raises(KolmoError, match="inputs are on meta, and the weights on cpu"):
        linear(torch.zeros(1, 32, device="meta"))
    with pytest.raises(ValueError, match="31 numbers"):
        linear(torch.zeros(1, 31))
    with pytest.raises(KolmoError, match="inputs are on cpu, and the weights on meta"):
        linear.to("meta")(torch.zeros(1, 32))
    with pytest.raises(KolmoError, match="on the CPU or with CUDA, not on meta"):
        linear(torch.zeros(1, 32, device="meta"))
    with pytest.raises(ValueError, match="choose from int8, float"):
        modules.ResidentLinear(code(16, 32), nn.Linear(32, 16), "int4")
    damaged = code(16, 32)
    damaged[40] ^= 1
    with pytest.raises(CorruptError, match="checksum"):
        modules.ResidentLinear(damaged, nn.Linear(32, 16))
    with pytest.raises(CorruptError):
        modules.ResidentLinear(code(16, 32), nn.Linear(64, 8))


def test_state_dicts_copies_and_pickles() -> None:
    linear = modules.ResidentLinear(code(16, 32), nn.Linear(32, 16))
    other = modules.ResidentLinear(code(16, 32, seed=9), nn.Linear(32, 16))
    assert {*linear.state_dict()} == {"code", "bias"}
    x = torch.randn(2, 32)
    other.load_state_dict(linear.state_dict())
    for one in (other, copy.deepcopy(linear), pickle.loads(pickle.dumps(linear))):
        assert torch.equal(one(x), linear(x))
        assert one.plain.weight.numel() == 512
    last = modules.ResidentLinear(code(16, 32, seed=11), nn.Linear(32, 16), "float")
    tied = modules.ResidentLinear(last.code, nn.Linear(32, 16, bias=False), "float")
    last.load_state_dict(linear.state_dict())
    assert torch.allclose(tied(x), x @ linear.weight.T, atol=1e-5)  # turned as the code that was loaded is
    damaged = linear.state_dict()
    damaged["code"] = damaged["code"].clone()
    damaged["code"][20] ^= 1
    with pytest.raises(CorruptError, match="checksum"):
        last.load_state_dict(damaged)


class Tied(nn.Module):  # type: ignore[misc, name-defined]
    """An embedding whose matrix is that of the head, a convolution with groups, and attention of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(96, 64)
        self.body = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
        self.groups = nn.Conv1d(64, 64, 3, padding=1, groups=4)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 96, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Any) -> Any:
        x = self.embedding(ids)
        x = x + self.body(self.norm(x))
        x = x + self.groups(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x + self.attention(x, x, x)[0])


def test_a_module_computes_with_the_codes_of_a_file(tmp_path: Any) -> None:
    torch.manual_seed(1)
    net = Tied().eval()
    kolmo.shrink(net, tmp_path / "small.kolmo", hyperfunction="bitshift")
    expected = copy.deepcopy(net)
    expected.load_state_dict(kolmo.load(tmp_path / "small.kolmo", framework="pt"))
    ids = torch.arange(24).view(2, 12)
    with torch.device("meta"):
        made = Tied().eval()
    done = kolmo.resident(made, tmp_path / "small.kolmo")
    assert sorted(done.names) == ["body.0", "body.2", "embedding", "head"]
    assert made.embedding.code is made.head.code
    assert done.code_bytes == sum(one.code.numel() for one in (made.embedding, made.body[0], made.body[2]))
    with torch.inference_mode():
        close(made(ids), expected(ids), 0.05)
        exact = kolmo.resident(Tied().eval(), tmp_path / "small.kolmo", activations="float")
    assert exact.names == done.names
    with pytest.raises(ValueError, match="choose from"):
        kolmo.resident(Tied(), tmp_path / "small.kolmo", activations="int2")
    moved = copy.deepcopy(made).to("meta")
    assert moved.embedding.code is moved.head.code  # tied modules stay tied on another device
    file = ShrunkFile(tmp_path / "small.kolmo")
    data = bytearray((tmp_path / "small.kolmo").read_bytes())
    data[file.span("body.0.weight")[0] + 50] ^= 1
    (tmp_path / "damaged.kolmo").write_bytes(data)
    with pytest.raises(CorruptError, match=r"damaged\.kolmo: tensor 'body\.0\.weight': .*checksum"):
        kolmo.resident(Tied(), tmp_path / "damaged.kolmo")
    with pytest.raises(KolmoError, match="has shape"):
        kolmo.resident(nn.Sequential(nn.Linear(4, 4)), tmp_path / "small.kolmo", names={"0.weight": "body.0.weight"})


def test_wild_weights_are_exact(tmp_path: Any) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Embedding(96, 64), nn.Linear(64, 48), nn.Linear(64, 80)).eval()
    with torch.no_grad():
        for one in net:
            one.weight[3, 5], one.weight[3, 17], one.weight[40, 0] = 9000.0, -8000.0, 7000.0
    kolmo.shrink(net, tmp_path / "small.kolmo", hyperfunction="bitshift")
    expected = copy.deepcopy(net)
    expected.load_state_dict(kolmo.load(tmp_path / "small.kolmo", framework="pt"))
    ids, x = torch.tensor([[40, 3], [3, 0]]), torch.randn(5, 64)
    for activations, tolerance in (("float", 1e-6), ("int8", 1e-4)):
        made = copy.deepcopy(net)
        done = kolmo.resident(made, tmp_path / "small.kolmo", activations=activations)
        assert len(done.names) == 3
        assert float(made[0](ids)[0, 0, 0]) == 7000
        assert torch.allclose(made[0](ids), expected[0](ids), atol=1e-4)
        assert torch.allclose(made[1].weight, expected[1].weight, atol=1e-4)
        close(made[1](x), expected[1](x).detach(), tolerance)
        if activations == "int8":  # the products of torch depend on the number of rows
            assert torch.equal(made[1](x), torch.cat([made[1](row[None]) for row in x]))
        half = copy.deepcopy(made).bfloat16()
        assert torch.equal(half[1].wild_values, made[1].wild_values)
        close(half[1](x), expected[1](x).detach(), 0.01)
        assert {*made[1].state_dict()} == {"code", "bias", "wild_places", "wild_values", "wild_differences"}
