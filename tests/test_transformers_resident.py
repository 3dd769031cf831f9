"""Folders of transformers whose weights stay codes: opened, generated from, saved again, made plain."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import kolmo
from kolmo.errors import KolmoError
from kolmo.native.dispatch import SLOW
from kolmo.weights.format.reader import ShrunkFile

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers", minversion="5.0")
plugin: Any = pytest.importorskip("kolmo.transformers")

from kolmo.weights.running.modules import Resident, ResidentEmbedding, ResidentLinear, ResidentTransposed  # noqa: E402

pytestmark = pytest.mark.skipif(SLOW, reason="models of so many weights take minutes without the C kernels")
Auto = transformers.AutoModelForCausalLM
SMALL = "model.kolmo.safetensors"
IDS = torch.arange(24)[None] * 7 % 97


def of_config(folder: Path, config: Any) -> Path:
    """A model with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        Auto.from_config(config).save_pretrained(folder)
    return folder


def llama(**given: Any) -> Any:
    common = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 160}
    return transformers.LlamaConfig(**common, num_attention_heads=4, num_key_value_heads=2, **given)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaMA with a tied head, shrunk so that it stays small."""
    root = tmp_path_factory.mktemp("llama")
    kolmo.shrink(of_config(root / "model", llama(tie_word_embeddings=True)), root / "small", hyperfunction="bitshift")
    kolmo.expand(root / "small", root / "again")
    return root / "small"


def logits(model: Any) -> Any:
    return model(IDS).logits


def test_the_codes_stay_in_memory(small: Path) -> None:
    model = Auto.from_pretrained(small)
    kept = {name: one for name, one in model.named_modules() if isinstance(one, Resident)}
    assert isinstance(model.lm_head, ResidentLinear)
    assert isinstance(model.get_input_embeddings(), ResidentEmbedding)
    assert model.lm_head.code is model.get_input_embeddings().code
    assert len(kept) == 2 + 2 * 7
    file = ShrunkFile(small)
    stored = sum(file.record.coded[name].stored for name in file.record.coded)
    plain = sum(one.numel() * one.element_size() for one in model.parameters())
    codes = {id(one.code): one.code.numel() for one in kept.values()}
    assert sum(codes.values()) == stored
    assert plain == 4 * 64 * 5  # norms
    assert model.get_memory_footprint() <= 1.1 * (stored + plain)
    with pytest.warns(UserWarning, match="quantization_config"):
        close = Auto.from_pretrained(small, quantization_config=plugin.KolmoConfig(activations="float"))
    whole = Auto.from_pretrained(small.parent / "again")
    with torch.no_grad():
        assert torch.allclose(logits(close), logits(whole), atol=1e-4)
        error = (logits(model) - logits(whole)).detach()
    assert float(error.norm()) < 0.03 * float(logits(whole).detach().norm())


def test_the_decoded_model_is_a_choice(small: Path) -> None:
    with pytest.warns(UserWarning, match="quantization_config"):
        plain = Auto.from_pretrained(small, quantization_config=plugin.KolmoConfig(resident=False))
    assert not any(isinstance(one, Resident) for one in plain.modules())
    whole = Auto.from_pretrained(small.parent / "again")
    assert torch.equal(logits(plain), logits(whole))


def test_generation_does_not_depend_on_threads_or_batches(small: Path) -> None:
    model = Auto.from_pretrained(small, dtype="bfloat16")
    prompts = torch.cat([IDS, IDS * 3 % 97])
    had = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(model.model.layers[0].mlp(model.get_input_embeddings()(prompts)))
            assert torch.equal(found[-1][:1], model.model.layers[0].mlp(model.get_input_embeddings()(prompts[:1])))
    finally:
        torch.set_num_threads(had)
    assert torch.equal(*found)
    assert found[0].dtype == torch.bfloat16
    with torch.inference_mode():
        assert model.generate(IDS, max_new_tokens=4, do_sample=False, pad_token_id=0).shape == (1, 28)


def test_what_is_saved_again_is_the_file(small: Path, tmp_path: Path) -> None:
    model = Auto.from_pretrained(small)
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        one.save_pretrained(tmp_path / "again")
        assert torch.equal(logits(Auto.from_pretrained(tmp_path / "again")), logits(model))
        first, second = ShrunkFile(small), ShrunkFile(tmp_path / "again")
        assert [first.read(name) for name in first.names] == [second.read(name) for name in first.names]
    model.lm_head.code[100] ^= 1
    with pytest.raises(KolmoError, match="has changed"):
        model.save_pretrained(tmp_path / "changed")
    assert not (tmp_path / "changed" / SMALL).exists()


def test_a_plain_model_again(small: Path, tmp_path: Path) -> None:
    plain = Auto.from_pretrained(small).dequantize()
    assert not any(isinstance(one, Resident) for one in plain.modules())
    assert plain.lm_head.weight is plain.get_input_embeddings().weight
    whole = Auto.from_pretrained(small.parent / "again")
    assert torch.allclose(logits(plain), logits(whole), atol=1e-5)
    plain.save_pretrained(tmp_path / "plain")
    assert torch.equal(logits(Auto.from_pretrained(tmp_path / "plain")), logits(plain))


def test_gradients_are_refused(small: Path) -> None:
    model = Auto.from_pretrained(small)
    assert not any(one.requires_grad for one in model.parameters())
    inputs = torch.zeros(1, 3, 64, requires_grad=True)
    with pytest.raises(KolmoError, match="only for inference"):
        model(inputs_embeds=inputs)


def test_streamed_as_the_expanded_one(small: Path) -> None:
    whole = Auto.from_pretrained(small.parent / "again")
    with torch.no_grad():
        assert torch.equal(logits(plugin.stream(small)), logits(whole))


def test_models_with_transposed_matrices(tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=160, n_positions=64)
    kolmo.shrink(of_config(tmp_path / "model", config), tmp_path / "small", hyperfunction="bitshift")
    kolmo.expand(tmp_path / "small", tmp_path / "again")
    model = Auto.from_pretrained(tmp_path / "small")
    assert sum(isinstance(one, ResidentTransposed) for one in model.modules()) == 4
    whole = Auto.from_pretrained(tmp_path / "again")
    error = (logits(model) - logits(whole)).detach()
    assert float(error.norm()) < 0.03 * float(logits(whole).detach().norm())


def test_shrunk_while_opened(small: Path, tmp_path: Path) -> None:
    given = plugin.KolmoConfig(method="bitshift", bits=4)
    model = Auto.from_pretrained(small.parent / "model", quantization_config=given)
    assert isinstance(model.lm_head, ResidentLinear)
    model.save_pretrained(tmp_path / "small")
    assert (
        json.loads((tmp_path / "small" / "config.json").read_text())["quantization_config"]["quant_method"] == "kolmo"
    )
    assert torch.equal(logits(Auto.from_pretrained(tmp_path / "small")), logits(model))
    assert torch.equal(logits(Auto.from_pretrained(small)), logits(model))
    with pytest.raises(ValueError, match="step"):
        plugin.KolmoConfig(method="bitshift", step=0.1)
    with pytest.raises(ValueError, match="choose from"):
        plugin.KolmoConfig(method="shift")


CORE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 160,
}
SPEECH = {"conv_dim": (64, 64), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
LISTENER = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
HEARD = {"num_mel_bins": 16, "max_source_positions": 50, "vocab_size": 160, "decoder_start_token_id": 1}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def families() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Classes of models, configurations and inputs."""
    images = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)}
    sounds = {"input_features": torch.linspace(-1, 1, 1600).view(1, 16, 100), "decoder_input_ids": IDS}
    sizes = {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}
    return {
        "bias of the head": (transformers.BertForMaskedLM, transformers.BertConfig(**CORE), {"input_ids": IDS}),
        "parametrised convolution": (
            transformers.Wav2Vec2ForCTC,
            transformers.Wav2Vec2Config(**{**CORE, **SPEECH, **POSITIONS}),
            {"input_values": torch.linspace(-1, 1, 800).view(2, 400)},
        ),
        "strides that the model reads": (
            transformers.WhisperForConditionalGeneration,
            transformers.WhisperConfig(**LISTENER, **HEARD, **TOKENS, **HEADS),
            sounds,
        ),
        "no embedding": (transformers.ResNetForImageClassification, transformers.ResNetConfig(**sizes), images),
    }


