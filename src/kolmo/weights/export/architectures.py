"""Architectures that llama.cpp runs, from the config.json of transformers: their facts, and what becomes of tensors.

Three differences from transformers matter. The architecture `llama` rotates pairs of neighbouring rows, where
transformers rotate row k with row k + d/2, so the rows of queries and keys are put in another order. GPT-2 of
transformers stores its matrices transposed. Llama 3 divides the frequencies of its rotation, which are one tensor in
GGUF. What it is not: a reader of weights, or a writer of files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted
from kolmo.safetensors import Kind
from kolmo.weights.export.facts import Facts
from kolmo.weights.sources.dtypes import FLOATS

if TYPE_CHECKING:
    import numpy.typing as npt

    from kolmo.weights.sources.dtypes import Floats

KNOWN = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "gpt2": "gpt2"}  # model_type -> name in GGUF
BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d{1,6})\.")
DERIVED = re.compile(r"\.attn\.(masked_)?bias$|rotary_emb\.inv_freq$")  # tensors that follow from the configuration
TRANSPOSED = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
QUERY, KEY = re.compile(r"\.q_proj\.(weight|bias)$"), re.compile(r"\.k_proj\.(weight|bias)$")
EMBEDDING, OUTPUT, POSITIONS = "token_embd.weight", "output.weight", "position_embd.weight"


@dataclass(frozen=True)
class Rope:
    """How positions rotate queries and keys.

    Attributes:
        theta: the base of the frequencies.
        size: number of rows of a head.
        kind: "default", "linear" or "llama3".
        facts: the parameters of the kind.
    """

    theta: float
    size: int
    kind: str
    facts: Facts

    def divisors(self) -> Floats:
        """By what Llama 3 divides each frequency: 1 for short waves, `factor` for long ones, smooth in between."""
        factor, low = self.facts.number("factor"), self.facts.number("low_freq_factor")
        high = self.facts.number("high_freq_factor")
        context = self.facts.whole("original_max_position_embeddings")
        if not low < high:
            raise CorruptError(f"{self.facts.path}: low_freq_factor is not below high_freq_factor; correct it")
        turns = context * self.theta ** (-np.arange(0, self.size, 2) / self.size) / (2 * math.pi)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        divisors: Floats = (1 / ((1 - kept) / factor + kept)).astype(np.float32)
        return divisors


@dataclass(frozen=True)
class Model:
    """The facts of a model that GGUF states.

    Attributes:
        architecture: its name in GGUF.
        layers, heads, kv_heads, width, hidden, context: whole numbers; `hidden` is the width between the two matrices.
        epsilon: of its norms.
        rope: None for GPT-2, which has a table of positions.
        tied: what the configuration says about the matrix of the output; None if it leaves that open.
        notes: sentences about what llama.cpp does differently.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    width: int
    hidden: int
    context: int
    epsilon: float
    rope: Rope | None
    tied: bool | None
    notes: tuple[str, ...] = ()

    def add_to(self, writer: Any) -> None:
        """State these facts in a file; `writer` is a `gguf.GGUFWriter`."""
        from gguf import RopeScalingType

        writer.add_block_count(self.layers)
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.width)
        writer.add_feed_forward_length(self.hidden)
        writer.add_head_count(self.heads)
        if self.rope is None:
            writer.add_layer_norm_eps(self.epsilon)
            return
        writer.add_head_count_kv(self.kv_heads)
        writer.add_layer_norm_rms_eps(self.epsilon)
        writer.add_key_length(self.rope.size)
        writer.add_value_length(self.rope.size)
        writer.add_rope_dimension_count(self.rope.size)
        writer.add_rope_freq_base(self.rope.theta)
        if self.rope.kind == "linear":
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(self.rope.facts.number("factor"))

    def made(self) -> dict[str, Floats]:
        """Tensors of the GGUF file that are computed from the configuration."""
        return {"rope_freqs.weight": self.rope.divisors()} if self.rope and self.rope.kind == "llama3" else {}


@dataclass(frozen=True)
class Move:
    """What becomes of one tensor.

    Attributes:
        source: its name in the checkpoint.
        target: its name in GGUF.
        shape: its shape there.
        heads: if not 0, rows are put in the other order of rotation, for so many heads.
        transposed: whether rows and columns change places.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    heads: int = 0
    transposed: bool = False

    def apply(self, values: Floats) -> Floats:
        """The tensor as GGUF has it, contiguous."""
        return np.ascontiguousarray(values.T) if self.transposed else permuted(values, self.heads)


def permuted(values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Rows (k, k + d/2) of each of `heads` heads of d rows beside each other; unchanged for 0 heads.

    Example:
        >>> permuted(np.arange(8), 2)
        array([0, 2, 1, 3, 4, 6, 5, 7])
    """
    if not heads:
        return values
    halves = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def model_of(config: Facts) -> Model:
    """The facts of a model, from its config.json.

    Raises:
        FormatError: the architecture, or something about it, is not known here.
        CorruptError: a value is of the wrong kind.
    """
    name = config.values.get("model_type")
    if not isinstance(name, str) or name not in KNOWN:
        known = ", ".join(KNOWN)
        raise FormatError(f"{config.path}: model_type {quoted(name)} cannot become GGUF here; those that can: {known}")
    tied = config.values.get("tie_word_embeddings")
    if tied is not None and not isinstance(tied, bool):
        raise CorruptError(f"{config.path}: tie_word_embeddings is {quoted(tied)}, not true or false; correct it")
    return _gpt2(config, tied) if name == "gpt2" else _rotating(config, name, tied)


