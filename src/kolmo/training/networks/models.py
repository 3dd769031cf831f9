"""The models that `kolmo train` makes, as torch modules: the recurrent network, and the way to Transformers."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import quoted, reason
from kolmo.installing import install
from kolmo.predictors.embedded.network import NetworkShape, Weights
from kolmo.predictors.embedded.network_file import FORMAT
from kolmo.predictors.embedded.network_file import load as load_network
from kolmo.predictors.embedded.pixel_network import FORMAT as PIXELS
from kolmo.predictors.embedded.pixel_network import PixelShape
from kolmo.predictors.embedded.pixel_network import load as load_pixels
from kolmo.predictors.embedded.sample_network import FORMAT as SAMPLES
from kolmo.predictors.embedded.sample_network import SampleShape
from kolmo.predictors.embedded.sample_network import load as load_samples
from kolmo.training.networks import samples
from kolmo.training.networks.cells import normalise, recur, straight_through
from kolmo.training.networks.pixels import PixelModel, floats
from kolmo.training.networks.samples import SampleModel
from kolmo.training.networks.transformer import Transformer, TransformerShape

INPUT_SCALE = 24.0  # root mean square of a layer's integers before its first product,
STATE_SCALE = 16.0  # and before its second: gated states have longer tails
# The largest integer of a weight, in products and in hashed tables. Products could hold 127; with 63 the file deflates
# to 6 % less, and no measure of the network's changes.
LEVELS, TABLE_LEVELS = 63, 7


SHAPES = {
    "tiny": NetworkShape(3, 192, 64, 64, ((2, 13), (3, 14))),
    "small": NetworkShape(4, 256, 64, 64, ((2, 14), (3, 14), (0, 14))),
    "base": NetworkShape(),
    "large": NetworkShape(6, 640, 128, 128, ((2, 14), (3, 15), (4, 15), (0, 15))),
}


@dataclass
class State:
    """What a recurrent network remembers of each lane: a state for each layer, (lanes, state), float32."""

    layers: list[Tensor] = field(default_factory=list)

    def reset(self, lanes: Tensor) -> None:
        """Forget the lanes that a boolean mask marks."""
        for h in self.layers:
            h.masked_fill_(lanes[:, None], 0)


def fake_rows(weight: Tensor, levels: int) -> Tensor:
    """Rows as whole multiples of a step of their own, within +-levels; the gradient passes straight through."""
    with torch.no_grad():
        step = weight.abs().amax(-1, keepdim=True).clamp_min(1e-12) / levels
        rounded = (weight / step).round() * step
    return straight_through(rounded, weight)


class GatedRecurrent(nn.Module):
    """Byte-level network of gated linear recurrences, with hashed n-gram embeddings (docs/neural.md).

    `quantised` makes all weights pass through the integers that the exact network will hold, 8 bits for products
    and 4 for hashed tables; activations are integers always.
    """

    reach = None  # symbols of a lane at once: any number

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.quantised = False
        width, state = shape.width, shape.state
        self.embedding = nn.Parameter(torch.randn(256, shape.embedding))
        self.tables = nn.ParameterList(torch.randn(1 << bits, shape.slot) * 0.2 for _, bits in shape.tables)
        self.inward = nn.Parameter(torch.randn(shape.layers, 3, state, width) / width**0.5)
        self.outward = nn.Parameter(torch.randn(shape.layers, 1, width, state) * (0.3 / state**0.5))
        # Rates from a half to a five-hundredth, evenly in their logarithm: what s(x) = rate asks for.
        rate = 2 * torch.logspace(0, -2.4, state).mul(0.5) - 1
        self.bias = nn.Parameter((rate / (1 - rate.square()).sqrt()).repeat(shape.layers, 1))
        self.head = nn.Parameter(torch.zeros(256, width))
        self.head_bias = nn.Parameter(torch.zeros(256))

    def start(self, lanes: int) -> State:
        """State before the first byte."""
        device = self.head.device
        return State([torch.zeros(lanes, self.shape.state, device=device) for _ in range(self.shape.layers)])

    def forward(self, symbols: Tensor, hashes: Tensor, state: State, dtype: torch.dtype = torch.float32) -> Tensor:
        """Logits of the byte after each, (steps, lanes, 256), float32; `state` moves on.

        Args:
            symbols: bytes, (steps, lanes), int64.
            hashes: entries of each table, (tables, steps, lanes), int64 (see `Hasher` in network/reference.py).
            state: of these lanes.
            dtype: of the matrix products.
        """
        weight = fake_rows if self.quantised else _unchanged
        slots = [functional.embedding(symbols, weight(self.embedding, LEVELS))]
        slots += [weight(functional.embedding(h, t), TABLE_LEVELS) for h, t in zip(hashes, self.tables, strict=True)]
        x = torch.cat(slots, -1)
        inward = (weight(self.inward, LEVELS) / INPUT_SCALE).to(dtype).flatten(1, 2)
        outward = (weight(self.outward, LEVELS) / STATE_SCALE).to(dtype).flatten(1, 2)
        for layer in range(self.shape.layers):
            u = normalise(x, INPUT_SCALE, True, dtype)
            y, state.layers[layer] = recur(u @ inward[layer].T, self.bias[layer], state.layers[layer])
            v = normalise(y.float(), STATE_SCALE, True, dtype)
            x = x + (v @ outward[layer].T)
        u = normalise(x, INPUT_SCALE, True, dtype)
        return (u @ (weight(self.head, LEVELS) / INPUT_SCALE).to(dtype).T).float() + self.head_bias

    def matrices(self) -> list[nn.Parameter]:
        """Parameters that are products' weights, (..., out, in): those that orthogonalised updates are for."""
        return [self.inward, self.outward]

    def rest(self) -> list[nn.Parameter]:
        """All other parameters but the hashed tables."""
        return [self.embedding, self.bias, self.head, self.head_bias]

    def lookups(self) -> list[nn.Parameter]:
        """Hashed tables."""
        return list(self.tables)

    def describe(self) -> dict[str, Any]:
        """The shape, ready for JSON."""
        return {"kind": "gated-recurrent", **asdict(self.shape)}


