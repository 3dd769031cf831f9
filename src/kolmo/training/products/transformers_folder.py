"""A Transformer with rotary positions as a folder of transformers, which `hf:FOLDER`, `kolmo eval` and `shrink` open.

It is a GPT-NeoX whose parts follow each other (no parallel residual), without biases in attention, and with biases of
zero in its normalisations. What it is not: it needs neither transformers nor tokenizers.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kolmo.predictors.language_models.token_table import byte_alphabet
from kolmo.targets import replacing
from kolmo.training.networks.transformer import PERIOD, WIDENING, Transformer

FOLDER = "hf"  # of a run's folder
TRAINING = "training.json"
EPSILON = 1e-5  # of layer_norm in torch
LINE_END = 10  # the byte that stands before the first one of a text


def export(model: Transformer, folder: Path, tokenizer: str | None, training: dict[str, Any] | None = None) -> None:
    """Write `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`, `training.json`.

    Args:
        model: with rotary positions.
        folder: is made.
        tokenizer: content of a `tokenizer.json`; None: symbols are bytes.
        training: content of `training.json`, for people and for `kolmo bench paper`; None: it is not written.

    Raises:
        ValueError: the model has other positions.

    Example:
        >>> from kolmo.training.networks.transformer import TransformerShape
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> export(Transformer(TransformerShape(1, 8, 2, 16, "rotary")), folder, None)
        >>> json.loads((folder / "config.json").read_text())["model_type"]
        'gpt_neox'
    """
    from safetensors.torch import save

    if not model.rotary:
        raise ValueError("only rotary positions are those of GPT-NeoX")
    folder.mkdir(parents=True, exist_ok=True)
    table = {character: byte for byte, character in enumerate(_characters())}
    start = LINE_END if tokenizer is None else json.loads(tokenizer)["model"]["vocab"][_characters()[LINE_END]]
    texts = {
        "tokenizer.json": tokenizer or json.dumps(_bytes_tokenizer(table), ensure_ascii=False, indent=1),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}),
        "config.json": json.dumps(_config(model, start), indent=1),
    }
    if training is not None:
        texts[TRAINING] = json.dumps(training, indent=1)
    for name, text in texts.items():
        with replacing(folder / name, durable=True) as file:
            file.write(text.encode())
    with replacing(folder / "model.safetensors", durable=True) as file:
        file.write(save(_tensors(model), {"format": "pt"}))


def seen_before(init: Path | None) -> int:
    """Bytes that a run's folder, from which another run took its first weights, had seen; 0 where that is not known."""
    if init is None or not (init / "log.jsonl").is_file():
        return 0
    seen = 0
    for line in (init / "log.jsonl").read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            seen = int(json.loads(line)["bytes"])
    return seen


def _characters() -> list[str]:
    """The character that stands for each byte in the tokenizers of GPT-2."""
    character = {byte: one for one, byte in byte_alphabet().items()}
    return [character[byte] for byte in range(256)]


def _bytes_tokenizer(table: dict[str, int]) -> dict[str, object]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model: dict[str, object] = {"type": "BPE", "dropout": None, "unk_token": None, "vocab": table, "merges": []}
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": level, "decoder": level, "model": model}


def _config(model: Transformer, start: int) -> dict[str, object]:
    shape = model.shape
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": WIDENING * shape.width,
        "max_position_embeddings": shape.context,
        "hidden_act": "gelu",
        "layer_norm_eps": EPSILON,
        "use_parallel_residual": False,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": PERIOD, "partial_rotary_factor": 1.0},
        "rotary_pct": 1.0,
        "rotary_emb_base": PERIOD,
        "bos_token_id": start,
        "eos_token_id": None,
        "dtype": "float32",
    }


def _tensors(model: Transformer) -> dict[str, Tensor]:
    """Tensors by the names of GPT-NeoX: rows of query, key and value are put together head by head."""
    shape = model.shape
    nothing = torch.zeros(shape.width)
    found = {
        "gpt_neox.embed_in.weight": model.embedding,
        "gpt_neox.final_layer_norm.weight": model.last_gain,
        "gpt_neox.final_layer_norm.bias": nothing,
        "embed_out.weight": model.head,
    }
    for layer in range(shape.layers):
        heads = model.query_key_value[layer].unflatten(1, (shape.heads, -1)).transpose(0, 1)
        parts = {
            "input_layernorm.weight": model.gain[layer, 0],
            "input_layernorm.bias": nothing,
            "post_attention_layernorm.weight": model.gain[layer, 1],
            "post_attention_layernorm.bias": nothing,
            "attention.query_key_value.weight": heads.flatten(0, 2),
            "attention.dense.weight": model.out[layer, 0],
            "mlp.dense_h_to_4h.weight": model.up[layer],
            "mlp.dense_h_to_4h.bias": model.up_bias[layer],
            "mlp.dense_4h_to_h.weight": model.down[layer],
            "mlp.dense_4h_to_h.bias": model.down_bias[layer],
        }
        found |= {f"gpt_neox.layers.{layer}.{name}": value for name, value in parts.items()}
    return {name: value.detach().cpu().float().contiguous().clone() for name, value in found.items()}
