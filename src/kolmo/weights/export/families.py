"""Architectures that llama.cpp runs, from the config.json of transformers, and what it would not heed of that.

Each one is checked by running both on the same weights (`tests/weights/test_export_families.py`). What it is not: a
reader of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted
from kolmo.weights.export.architectures import Model, Rope
from kolmo.weights.export.facts import Facts

Extra = dict[str, int | float | bool]
SCALINGS = ("default", "linear")
TANH = ("gelu_pytorch_tanh", "gelu_new")  # two names of one function
FULL, SLIDING = "full_attention", "sliding_attention"  # types of layers


@dataclass(frozen=True)
class Family:
    """An architecture whose positions rotate.

    Attributes:
        name: its name in GGUF.
        activations: functions between the matrices that llama.cpp has for it; the first is that of transformers.
        scalings: of the rotation.
        neighbours, norms_from, has_means: as for `Model`.
        is_tied: the output is the embedding in all of its models.
        biased: keys of biases that llama.cpp does not have here.
        extra: its further facts; checks what it does not state.
    """

    name: str
    activations: tuple[str, ...] = ("silu",)
    scalings: tuple[str, ...] = SCALINGS
    neighbours: bool = False
    norms_from: float = 0.0
    has_means: bool = False
    is_tied: bool = False
    biased: tuple[str, ...] = ()
    extra: Callable[[Facts, int, Rope], Extra] | None = None


def _gemma2(config: Facts, layers: int, rope: Rope) -> Extra:
    _check_layers(config, layers, 2)
    _check_scale(config, rope, layers == 46)
    caps = {f"{name}_logit_softcapping": config.number(f"{name}_logit_softcapping", 0.0) for name in ("attn", "final")}
    for name, value in caps.items():
        if not value:
            raise FormatError(f"{config.path}: has no {name}, and llama.cpp would take one; it cannot become GGUF here")
    return {**caps, "attention.sliding_window": config.whole("sliding_window", default=4096)}


def _gemma3(config: Facts, layers: int, rope: Rope) -> Extra:
    _check_layers(config, layers, 6)
    _check_scale(config, rope, layers == 62)
    config.require("use_bidirectional_attention", (False,))
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.values.get(name) is not None:
            raise FormatError(f"{config.path}: has {name}, which llama.cpp would not heed; it cannot become GGUF here")
    local = (
        config.inner("rope_parameters").inner(SLIDING).number("rope_theta", config.number("rope_local_base_freq", 1e4))
    )
    if local != 1e4:
        raise FormatError(
            f"{config.path}: rope_theta of {SLIDING} is {local}; llama.cpp runs this architecture with 10000"
        )
    return {"attention.sliding_window": config.whole("sliding_window", default=4096)}


def _stablelm(config: Facts, layers: int, rope: Rope) -> Extra:
    config.require("qk_layernorm", (False,))
    parallel = config.values.get("use_parallel_residual") or False
    if not isinstance(parallel, bool):
        raise CorruptError(f"{config.path}: use_parallel_residual is {quoted(parallel)}, not true or false; correct it")
    return {"use_parallel_residual": parallel}


def _granite(config: Facts, layers: int, rope: Rope) -> Extra:
    return {
        "attention.scale": config.number("attention_multiplier", 1.0),
        "embedding_scale": config.number("embedding_multiplier", 1.0),
        "residual_scale": config.number("residual_multiplier", 1.0),
        "logit_scale": config.number("logits_scaling", 1.0),
    }


def _smollm3(config: Facts, layers: int, rope: Rope) -> Extra:
    known = [int((layer + 1) % 4 != 0) for layer in range(layers)]
    if config.values.get("no_rope_layers") not in (None, known):
        raise FormatError(f"{config.path}: no_rope_layers is not every fourth layer; llama.cpp runs only that")
    config.require("no_rope_layer_interval", (4,))
    return {}


def _phi(config: Facts, layers: int, rope: Rope) -> Extra:
    config.require("qk_layernorm", (False,))
    return {}


LLAMA = Family("llama", scalings=(*SCALINGS, "llama3"), neighbours=True)
FAMILIES = {  # by model_type
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3", biased=("attention_bias",)),
    "gemma": Family("gemma", TANH, norms_from=1.0, is_tied=True, biased=("attention_bias",)),
    "gemma2": Family("gemma2", TANH, norms_from=1.0, is_tied=True, biased=("attention_bias",), extra=_gemma2),
    "gemma3_text": Family("gemma3", TANH, norms_from=1.0, is_tied=True, biased=("attention_bias",), extra=_gemma3),
    "phi": Family("phi2", TANH[::-1], ("default",), has_means=True, extra=_phi),
    "phi3": Family("phi3", scalings=("default",)),
    "stablelm": Family("stablelm", scalings=("default",), has_means=True, extra=_stablelm),
    "olmo2": Family("olmo2", scalings=("default",), biased=("attention_bias",)),
    "granite": Family("granite", neighbours=True, biased=("attention_bias", "mlp_bias"), extra=_granite),
    "smollm3": Family("smollm3", neighbours=True, biased=("attention_bias", "mlp_bias"), extra=_smollm3),
    "starcoder2": Family("starcoder2", TANH, ("default",), has_means=True),
}
GPT2 = "gpt2"
KNOWN = (*FAMILIES, GPT2)
WINDOWED = ("mistral", "phi3", "starcoder2")  # have a sliding window that llama.cpp ignores


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
    return _gpt2(config, tied) if name == GPT2 else _rotating(config, name, tied)


def _gpt2(config: Facts, tied: bool | None) -> Model:
    config.require("activation_function", TANH[::-1])
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
        has_means=True,
        rope=None,
        tied=tied,
    )


def _rotating(config: Facts, name: str, tied: bool | None) -> Model:
    family = FAMILIES[name]
    for key in ("hidden_act", "hidden_activation"):
        config.require(key, family.activations)
    for key in family.biased:
        config.require(key, (False,))
    if family.is_tied:
        config.require("tie_word_embeddings", (True,))
        tied = True
    heads, width = config.whole("num_attention_heads"), config.whole("hidden_size")
    layers, context = config.whole("num_hidden_layers"), config.whole("max_position_embeddings")
    notes: tuple[str, ...] = ()
    if name in WINDOWED:
        if (window := config.whole("sliding_window", default=context)) < context:
            notes = (f"{config.path}: llama.cpp does not heed sliding_window, so texts of over {window} tokens differ",)
    else:
        config.require("use_sliding_window", (False,))
    rope = _rope(config, family, config.whole("head_dim", default=max(1, width // heads)))
    epsilons = ("rms_norm_eps", "layer_norm_eps", "norm_epsilon")
    return Model(
        architecture=family.name,
        layers=layers,
        heads=heads,
        kv_heads=config.whole("num_key_value_heads", default=heads),
        width=width,
        hidden=config.whole("intermediate_size"),
        context=context,
        epsilon=config.number(next((key for key in epsilons if key in config.values), epsilons[0])),
        has_means=family.has_means,
        rope=rope,
        tied=tied,
        neighbours=family.neighbours,
        norms_from=family.norms_from,
        extra=family.extra(config, layers, rope) if family.extra else {},
        notes=notes,
    )


def _rope(config: Facts, family: Family, size: int) -> Rope:
    """From `rope_parameters`, or as before version 5 of transformers from `rope_theta` and `rope_scaling`."""
    parameters = config.inner("rope_parameters")
    parameters = parameters.inner(FULL) if FULL in parameters.values else parameters
    facts = Facts(config.path, {**config.inner("rope_scaling").values, **parameters.values})
    theta = facts.number("rope_theta", config.number("rope_theta", 10000.0))
    kind = facts.values.get("rope_type", facts.values.get("type", "default"))
    if kind not in family.scalings:
        known = ", ".join(family.scalings)
        raise FormatError(f"{config.path}: rope scaling {quoted(kind)} cannot become GGUF here, only {known}")
    part = facts.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    turned = int(size * min(part, 1.0))
    if turned % 2 or not turned:
        raise CorruptError(f"{config.path}: heads of {size} rows cannot rotate {turned} of them; correct head_dim")
    return Rope(theta, size, turned, kind, facts)


def _check_layers(config: Facts, layers: int, period: int) -> None:
    """Refuse layers with a window other than all but each `period`-th."""
    known = [SLIDING if (layer + 1) % period else FULL for layer in range(layers)]
    if config.values.get("layer_types") not in (None, known):
        raise FormatError(
            f"{config.path}: layer_types are not {FULL} in each {period}th layer; llama.cpp runs only that"
        )
    config.require("sliding_window_pattern", (period,))


def _check_scale(config: Facts, rope: Rope, is_largest: bool) -> None:
    """Refuse a scale of products of queries and keys that llama.cpp does not take; it knows the largest model's."""
    wanted = config.whole("hidden_size") / config.whole("num_attention_heads") if is_largest else rope.size
    if config.number("query_pre_attn_scalar", 256.0) != wanted:
        raise FormatError(f"{config.path}: query_pre_attn_scalar is not {wanted:g}; llama.cpp runs only that")