def _gpt2(config: Facts, tied: bool | None) -> Model:
    config.require("activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    config.require("scale_attn_weights", (True,))
    config.require("scale_attn_by_inverse_layer_idx", (False,))
    config.require("add_cross_attention", (False,))
    width, heads = config.whole("n_embd", "hidden_size"), config.whole("n_head", "num_attention_heads")
    return Model(
        architecture="gpt2",
        layers=config.whole("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        width=width,
        hidden=config.whole("n_inner", default=4 * width),
        context=config.whole("n_positions", "n_ctx", "max_position_embeddings"),
        epsilon=config.number("layer_norm_epsilon", 1e-5),
        rope=None,
        tied=tied,
    )


def _rotating(config: Facts, name: str, tied: bool | None) -> Model:
    config.require("hidden_act", ("silu",))
    heads, width = config.whole("num_attention_heads"), config.whole("hidden_size")
    context = config.whole("max_position_embeddings")
    notes: tuple[str, ...] = ()
    if name == "qwen2":
        config.require("use_sliding_window", (False,))
    elif (window := config.whole("sliding_window", default=context)) < context:
        notes = (f"{config.path}: llama.cpp does not heed sliding_window, so texts of over {window} tokens differ",)
    return Model(
        architecture=KNOWN[name],
        layers=config.whole("num_hidden_layers"),
        heads=heads,
        kv_heads=config.whole("num_key_value_heads", default=heads),
        width=width,
        hidden=config.whole("intermediate_size"),
        context=context,
        epsilon=config.number("rms_norm_eps"),
        rope=_rope(config, KNOWN[name], config.whole("head_dim", default=max(1, width // heads))),
        tied=tied,
        notes=notes,
    )


def _rope(config: Facts, architecture: str, size: int) -> Rope:
    """From `rope_parameters`, or as before version 5 of transformers from `rope_theta` and `rope_scaling`."""
    facts = Facts(config.path, {**config.inner("rope_scaling").values, **config.inner("rope_parameters").values})
    theta = facts.number("rope_theta", config.number("rope_theta", 10000.0))
    kind = facts.values.get("rope_type", facts.values.get("type", "default"))
    known = ("default", "linear", "llama3") if architecture == "llama" else ("default", "linear")
    if kind not in known:
        raise FormatError(
            f"{config.path}: rope scaling {quoted(kind)} cannot become GGUF here, only {', '.join(known)}"
        )
    if size % 2:
        raise CorruptError(f"{config.path}: heads of {size} rows cannot rotate; correct head_dim")
    return Rope(theta, size, kind, facts)


def moves(model: Model, kinds: Mapping[str, Kind], tied: Iterable[str], where: str) -> list[Move]:
    """What becomes of each tensor of a checkpoint, in the order of the layers.

    Args:
        model: its facts.
        kinds: dtypes and shapes of its tensors by name.
        tied: names of the tensors that are the same as another one.
        where: name of the checkpoint, for messages.

    Raises:
        FormatError: a tensor is unknown, missing, or not of floats.
        CorruptError: shapes, or the number of layers, do not fit the configuration.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    found = {int(match[1]) for match in map(BLOCK.search, kinds) if match}
    if found != set(range(len(found))) or len(found) != model.layers:
        raise CorruptError(f"{where}: has {len(found)} layers, and config.json says {model.layers}; get both again")
    architecture = next(one for one in MODEL_ARCH if MODEL_ARCH_NAMES[one] == model.architecture)
    names, same = get_tensor_name_map(architecture, model.layers), set(tied)
    made: dict[str, Move] = {}
    needed = {EMBEDDING, "output_norm.weight"} | ({OUTPUT} if model.tied is False else set())
    for source, kind in kinds.items():
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if DERIVED.search(source):
            continue
        if target == OUTPUT and (model.tied or source in same):  # llama.cpp takes the embedding in its place
            needed.discard(OUTPUT)
            continue
        if target is None or not target.endswith((".weight", ".bias")):
            raise FormatError(f"{where}: {model.architecture} of llama.cpp has no tensor for {quoted(source)}")
        if target in made:
            raise FormatError(f"{where}: {quoted(source)} and {quoted(made[target].source)} are the same tensor there")
        made[target] = _move(model, source, target, kind, where)
    if missing := sorted(needed - set(made)):
        raise FormatError(f"{where}: has no tensor that would be {missing[0]}; get it again")
    return sorted(made.values(), key=lambda move: (_block(move.target), move.target))


def _move(model: Model, source: str, target: str, kind: Kind, where: str) -> Move:
    if kind.dtype not in FLOATS or len(kind.shape) not in (1, 2):
        raise FormatError(f"{where}: {quoted(source)} is not a matrix or vector of floats; llama.cpp has none such")
    transposed = model.architecture == "gpt2" and bool(TRANSPOSED.search(source)) and len(kind.shape) == 2
    heads = 0
    if model.architecture == "llama":
        heads = model.heads if QUERY.search(source) else model.kv_heads if KEY.search(source) else 0
    if heads and model.rope and kind.shape[0] != heads * model.rope.size:
        what = f"{kind.shape[0]} rows for {heads} heads of {model.rope.size}"
        raise CorruptError(f"{where}: {quoted(source)} has {what}; get it and config.json again")
    return Move(source, target, kind.shape[::-1] if transposed else kind.shape, heads, transposed)


def _block(target: str) -> int:
    return int(target.split(".")[1]) if target.startswith("blk.") else -1
