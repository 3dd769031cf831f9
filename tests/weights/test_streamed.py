"""Modules that decode their weights as they use them: the outputs of the whole, in any order, in little memory."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import kolmo
from kolmo.errors import CorruptError, KolmoError
from kolmo.native.dispatch import SLOW
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.running.parts import default_parts

torch: Any = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.skipif(SLOW, reason="networks of so many weights take minutes without the C kernels")


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """Two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def forward(self, x: Any) -> Any:
        return self.net(x)


class UNet(nn.Module):  # type: ignore[misc, name-defined]
    """Down, a middle that is used twice, up with skip connections, and a matrix that belongs to no module."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([Block(3, 12), Block(12, 24)])
        self.middle = Block(24, 24)
        self.up = nn.ModuleList([Block(48, 12), Block(24, 12)])
        self.out = nn.Conv2d(12, 3, 1)
        self.scale = nn.Parameter(torch.randn(32, 32))

    def forward(self, x: Any, backwards: bool = False) -> Any:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.middle(self.middle(x))
        if backwards:
            x = self.middle(x)
        for block in self.up:
            x = block(torch.cat([x, skips.pop()], 1))
        return self.out(x) @ self.scale[:16, :16]


def made(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make().eval()


def both(make: Any, tmp_path: Path, **given: Any) -> tuple[Any, Any]:
    """A module with its decoded weights in memory, and one that streams them."""
    path = tmp_path / "small.kolmo"
    kolmo.shrink(made(make).state_dict(), path, kolmo.Step(0.01), force=True)
    whole = made(make)
    whole.load_state_dict(kolmo.load(path, framework="pt"))
    with torch.device("meta"):
        streamed = make().eval()
    kolmo.stream(streamed, path, **given)
    return whole, streamed


@pytest.mark.parametrize("cache", [None, 0])
def test_a_unet(tmp_path: Path, cache: int | None) -> None:
    whole, streamed = both(UNet, tmp_path, cache=cache)
    image, stream = torch.randn(2, 3, 16, 16), streamed.kolmo_stream
    with torch.no_grad():
        for backwards in (False, False, True, False, True, False):
            assert torch.equal(whole(image, backwards), streamed(image, backwards))
    sizes = [part.size for part in stream.parts]
    assert stream.most <= sum(sorted(sizes)[-2:])
    if cache == 0:
        assert stream.foreseen > stream.decoded - len(sizes)  # all but the first pass, and surprises
    else:
        assert stream.foreseen == 0  # packed parts are decoded when they are called
    empty = [part for part in stream.parts if all(one.is_meta for one in (part.weights[0].empty,)) and not part.filled]
    assert len(empty) >= len(sizes) - 1
    assert not streamed.scale.is_meta


def test_default_parts() -> None:
    net = UNet()
    inner = [*net.down[0].net, *net.down[1].net]
    parts = default_parts(net)
    assert parts[:2] == list(net.down)
    assert set(net.middle.net) <= set(parts)
    assert net.out in parts
    assert not set(inner) & set(parts)


@pytest.mark.parametrize("tied", [False, True])
def test_sequences_and_ties(tmp_path: Path, tied: bool) -> None:
    def make() -> Any:
        net = nn.Sequential(nn.Embedding(50, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 50, bias=False))
        if tied:
            net[3].weight = net[0].weight
            net.append(nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50)))
            net[4][1] = net[4][0]
        return net

    whole, streamed = both(make, tmp_path, threads=1)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(whole(ids), streamed(ids))
    with torch.device("meta"):
        streamed = make().eval()
    stream = kolmo.stream(streamed, tmp_path / "small.kolmo", resident=[streamed[0]])
    with torch.no_grad():
        assert torch.equal(whole(ids), streamed(ids))
    assert not streamed[0].weight.is_meta
    assert len(stream.parts) == 3


def test_one_layer_again_and_again(tmp_path: Path) -> None:
    class Shared(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64)
            self.head = nn.Linear(64, 64)

        def forward(self, x: Any) -> Any:
            for _ in range(6):
                x = torch.tanh(self.layer(x))
            return self.head(x)

    whole, streamed = both(Shared, tmp_path)
    x = torch.randn(3, 64)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(whole(x), streamed(x))
    stream = streamed.kolmo_stream
    assert stream.decoded + stream.foreseen < 12  # of 21 calls


def test_damage_is_found_before_a_tensor_is_used(tmp_path: Path) -> None:
    kolmo.shrink(nn.Linear(64, 64), path := tmp_path / "small.kolmo", kolmo.Step(0.02))
    file = ShrunkFile(path)
    assert b"".join(file.read_slabs("weight")) == file.read("weight")
    begin, size = file.span("weight")
    data = bytearray(path.read_bytes())
    data[begin + size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="weight"):
        list(ShrunkFile(path).read_slabs("weight"))


def test_calls_side_by_side(tmp_path: Path) -> None:
    whole, streamed = both(UNet, tmp_path, threads=1)
    images = [torch.randn(1, 3, 16, 16) for _ in range(12)]
    with torch.inference_mode():
        wanted = [whole(image) for image in images]

        def work(image: Any) -> Any:
            with torch.inference_mode():
                return streamed(image)

        with ThreadPoolExecutor(4) as pool:
            assert all(map(torch.equal, wanted, pool.map(work, images)))
    assert not any(part.users for part in streamed.kolmo_stream.parts)


def test_dtypes(tmp_path: Path) -> None:
    path = tmp_path / "small.kolmo"
    kolmo.shrink(made(UNet).state_dict(), path, kolmo.Step(0.01))
    net = made(UNet).to(torch.bfloat16)
    kolmo.stream(net, path)
    whole = made(UNet)
    whole.load_state_dict(kolmo.load(path, framework="pt"))
    image = torch.randn(1, 3, 16, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(whole.to(torch.bfloat16)(image), net(image))


def test_what_is_refused(tmp_path: Path) -> None:
    _, streamed = both(UNet, tmp_path)
    image = torch.randn(1, 3, 16, 16)
    with pytest.raises(KolmoError, match="no state dict"):
        streamed.state_dict()
    with pytest.raises(KolmoError, match="only for inference"):
        streamed(image.requires_grad_())
    assert not any(parameter.requires_grad for parameter in streamed.parameters())
    streamed(image.detach())  # all is as it was
    with pytest.raises(RuntimeError, match="expected input"):
        streamed(torch.randn(1, 5, 16, 16))
    assert not any(part.users for part in streamed.kolmo_stream.parts)

    path = tmp_path / "small.kolmo"
    wider = UNet()
    wider.out = nn.Conv2d(12, 4, 1)
    with pytest.raises(KolmoError, match=r"'out\.weight' has shape \(3, 12, 1, 1\) in the file, but \(4, 12, 1, 1\)"):
        kolmo.stream(wider, path)
    more = UNet()
    more.extra = nn.Linear(3, 3)
    with pytest.raises(KolmoError, match=r"no tensor 'extra\.weight'"):
        kolmo.stream(more, path)
    with torch.device("meta"):
        buffered = UNet()
        buffered.register_buffer("table", torch.zeros(3), persistent=False)
    with pytest.raises(KolmoError, match="not on meta"):
        kolmo.stream(buffered, path)


class Reused(nn.Module):  # type: ignore[misc, name-defined]
    """A weight that is used without a call of its module, in one of several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(64, 64)
        self.layer, self.last = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: Any, use: str) -> Any:
        uses = {
            "tied head": lambda: nn.functional.linear(x, self.words.weight),
            "transposed": lambda: x @ self.layer.weight.T,
            "data": lambda: x @ self.layer.weight.data,
            "list": lambda: torch.cat([x, self.layer.weight]),
            "keyword": lambda: nn.functional.linear(x, weight=self.layer.weight),
            "filled": lambda: self.layer.weight.copy_(x),
        }
        return self.last(self.layer(uses[use]()))


