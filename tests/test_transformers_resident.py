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