def _unchanged(weight: Tensor, levels: int) -> Tensor:
    return weight


Model = GatedRecurrent | Transformer
ModelShape = NetworkShape | TransformerShape
EXACT = ("network", "pixels", "samples")  # names of products
AnyModel = Model | PixelModel | SampleModel  # those of text, of pixels, and of samples
AnyShape = ModelShape | PixelShape | SampleShape


def build(shape: ModelShape) -> Model:
    """An untrained model of this shape, from torch's random numbers."""
    return Transformer(shape) if isinstance(shape, TransformerShape) else GatedRecurrent(shape)


def shape_from(content: dict[str, Any]) -> ModelShape:
    """The shape that a model's `describe` gave.

    Raises:
        KolmoError: it is none.
    """
    sizes = {key: value for key, value in content.items() if key != "kind"}
    try:
        if content["kind"] == "transformer":
            return TransformerShape(**sizes)
        if content["kind"] == "gated-recurrent":
            return NetworkShape(**{**sizes, "tables": tuple((order, bits) for order, bits in sizes["tables"])})
    except (KeyError, TypeError, ValueError) as error:
        raise KolmoError(f"not a model's description ({reason(error)})") from None
    raise KolmoError(f"{quoted(content['kind'])} is not a kind of model")


def load(folder: Path | str) -> Model:
    """The model of a run, with its floating-point weights as they are now.

    Raises:
        KolmoError: the folder holds none.
    """
    folder = Path(folder)
    try:
        model = build(shape_from(json.loads((folder / "config.json").read_text("utf-8"))["model"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KolmoError(f"{folder}: not the folder of a run ({error})") from None
    fill(model, folder)
    return model


def fill(model: AnyModel, path: Path) -> None:
    """Give a model the weights of a run's folder, of its checkpoint, or of its product.

    Raises:
        KolmoError: nothing is there, it is damaged, or it is of another shape.
    """
    if path.is_dir():
        places = (
            path / name for name in ("checkpoint.pt", "model.safetensors", *(f"{kind}.safetensors" for kind in EXACT))
        )
        path = next((place for place in places if place.exists()), path)
    if not path.is_file():
        raise KolmoError(f"{path}: no weights; name a run's folder, checkpoint.pt, or a .safetensors that it made")
    weights = _read(path)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        raise KolmoError(f"{path}: holds another kind or size of model; give its network, or its sizes") from None


def _read(path: Path) -> Any:
    """Parameters by their names."""
    try:
        if path.suffix != ".safetensors":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about the file
                return torch.load(path, map_location="cpu", weights_only=True)["model"]
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("format")
            if kind not in (FORMAT, PIXELS, SAMPLES):
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except ImportError:
        raise MissingExtraError(f"{path}: needs safetensors; {install('train')}") from None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:  # torch and safetensors raise what the damage happens to lead to
        raise KolmoError(f"{path}: no weights of kolmo's, or damaged; name a run's folder, or a file in it") from None
    if kind == SAMPLES:
        return samples.floats(load_samples(path))
    return floats(load_pixels(path)) if kind == PIXELS else _floats(load_network(path))


def _floats(weights: Weights) -> dict[str, Tensor]:
    """Parameters of a `GatedRecurrent` from the exact network's integers: `export.quantise` the other way."""

    def floats(name: str) -> Tensor:
        return torch.from_numpy(weights.tensor(name).astype("float32"))

    def product(name: str, scale: float) -> Tensor:
        return floats(name) * floats(f"{name}_scale")[:, None] * scale

    shape, found = weights.shape, {"embedding": product("embedding", 1.0)}
    for k in range(len(shape.tables)):
        pairs = torch.from_numpy(weights.tensor(f"table.{k}").copy())
        whole = torch.stack([pairs & 15, pairs >> 4], -1).flatten(1).float() - 8
        found[f"tables.{k}"] = whole * floats(f"table.{k}_scale")[:, None]
    layers = range(shape.layers)
    inward = torch.stack([product(f"layer.{k}.in", INPUT_SCALE) for k in layers])
    found["inward"] = inward.unflatten(1, (3, shape.state))
    found["outward"] = torch.stack([product(f"layer.{k}.out", STATE_SCALE) for k in layers])[:, None]
    found["bias"] = torch.stack([floats(f"layer.{k}.bias") for k in layers])
    return {**found, "head": product("head", INPUT_SCALE), "head_bias": floats("head_bias")}


__all__ = [
    "INPUT_SCALE",
    "SHAPES",
    "STATE_SCALE",
    "AnyModel",
    "AnyShape",
    "GatedRecurrent",
    "Model",
    "ModelShape",
    "NetworkShape",
    "State",
    "build",
    "fake_rows",
    "fill",
    "load",
    "shape_from",
]