def test_weights_outside_of_their_part_are_refused(tmp_path: Path) -> None:
    """torch would return memory that nobody wrote."""

    whole, streamed = both(Reused, tmp_path)
    x = torch.randn(64, 64)
    with torch.no_grad():
        for one in (streamed, pickle.loads(pickle.dumps(streamed)), copy.deepcopy(streamed).double().float()):
            for use in ("transposed", "data", "list", "keyword", "filled"):
                with pytest.raises(KolmoError, match=r"'layer\.weight' is not decoded.*resident"):
                    one(x, use)
            with pytest.raises(KolmoError, match=r"'words\.weight' is not decoded"):
                one(x, "tied head")
        weight = streamed.layer.weight
        assert (weight.shape, weight.dtype, weight.numel(), weight.is_meta) == ((64, 64), torch.float32, 4096, True)
        assert "meta" in repr(weight)
        assert weight.shape[1:].numel() == 64
        kept = made(Reused)
        kolmo.stream(kept, tmp_path / "small.kolmo", resident=[kept.words, kept.layer])
        for use in ("tied head", "transposed"):
            assert torch.equal(kept(x, use), whole(x, use))


def test_what_has_no_forward_is_not_a_part(tmp_path: Path) -> None:
    class Lists(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.list = nn.ParameterList([nn.Parameter(torch.randn(64, 64))])
            self.dictionary = nn.ParameterDict({"a": nn.Parameter(torch.randn(64, 64))})
            self.bare = nn.Module()
            self.bare.weight, self.bare.inner = nn.Parameter(torch.randn(64, 64)), nn.Linear(64, 64)

        def forward(self, x: Any) -> Any:
            return self.bare.inner(x @ self.list[0] @ self.dictionary["a"] @ self.bare.weight)

    whole, streamed = both(Lists, tmp_path)
    x = torch.randn(3, 64)
    with torch.no_grad():
        assert torch.equal(whole(x), streamed(x))
    assert [part.module for part in streamed.kolmo_stream.parts] == [streamed.bare.inner]
