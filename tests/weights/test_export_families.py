"""Each architecture as GGUF: llama.cpp computes the logits that transformers compute, from random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'kolmo-codelength[gguf]'")
pytest.importorskip("tokenizers", reason="a tokenizer is made here with tokenizers: pip install 'kolmo-codelength[hf]'")

from helpers.tokenizers_made import TEXT, all_ways, byte_level, llama
from kolmo.errors import KolmoError
from kolmo.weights.export.facts import Facts
from kolmo.weights.export.families import FAMILIES, model_of
from kolmo.weights.export.llamacpp import export

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "max_position_embeddings": 256}
GROUPED = {"num_key_value_heads": 2}
HEADS = {"head_dim": 16, **GROUPED}
GEMMA = {**HEADS, "query_pre_attn_scalar": 16}
SMALL: dict[str, dict[str, Any]] = {  # facts of a small model of each family
    "llama": HEADS,
    "mistral": {**HEADS, "sliding_window": None},
    "qwen2": GROUPED,
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": {**GEMMA, "sliding_window": 16, "num_hidden_layers": 4},
    "gemma3_text": {**GEMMA, "sliding_window": 16, "num_hidden_layers": 7},
    "phi": GROUPED,
    "phi3": {**GROUPED, "sliding_window": None, "original_max_position_embeddings": 256},
    "stablelm": {**GROUPED, "use_qkv_bias": True},
    "olmo2": GROUPED,
    "granite": {
        **GROUPED,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "logits_scaling": 2.0,
    },
    "smollm3": {**GROUPED, "num_hidden_layers": 5},
    "starcoder2": {**GROUPED, "sliding_window": None, "hidden_act": "gelu_pytorch_tanh"},
}


@cache
def gemma() -> Any:
    """The tokenizer of Gemma's kind: no space is put before a text, and a step splits at spaces that are gone."""
    import tokenizers

    facts = json.loads(all_ways(llama()).to_str())
    facts["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    facts["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    return tokenizers.Tokenizer.from_str(json.dumps(facts))


def tokenizer_of(kind: str) -> Callable[[], Any]:
    return gemma if kind.startswith("gemma") else byte_level


def test_every_family_is_tried() -> None:
    assert set(SMALL) == set(FAMILIES)


@pytest.mark.parametrize("kind", SMALL)
def test_llama_cpp_says_what_transformers_say(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; pip install 'kolmo-codelength[gguf]'")
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'kolmo-codelength[hf]'")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    from kolmo.predictors.language_models.gguf_models.backend import load

    folder, target, tokenizer = tmp_path / "m", tmp_path / "m.gguf", tokenizer_of(kind)()
    end = tokenizer.token_to_id("</s>") or tokenizer.token_to_id("<|endoftext|>")
    facts = {"num_hidden_layers": 2, **SIZES, **SMALL[kind], "vocab_size": tokenizer.get_vocab_size()}
    facts |= {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None}
    torch.manual_seed(1)
    there = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **facts)).eval()
    with torch.no_grad():
        for weight in there.parameters():
            centre = weight.mean() if weight.ndim == 1 else 0.0  # of the weights of norms 1, or 0
            weight.copy_(
                centre + torch.randn_like(weight) * (0.3 if weight.ndim == 1 else 1.5 * weight.shape[-1] ** -0.5)
            )
    there.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    assert export(folder, target, kind="f32").notes == ()
    here = load(target)
    for text in (TEXT[:200], "the  boy\nsaid"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert here.encode(text, False)[0].tolist() == ids
    ids = np.random.default_rng(1).integers(3, tokenizer.get_vocab_size(), (1, 60))
    with torch.no_grad():
        expected = there(torch.from_numpy(ids)).logits[0].numpy()
    found = np.asarray(here.lanes(1, 1).feed(ids, 60))[0]
    assert np.abs(found[:, : expected.shape[1]] - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("kind", "facts", "what"),
    [
        ("qwen3", {"attention_bias": True}, "attention_bias is True"),
        ("gemma", {"hidden_activation": "gelu"}, "hidden_activation is"),
        ("gemma", {"tie_word_embeddings": False}, "tie_word_embeddings is"),
        ("gemma2", {"query_pre_attn_scalar": 224}, "query_pre_attn_scalar is not 16"),
        ("gemma2", {"final_logit_softcapping": None}, "has no final_logit_softcapping"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "layer_types are not"),
        ("gemma3_text", {"rope_local_base_freq": 5000.0}, "is 5000.0"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "has final_logit_softcapping"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention is"),
        ("phi3", {"rope_scaling": {"type": "longrope"}}, "rope scaling 'longrope'"),
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm is"),
        ("stablelm", {"use_parallel_residual": 1}, "use_parallel_residual is 1"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers is not"),
        ("granite", {"mlp_bias": True}, "mlp_bias is True"),
        ("llama", {"partial_rotary_factor": 0.1}, "cannot rotate 1 of them"),
    ],
)
def test_what_llama_cpp_would_not_heed(kind: str, facts: dict[str, Any], what: str) -> None:
    known = {"num_hidden_layers": 2, "rms_norm_eps": 1e-6, **SIZES, **SMALL[kind], "model_type": kind}
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0} if kind == "gemma2" else {}
    good = {**known, **caps, "num_hidden_layers": 2}
    assert model_of(Facts(Path("config.json"), good)).layers == 2
    with pytest.raises(KolmoError, match=what):
        model_of(Facts(Path("config.json"), good | facts))


def test_windows_that_are_ignored() -> None:
    known = {
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-6,
        **SIZES,
        **GROUPED,
        "model_type": "phi3",
        "sliding_window": 64,
    }
    assert "over 64 tokens" in model_of(Facts(Path("config.json"), known)).notes[0]