@pytest.mark.parametrize("family", list(families()))
def test_families(tmp_path: Path, family: str) -> None:
    """Weights as codes, and streamed: of models that look at weights while they are opened, or at modules later."""
    kind, config, given = families()[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = kind(config)
        for name, one in made.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(one, std=0.1)
        made.save_pretrained(tmp_path / "model")
    for method in ("trellis", "bitshift"):
        kolmo.shrink(tmp_path / "model", tmp_path / method, hyperfunction=method)
        kolmo.expand(tmp_path / method, tmp_path / "again", force=True)
        whole = kind.from_pretrained(tmp_path / "again")
        model, streamed = kind.from_pretrained(tmp_path / method), plugin.stream(tmp_path / method, kind)
        with torch.no_grad():
            wanted, found = whole(**given).logits, model(**given).logits
            assert torch.equal(streamed(**given).logits, wanted)
        assert float((found - wanted).norm()) <= (method == "bitshift") * 0.1 * float(wanted.norm())
        for name, one in whole.named_parameters():
            if name.endswith("bias"):
                assert torch.equal(one, model.get_parameter(name))
        model.save_pretrained(tmp_path / "saved")
        with torch.no_grad():
            assert torch.equal(kind.from_pretrained(tmp_path / "saved")(**given).logits, found)


def test_a_new_head_has_its_bias(tmp_path: Path) -> None:
    """Of a base model, which has none in its file."""
    transformers.BertModel(transformers.BertConfig(**CORE)).save_pretrained(tmp_path / "model")
    kolmo.shrink(tmp_path / "model", tmp_path / "small", hyperfunction="bitshift")
    model = transformers.BertForMaskedLM.from_pretrained(tmp_path / "small")
    assert torch.equal(model.cls.predictions.bias, torch.zeros(160))
    with torch.no_grad():
        assert logits(model).shape == (1, 24, 160)


@pytest.mark.parametrize("tied", [False, True])
def test_layers_on_the_disk(tmp_path: Path, tied: bool) -> None:
    """They are decoded, since accelerate stores what was read; the others stay codes."""
    pytest.importorskip("accelerate")
    kolmo.shrink(
        of_config(tmp_path / "model", llama(tie_word_embeddings=tied)), tmp_path / "s", hyperfunction="bitshift"
    )
    modules = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
    given = {
        "device_map": {**dict.fromkeys(modules, "cpu"), "model.layers.1": "disk"},
        "offload_folder": tmp_path / "o",
    }
    model = Auto.from_pretrained(tmp_path / "s", **given)
    kept = {name for name, one in model.named_modules() if isinstance(one, Resident)}
    assert "model.layers.0.mlp.up_proj" in kept
    assert not any(name.startswith("model.layers.1") for name in kept)
    whole = Auto.from_pretrained(tmp_path / "s").dequantize()
    with torch.no_grad():
        error, wanted = logits(model) - logits(whole), logits(whole)
    assert float(error.norm()) < 0.03 * float(wanted.norm())
    with pytest.raises(KolmoError, match="to one device, not to several"):
        plugin.stream(tmp_path / "s", **given)


def test_a_given_state_dict_is_compared(small: Path, tmp_path: Path) -> None:
    model = Auto.from_pretrained(small)
    state = model.state_dict()
    model.save_pretrained(tmp_path / "same", state_dict=state)
    assert torch.equal(logits(Auto.from_pretrained(tmp_path / "same")), logits(model))
    norm, code = "model.norm.weight", "model.layers.1.mlp.up_proj.code"
    for name in (norm, code):
        with pytest.raises(KolmoError, match=f"{name.removesuffix('.code')}.* has changed"):
            model.save_pretrained(tmp_path / "changed", state_dict={**state, name: state[name] + 1})
        rest = {other: value for other, value in state.items() if other != name}
        with pytest.raises(KolmoError, match=f"given state_dict has no {name}"):
            model.save_pretrained(tmp_path / "changed", state_dict=rest)
    with pytest.raises(KolmoError, match="has no extra"):
        model.save_pretrained(tmp_path / "changed", state_dict={**state, "extra": state[norm]})
    with pytest.raises(KolmoError, match="leave out state_dict"):
        plugin.stream(small).save_pretrained(tmp_path / "changed", state_dict=state)
    assert not (tmp_path / "changed" / SMALL).exists()
    model.save_pretrained(tmp_path / "later")  # the given one is forgotten


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("method", ["trellis", "bitshift"])
def test_number_of_weights(small: Path, tmp_path: Path, method: str, streamed: bool) -> None:
    """What evaluation reports: codes and packed embeddings count as the weights that they decode to, tied ones once."""
    from kolmo.evaluation.opening import _number_of_weights

    kolmo.shrink(small.parent / "model", tmp_path / "small", hyperfunction=method)
    opened = plugin.stream(tmp_path / "small") if streamed else Auto.from_pretrained(tmp_path / "small")
    assert _number_of_weights(opened) == Auto.from_pretrained(small.parent / "model").num_parameters()
