"""A model as llama.cpp knows it: the facts that GGUF states, and what becomes of tensors.

Four differences from transformers matter. Some architectures rotate pairs of neighbouring rows, where transformers
rotate row k with row k + d/2, so the rows of queries and keys are put in another order. GPT-2 of transformers stores
its matrices transposed. Gemma of transformers adds 1 to the weights of its norms, which GGUF holds. Llama 3 divides
the frequencies of its rotation, which are one tensor in GGUF. What it is not: a reader of weights, or a writer of
files; `families` reads the config.json.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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

BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d{1,6})\.")
DERIVED = re.compile(r"\.attn\.(masked_)?bias$|rotary_emb\.inv_freq$")  # tensors that follow from the configuration
TRANSPOSED = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
NORM = re.compile(r"norm\.weight$")
QUERY, KEY = re.compile(r"\.q_proj\.(weight|bias)$"), re.compile(r"\.k_proj\.(weight|bias)$")
EMBEDDING, OUTPUT, POSITIONS = "token_embd.weight", "output.weight", "position_embd.weight"
HEADS = ("lm_head.weight", "embed_out.weight")  # of the output in transformers; Gemma has none in GGUF


@dataclass(frozen=True)
class Rope:
    """How positions rotate queries and keys.

    Attributes:
        theta: the base of the frequencies.
        size: number of rows of a head.
        turned: number of them that rotate, the first ones.
        kind: "default", "linear" or "llama3".
        facts: the parameters of the kind.
    """

    theta: float
    size: int
    turned: int
    kind: str
    facts: Facts

    def divisors(self) -> Floats:
        """By what Llama 3 divides each frequency: 1 for short waves, `factor` for long ones, smooth in between."""
        factor, low = self.facts.number("factor"), self.facts.number("low_freq_factor")
        high = self.facts.number("high_freq_factor")
        context = self.facts.whole("original_max_position_embeddings")
        if not low < high:
            raise CorruptError(f"{self.facts.path}: low_freq_factor is not below high_freq_factor; correct it")
        turns = context * self.theta ** (-np.arange(0, self.turned, 2) / self.turned) / (2 * math.pi)
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
        has_means: whether its norms subtract the mean.
        rope: None for GPT-2, which has a table of positions.
        tied: what the configuration says about the matrix of the output; None if it leaves that open.
        neighbours: whether pairs of neighbouring rows rotate.
        norms_from: what the weights of norms in transformers lack.
        extra: further facts, by their keys without the name of the architecture.
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
    has_means: bool
    rope: Rope | None
    tied: bool | None
    neighbours: bool = False
    norms_from: float = 0.0
    extra: dict[str, int | float | bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def add_to(self, writer: Any) -> None:
        """State these facts in a file; `writer` is a `gguf.GGUFWriter`."""
        from gguf import RopeScalingType

        writer.add_block_count(self.layers)
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.width)
        writer.add_feed_forward_length(self.hidden)
        writer.add_head_count(self.heads)
        if self.has_means:
            writer.add_layer_norm_eps(self.epsilon)
        else:
            writer.add_layer_norm_rms_eps(self.epsilon)
        for key, value in self.extra.items():
            kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
            kinds[type(value)](f"{self.architecture}.{key}", value)
        if self.rope is None:
            return
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.rope.size)
        writer.add_value_length(self.rope.size)
        writer.add_rope_dimension_count(self.rope.turned)
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
        added: to each number.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    heads: int = 0
    transposed: bool = False
    added: float = 0.0

    def apply(self, values: Floats) -> Floats:
        """The tensor as GGUF has it, contiguous."""
        if self.added:
            values = values + np.float32(self.added)
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
        if (target == OUTPUT or source in HEADS) and (model.tied or source in same):  # the embedding stands for it
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
    heads = model.heads if QUERY.search(source) else model.kv_heads if KEY.search(source) else 0
    if heads and model.rope and kind.shape[0] != heads * model.rope.size:
        what = f"{kind.shape[0]} rows for {heads} heads of {model.rope.size}"
        raise CorruptError(f"{where}: {quoted(source)} has {what}; get it and config.json again")
    added = model.norms_from if NORM.search(source) else 0.0
    return Move(
        source,
        target,
        kind.shape[::-1] if transposed else kind.shape,
        heads if model.neighbours else 0,
        transposed,
        added,
    )


def _block(target: str) -> int:
    return int(target.split(".")[1]) if target.startswith("blk.") else -1
