"""Models as GGUF files: every tensor, the facts, tokens; what is refused; and that llama.cpp says what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'kolmo-codelength[gguf]'")
pytest.importorskip("tokenizers", reason="a tokenizer is made here with tokenizers: pip install 'kolmo-codelength[hf]'")

import kolmo
from helpers.tokenizers_made import all_ways, byte_level, llama, llama_metaspace, unigram
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError, MissingExtraError
from kolmo.native.dispatch import SLOW
from kolmo.safetensors import lay_out, write_header
from kolmo.targets import TargetExistsError
from kolmo.weights.export import tokens
from kolmo.weights.export.architectures import Rope, permuted
from kolmo.weights.export.facts import Facts
from kolmo.weights.export.llamacpp import export
from kolmo.weights.sources.dtypes import from_floats

WIDTH, HIDDEN, HEADS, KV_HEADS, SIZE, LAYERS = 64, 96, 4, 2, 16, 2
PADDING = 3  # rows of the embedding without a token
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
WAY: dict[str, Any] = {"hyperfunction": "torus"} if SLOW else {"goal": kolmo.Bits(4)}

Tensors = dict[str, "np.ndarray[Any, Any]"]


def weights_of(kind: str, rows: int, tied: bool) -> Tensors:
    """Random weights under the names of transformers."""
    random = np.random.default_rng(7)
    made: Tensors = {}

    def add(name: str, *shape: int) -> None:
        scale = 0.5 if len(shape) == 1 else shape[-1] ** -0.5
        made[name] = (random.normal(0, scale, shape) + name.endswith("norm.weight")).astype(np.float32)

    if kind == "gpt2":
        add("transformer.wte.weight", rows, WIDTH)
        add("transformer.wpe.weight", 128, WIDTH)
        for layer in range(LAYERS):
            at = f"transformer.h.{layer}"
            shapes = {"attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH)}
            shapes |= {"mlp.c_fc": (WIDTH, 4 * WIDTH), "mlp.c_proj": (4 * WIDTH, WIDTH)}
            for name, shape in shapes.items():
                add(f"{at}.{name}.weight", *shape)
                add(f"{at}.{name}.bias", shape[1])
            for name in ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"):
                add(f"{at}.{name}", WIDTH)
            made[f"{at}.attn.bias"] = np.tri(8, dtype=np.float32)  # a mask, which old files hold
        for name in ("ln_f.weight", "ln_f.bias"):
            add(f"transformer.{name}", WIDTH)
        return made
    add("model.embed_tokens.weight", rows, WIDTH)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes = {"q_proj": (HEADS * SIZE, WIDTH), "k_proj": (KV_HEADS * SIZE, WIDTH)}
        shapes |= {"v_proj": (KV_HEADS * SIZE, WIDTH), "o_proj": (WIDTH, HEADS * SIZE)}
        for name, shape in shapes.items():
            add(f"{at}.self_attn.{name}.weight", *shape)
            if kind == "qwen2" and name != "o_proj":
                add(f"{at}.self_attn.{name}.bias", shape[0])
        for name, shape in {"gate": (HIDDEN, WIDTH), "up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}.items():
            add(f"{at}.mlp.{name}_proj.weight", *shape)
        add(f"{at}.input_layernorm.weight", WIDTH)
        add(f"{at}.post_attention_layernorm.weight", WIDTH)
    add("model.norm.weight", WIDTH)
    if not tied:
        add("lm_head.weight", rows, WIDTH)
    return made


def model(folder: Path, kind: str, tokenizer: Any = None, *, dtype: str = "F32", **facts: Any) -> Path:
    """A folder as transformers write it."""
    folder.mkdir()
    tokenizer = tokenizer or byte_level()
    tied = facts.setdefault("tie_word_embeddings", kind != "qwen2")
    rows = tokenizer.get_vocab_size() + PADDING
    made = {name: from_floats(values.ravel(), dtype) for name, values in weights_of(kind, rows, tied).items()}
    shapes = {name: values.shape for name, values in weights_of(kind, rows, tied).items()}
    header = write_header({"format": "pt"}, lay_out((name, dtype, shapes[name]) for name in made))
    (folder / "model.safetensors").write_bytes(header + b"".join(made.values()))
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    end = next(one for one in (tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("</s>"), 0) if one)
    config: dict[str, Any] = {"model_type": kind, "vocab_size": rows, "eos_token_id": end, "bos_token_id": end}
    if kind == "gpt2":
        config |= {"n_embd": WIDTH, "n_head": HEADS, "n_layer": LAYERS, "n_positions": 128, "n_ctx": 128}
        config |= {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "architectures": ["GPT2LMHeadModel"]}
    else:
        config |= {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_attention_heads": HEADS, "head_dim": SIZE}
        config |= {"num_key_value_heads": KV_HEADS, "num_hidden_layers": LAYERS, "max_position_embeddings": 256}
        config |= {"rms_norm_eps": 1e-6, "rope_theta": 20000.0, "hidden_act": "silu"}
        config["architectures"] = [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}.get(kind, "Mistral")]
    (folder / "config.json").write_text(json.dumps(config | facts))
    return folder


def change(folder: Path, **facts: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return folder


def opened(path: Path) -> tuple[dict[str, Any], Tensors, dict[str, str]]:
    """Facts, tensors in binary32, and the types of a GGUF file."""
    from gguf import GGUFReader, quants

    reader = GGUFReader(path)
    found = {one.name: quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}
    shapes = {one.name: tuple(int(size) for size in one.shape[::-1]) for one in reader.tensors}
    assert all(values.shape == shapes[name] for name, values in found.items())
    facts = {name: field.contents() for name, field in reader.fields.items()}
    return facts, found, {one.name: one.tensor_type.name.lower() for one in reader.tensors}


def back(name: str, values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """The tensor as transformers have it: neighbouring rows apart again, matrices of GPT-2 transposed."""
    heads = HEADS if "attn_q." in name else KV_HEADS if "attn_k." in name else 0
    if kind == "gpt2" and name.startswith("blk.") and values.ndim == 2:
        return values.T
    if kind == "qwen2" or not heads:
        return values
    return np.concatenate([one[half::2] for one in np.split(values, heads) for half in (0, 1)])


def name_of(source: str) -> str:
    """The names of llama.cpp, independent of the package gguf."""
    for there, here in {
        "model.layers": "blk",
        "transformer.h": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "transformer.wte": "token_embd",
        "transformer.wpe": "position_embd",
        "transformer.ln_f": "output_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
        "ln_1": "attn_norm",
        "ln_2": "ffn_norm",
    }.items():
        source = source.replace(there, here)
    return source


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gpt2"])
def test_every_tensor(kind: str, tmp_path: Path) -> None:
    folder, target = model(tmp_path / "m", kind), tmp_path / "m.gguf"
    done = export(folder, target, kind="f32")
    assert done.size == target.stat().st_size
    assert done.notes == ()
    _, found, types = opened(target)
    source = {name: values for name, values in kolmo_free(folder).items() if not name.endswith(".attn.bias")}
    assert {name_of(name) for name in source} == set(found)
    assert set(types.values()) == {"f32"}
    for name, values in source.items():
        assert np.array_equal(back(name_of(name), found[name_of(name)], kind), values), name


def kolmo_free(folder: Path) -> Tensors:
    """The tensors of a plain folder of binary32, as they were made."""
    config = json.loads((folder / "config.json").read_text())
    return weights_of(config["model_type"], config["vocab_size"], config["tie_word_embeddings"])


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_types(kind: str, tmp_path: Path) -> None:
    folder, target = model(tmp_path / "m", "gpt2", dtype="BF16"), tmp_path / "m.gguf"
    export(folder, target, kind=kind)
    _, found, types = opened(target)
    for name, type_ in types.items():
        assert type_ == ("f32" if found[name].ndim == 1 or name == "position_embd.weight" else kind), name
    error = {"f16": 2**-25, "bf16": 0, "q8_0": 0.02}[kind]  # binary16 rounds what is below 2^-14
    for name, values in kolmo_free(folder).items():
        if not name.endswith(".attn.bias"):
            rounded = (values.view(np.uint32) + 0x7FFF + ((values.view(np.uint32) >> 16) & 1)) & 0xFFFF0000
            assert np.abs(back(name_of(name), found[name_of(name)], "gpt2") - rounded.view(np.float32)).max() <= error


def test_rows_that_are_no_whole_blocks(tmp_path: Path) -> None:
    from kolmo.weights.export import llamacpp
    from kolmo.weights.export.architectures import Move

    assert llamacpp._type_of(Move("a", "b", (4, 48)), "q8_0") == "f16"
    assert llamacpp._type_of(Move("a", "b", (4, 64)), "q8_0") == "q8_0"


@pytest.mark.parametrize("way", [WAY, {"goal": kolmo.Lossless()}], ids=["lossy", "lossless"])
def test_a_shrunk_folder(way: dict[str, Any], tmp_path: Path) -> None:
    if SLOW and "goal" in way:
        pytest.skip("slow without the C kernels")
    folder, target = model(tmp_path / "m", "llama", tie_word_embeddings=False), tmp_path / "m.gguf"
    kolmo.shrink(folder, tmp_path / "small", **way)
    run = CliRunner().invoke(
        group, ["expand", str(tmp_path / "small"), "-o", str(target), "--to", "gguf", "--type", "f32", "--json"]
    )
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["raw_size"] == target.stat().st_size
    _, found, _ = opened(target)
    loaded = kolmo.load(tmp_path / "small")
    assert len(loaded) == len(found)
    for name, values in loaded.items():
        assert np.array_equal(back(name_of(name), found[name_of(name)], "llama"), values), name
    if way.get("goal") == kolmo.Lossless():
        export(tmp_path / "small", target, kind="f32", base=True, force=True)
        name = "model.layers.1.mlp.up_proj.weight"
        base = kolmo.load(tmp_path / "small", [name], base=True)[name]
        assert np.array_equal(opened(target)[1][name_of(name)], base)
        assert not np.array_equal(base, loaded[name])


def test_an_output_equal_to_the_embedding(tmp_path: Path) -> None:
    """It is stored once in the shrunk file, and llama.cpp takes the embedding where there is no output."""
    folder = model(tmp_path / "m", "llama", tie_word_embeddings=False)
    weights = kolmo_free(folder) | {"lm_head.weight": kolmo_free(folder)["model.embed_tokens.weight"]}
    header = write_header({}, lay_out((name, "F32", values.shape) for name, values in weights.items()))
    (folder / "model.safetensors").write_bytes(header + b"".join(values.tobytes() for values in weights.values()))
    kolmo.shrink(folder, tmp_path / "small", **WAY)
    export(tmp_path / "small", tmp_path / "m.gguf")
    assert "output.weight" not in opened(tmp_path / "m.gguf")[1]


def test_facts(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    export(model(tmp_path / "m", "llama"), target)
    facts, _, _ = opened(target)
    end = byte_level().token_to_id("<|endoftext|>")
    rows = byte_level().get_vocab_size() + PADDING
    expected = {
        "general.architecture": "llama",
        "general.name": "m",
        "general.file_type": 1,
        "llama.block_count": LAYERS,
        "llama.context_length": 256,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.key_length": SIZE,
        "llama.rope.freq_base": 20000.0,
        "llama.rope.dimension_count": SIZE,
        "llama.vocab_size": rows,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {name: facts[name] for name in expected} == expected
    assert facts["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert len(facts["tokenizer.ggml.tokens"]) == rows
    assert facts["tokenizer.ggml.token_type"][end] == tokens.CONTROL
    assert facts["tokenizer.ggml.token_type"][-PADDING:] == [tokens.UNUSED] * PADDING


def test_names_of_pre_tokenizers(tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import pre_tokenizers as pre

    def split(pattern: str) -> Any:
        whole = pre.Split(tokenizers.Regex(pattern), "isolated")
        return pre.Sequence([whole, pre.ByteLevel(add_prefix_space=False, use_regex=False)])

    words = pre.ByteLevel(add_prefix_space=False)
    ways = {
        "gpt-2": words,
        "smollm": pre.Sequence([pre.Digits(individual_digits=True), words]),
        "qwen2": split(tokens.QWEN2),
        "smaug-bpe": split(tokens.LLAMA3),
        "default": split("x+"),
    }
    folder = model(tmp_path / "m", "llama")
    for name, way in ways.items():
        made = tokenizers.Tokenizer.from_str(byte_level().to_str())
        made.pre_tokenizer = way
        (folder / "tokenizer.json").write_text(made.to_str(), "utf-8")
        notes = export(folder, tmp_path / f"{name}.gguf").notes
        assert opened(tmp_path / f"{name}.gguf")[0]["tokenizer.ggml.pre"] == name
        assert bool(notes) == (name == "default")


def test_the_frequencies_of_llama_3() -> None:
    facts = LLAMA3 | {"original_max_position_embeddings": 8192}
    found = Rope(500000.0, 128, 128, "llama3", Facts(Path("config.json"), facts)).divisors()
    waves = 2 * np.pi * 500000.0 ** (np.arange(64) / 64)
    assert np.array_equal(found[waves < 8192 / 4], np.ones((waves < 8192 / 4).sum()))
    assert np.array_equal(found[waves > 8192], np.full((waves > 8192).sum(), 8))
    assert (np.diff(found) >= 0).all()
    assert ((found > 1) & (found < 8)).any()


def test_rows_of_heads() -> None:
    assert permuted(np.arange(12).reshape(12, 1), 2)[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"model_type": "mamba"}, "llama, mistral, qwen2"),
        ({"model_type": ["llama"]}, "cannot become GGUF"),
        ({"num_hidden_layers": 10**9}, "has 2 layers"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is"),
        ({"num_attention_heads": "4"}, "num_attention_heads is"),
        ({"num_attention_heads": 8}, "64 rows for 8 heads of 16"),
        ({"hidden_size": None}, "has no hidden_size"),
        ({"hidden_act": "gelu"}, "hidden_act is"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps is"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps is"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope scaling 'yarn'"),
        ({"rope_parameters": [1]}, "rope_parameters is"),
        ({"vocab_size": 10**9}, "vocab_size is not"),
        ({"eos_token_id": None}, "has no eos_token_id"),
        ({"tie_word_embeddings": False}, "output.weight"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised by 'gptq'"),
    ],
)
def test_refused_configurations(facts: dict[str, Any], what: str, tmp_path: Path) -> None:
    folder = change(model(tmp_path / "m", "llama"), **facts)
    with pytest.raises(KolmoError) as error:
        export(folder, tmp_path / "m.gguf")
    assert what in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize(
    "damage", ["no file", "not JSON", "unigram", "beyond", "twice", "merge", "merges", "added", "half", "steps"]
)
def test_refused_tokenizers(damage: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "llama")
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text("utf-8"))
    vocabulary = facts["model"]["vocab"]
    first = next(iter(vocabulary))
    if damage == "beyond":
        vocabulary[first] = 1 << 40
    elif damage == "twice":
        vocabulary[first] = vocabulary[list(vocabulary)[1]]
    elif damage == "merge":
        facts["model"]["merges"] = ["a"]
    elif damage == "merges":
        facts["model"]["merges"] = 5
    elif damage == "half":
        facts["added_tokens"] = [{"id": vocabulary.pop(first), "content": "\ud800"}]
    elif damage == "steps":
        facts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": 5}
    elif damage == "added":
        facts["added_tokens"] = [{"id": 1}]
    texts = {"not JSON": "[" * 100000, "unigram": unigram().to_str()}
    path.write_text(texts.get(damage, json.dumps(facts)), "utf-8")
    if damage == "no file":
        path.unlink()
    with pytest.raises((FormatError, CorruptError)) as error:
        export(folder, tmp_path / "m.gguf")
    assert str(folder) in str(error.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m"]


def test_other_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, target = model(tmp_path / "m", "llama"), tmp_path / "m.gguf"
    with pytest.raises(FormatError, match="is not a folder"):
        export(folder / "model.safetensors", target)
    with pytest.raises(KolmoError, match="no bases"):
        export(folder, target, base=True)
    with pytest.raises(ValueError, match="choose one of"):
        export(folder, target, kind="q4_0")
    with pytest.raises(KolmoError, match="not a regular file"):
        export(folder, "/dev/null", force=True)
    with pytest.raises(KolmoError, match="is a file of the model"):
        export(folder, folder / "config.json", force=True)
    target.write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        export(folder, target)
    run = CliRunner().invoke(group, ["expand", str(folder), "-o", str(tmp_path / "x"), "--type", "f16"])
    assert run.exit_code == 2
    assert "--to gguf" in run.output
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"\[gguf\]"):
        export(folder, tmp_path / "other.gguf")
    assert target.read_bytes() == b"mine"


def test_weights_beyond_binary16(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "llama")
    weights = kolmo_free(folder)
    weights["model.layers.0.mlp.up_proj.weight"][3, 4] = -1e6
    header = write_header({}, lay_out((name, "F32", values.shape) for name, values in weights.items()))
    (folder / "model.safetensors").write_bytes(header + b"".join(values.tobytes() for values in weights.values()))
    with pytest.raises(KolmoError, match=r"up_proj\.weight' has weights beyond the range of f16; choose kind='bf16'"):
        export(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()
    export(folder, tmp_path / "m.gguf", kind="bf16")


def test_characters_with_bytes_to_fall_back_to(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "llama", all_ways(llama()))
    export(folder, tmp_path / "m.gguf")
    facts, _, _ = opened(tmp_path / "m.gguf")
    assert facts["tokenizer.ggml.model"] == "llama"
    assert facts["tokenizer.ggml.add_space_prefix"] is True
    kinds = facts["tokenizer.ggml.token_type"]
    assert kinds[:4] == [tokens.UNKNOWN, tokens.CONTROL, tokens.CONTROL, tokens.BYTE]
    scores = dict(zip(facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.scores"], strict=True))
    first = "".join(json.loads(llama().to_str())["model"]["merges"][0])
    assert scores[first] == -1.0 == max(score for score in scores.values() if score)
    (folder / "tokenizer.json").write_text(llama().to_str(), "utf-8")
    with pytest.raises(FormatError, match="not those of a SentencePiece vocabulary"):
        export(folder, tmp_path / "other.gguf")


TEXTS = ("the boy said, the fish", "In 2019 and  12345\n\n boats é ☃")


@pytest.mark.parametrize(
    ("kind", "tokenizer", "facts"),
    [
        ("llama", byte_level, {}),
        ("llama", lambda: all_ways(llama()), {"rope_parameters": LLAMA3}),
        (
            "mistral",
            lambda: all_ways(llama_metaspace()),
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "head_dim": None},
        ),
        ("qwen2", byte_level, {"use_sliding_window": False}),
        ("gpt2", byte_level, {}),
    ],
    ids=["llama", "llama 3, SentencePiece", "mistral, SentencePiece", "qwen2", "gpt2"],
)
def test_llama_cpp_says_what_transformers_say(kind: str, tokenizer: Any, facts: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; pip install 'kolmo-codelength[gguf]'")
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'kolmo-codelength[hf]'")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    from kolmo.predictors.language_models.gguf_models.backend import load

    folder, target = model(tmp_path / "m", kind, tokenizer(), **facts), tmp_path / "m.gguf"
    assert export(folder, target, kind="f32").notes == ()
    there = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    here = load(target)
    for text in TEXTS:
        ids = tokenizer().encode(text, add_special_tokens=False).ids
        assert here.encode(text, False)[0].tolist() == ids
    ids = np.resize(ids, (1, 100))
    with torch.no_grad():
        expected = there(torch.from_numpy(ids)).logits[0].numpy()
    found = np.asarray(here.lanes(1, 1).feed(ids, 100))[0]
    assert np.abs(found[:, : expected.shape[1]] - expected).max() < 1e-3 * np.abs(expected).max()
