"""Folders of transformers: shrunk, expanded, opened, streamed, saved; and what is refused."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kolmo
from kolmo.errors import CorruptError, FormatError, KolmoError
from kolmo.native.dispatch import SLOW
from kolmo.weights.format.reader import ShrunkFile

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers", minversion="5.0")
plugin: Any = pytest.importorskip("kolmo.transformers")

from harness.models import tiny  # noqa: E402 - needs what is missing above

pytestmark = pytest.mark.skipif(SLOW, reason="models of so many weights take minutes without the C kernels")
Auto = transformers.AutoModelForCausalLM
SMALL = "model.kolmo.safetensors"
IDS = torch.arange(24)[None] * 7 % 97


def of_config(folder: Path, config: Any, dtype: str = "float32") -> Path:
    """A model with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Auto.from_config(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return folder


def llama(**given: Any) -> Any:
    common = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 160}
    return transformers.LlamaConfig(**common, num_attention_heads=4, num_key_value_heads=2, **given)


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(IDS).logits


def same_weights(one: Any, other: Any) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A tiny LLaMA, shrunk, and expanded again."""
    root = tmp_path_factory.mktemp("llama")
    source = tiny(root / "model", "llama")
    kolmo.shrink(source, root / "small", kolmo.Step(0.05))
    kolmo.expand(root / "small", root / "again")
    return source, root / "small", root / "again"


@pytest.fixture(scope="module")
def small(folders: tuple[Path, Path, Path]) -> Path:
    return folders[1]


def test_a_folder_comes_whole(folders: tuple[Path, Path, Path]) -> None:
    source, small, again = folders
    assert sorted(os.listdir(source)) == sorted(os.listdir(again))
    assert {*os.listdir(source)} ^ {*os.listdir(small)} == {"model.safetensors", SMALL}
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, small))
    assert after.pop("quantization_config") == {"quant_method": "kolmo", "version": 1}
    assert before == after == json.loads((again / "config.json").read_text())
    assert (small / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "qwen2", "rwkv"])
def test_families(tmp_path: Path, family: str) -> None:
    kolmo.shrink(tiny(tmp_path / "model", family), tmp_path / "small", kolmo.Step(0.05))
    kolmo.expand(tmp_path / "small", tmp_path / "again")
    wanted, model = Auto.from_pretrained(tmp_path / "again"), Auto.from_pretrained(tmp_path / "small")
    same_weights(wanted, model)
    streamed = plugin.stream(tmp_path / "small")
    for _ in range(2):
        assert torch.equal(logits(wanted), logits(streamed))
    for one, name in ((model, "saved"), (streamed, "saved_too")):
        one.save_pretrained(tmp_path / name)
        same_weights(wanted, Auto.from_pretrained(tmp_path / name))
        first, second = ShrunkFile(tmp_path / "small"), ShrunkFile(tmp_path / name)
        assert first.record == second.record
        assert all(first.stored_size(one) == second.stored_size(one) for one in first.names)


def test_merged_experts(tmp_path: Path) -> None:
    """Tensors that transformers merge when they read them, coded or plain; the error of streaming names the remedy."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    common = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 160}
    of_config(tmp_path / "model", transformers.MixtralConfig(**common, **experts))
    kolmo.shrink(tmp_path / "model", tmp_path / "small", kolmo.Step(0.01))
    kolmo.expand(tmp_path / "small", tmp_path / "again")
    model = Auto.from_pretrained(tmp_path / "small")
    same_weights(Auto.from_pretrained(tmp_path / "again"), model)
    model.save_pretrained(tmp_path / "saved")
    same_weights(model, Auto.from_pretrained(tmp_path / "saved"))
    with pytest.raises(KolmoError, match="save_original_format=False"):
        plugin.stream(tmp_path / "small")
    Auto.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "merged", save_original_format=False)
    kolmo.shrink(tmp_path / "merged", tmp_path / "small_merged", kolmo.Step(0.01))
    whole = Auto.from_pretrained(tmp_path / "small_merged")
    assert torch.equal(logits(whole), logits(plugin.stream(tmp_path / "small_merged")))


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_dtypes_and_ties(tmp_path: Path, stored: str) -> None:
    of_config(tmp_path / "model", llama(tie_word_embeddings=True), stored)
    kolmo.shrink(tmp_path / "model", tmp_path / "small", kolmo.Step(0.01))
    kolmo.expand(tmp_path / "small", tmp_path / "again")
    for asked in ("auto", torch.float32, torch.bfloat16, torch.float16):
        model = Auto.from_pretrained(tmp_path / "small", dtype=asked)
        same_weights(Auto.from_pretrained(tmp_path / "again", dtype=asked), model)
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.dtype == (getattr(torch, stored) if asked == "auto" else asked)
        model.save_pretrained(tmp_path / f"saved-{asked}")
    streamed = plugin.stream(tmp_path / "small", dtype=torch.float32)
    assert torch.equal(logits(Auto.from_pretrained(tmp_path / "small", dtype=torch.float32)), logits(streamed))
    assert streamed.lm_head.weight is streamed.model.embed_tokens.weight


@pytest.mark.parametrize("tied", [False, True])
def test_equal_tensors_that_are_both_in_the_file(tmp_path: Path, tied: bool) -> None:
    model = Auto.from_pretrained(of_config(tmp_path / "model", llama(tie_word_embeddings=False)))
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
    model.config.tie_word_embeddings = tied
    model.save_pretrained(tmp_path / "model")
    kolmo.shrink(tmp_path / "model", tmp_path / "small", kolmo.Step(0.01))
    assert ShrunkFile(tmp_path / "small").record.aliases
    opened, streamed = Auto.from_pretrained(tmp_path / "small"), plugin.stream(tmp_path / "small")
    assert torch.equal(opened.lm_head.weight, opened.model.embed_tokens.weight)
    assert (opened.lm_head.weight is opened.model.embed_tokens.weight) == tied
    assert torch.equal(logits(opened), logits(streamed))
    copy.deepcopy(opened).save_pretrained(tmp_path / "saved")
    same_weights(opened, Auto.from_pretrained(tmp_path / "saved"))


def test_shards_are_read_and_one_file_is_written(tmp_path: Path) -> None:
    of_config(tmp_path / "whole", llama())
    Auto.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    for name in ("whole", "shards"):
        kolmo.shrink(tmp_path / name, tmp_path / f"small-{name}", kolmo.Step(0.01))
    assert sorted(os.listdir(tmp_path / "small-shards")) == [
        "config.json",
        "generation_config.json",
        SMALL,
    ]
    model = Auto.from_pretrained(tmp_path / "small-whole")
    same_weights(model, Auto.from_pretrained(tmp_path / "small-shards"))
    model.save_pretrained(tmp_path / "saved", max_shard_size="10KB")
    assert not list((tmp_path / "saved").glob("*.index.json"))
    for _ in range(2):  # over what it was read from
        model.save_pretrained(tmp_path / "small-whole")
    with pytest.raises(KolmoError, match="streamed from"):
        plugin.stream(tmp_path / "small-whole").save_pretrained(tmp_path / "small-whole")
    same_weights(model, Auto.from_pretrained(tmp_path / "small-whole"))


def test_device_maps(tmp_path: Path, small: Path) -> None:
    pytest.importorskip("accelerate")
    wanted = Auto.from_pretrained(small)
    same_weights(wanted, Auto.from_pretrained(small, device_map="cpu"))
    rest = ("model.embed_tokens", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")
    layers = {"model.layers.0": "disk", **dict.fromkeys(rest, "cpu")}
    spilled = Auto.from_pretrained(small, device_map=layers, offload_folder=tmp_path / "spilled")
    assert torch.equal(logits(wanted), logits(spilled))


def test_changed_weights_are_not_saved_as_codes(tmp_path: Path, small: Path) -> None:
    model = Auto.from_pretrained(small)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    with pytest.raises(KolmoError, match=r"layers\.1\.mlp\.up_proj\.weight has changed .*dequantize"):
        model.save_pretrained(tmp_path / "saved")
    plain = model.dequantize()
    plain.save_pretrained(tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    same_weights(plain, Auto.from_pretrained(tmp_path / "plain"))
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(small, num_labels=3)
    with pytest.raises(KolmoError, match=r"has no score\.weight"):
        classifier.save_pretrained(tmp_path / "saved")


def test_shrunk_while_opened(tmp_path: Path, folders: tuple[Path, Path, Path]) -> None:
    model = Auto.from_pretrained(folders[0], quantization_config=plugin.KolmoConfig(bits=3, keep=["lm_head*"]))
    model.save_pretrained(tmp_path / "saved")
    file = ShrunkFile(tmp_path / "saved")
    assert "lm_head.weight" in file.record.raw
    same_weights(model, Auto.from_pretrained(tmp_path / "saved"))
    with pytest.raises(ValueError, match="exclude each other"):
        plugin.KolmoConfig(bits=3, step=0.1)
    with pytest.raises(ValueError, match="choose from 1, 8, 64"):
        plugin.KolmoConfig(states=2)
    with pytest.raises(TypeError, match="bit"):
        plugin.KolmoConfig(bit=3)
    with pytest.raises(KolmoError, match="kolmo shrink"):
        Auto.from_pretrained(folders[0], quantization_config=plugin.KolmoConfig(streamed=True))


def test_damage_names_the_tensor(tmp_path: Path, small: Path) -> None:
    model = tmp_path / "damaged"
    model.mkdir()
    for path in small.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    name = "model.layers.1.mlp.up_proj.weight"
    begin, size = ShrunkFile(small).span(name)
    data = bytearray((small / SMALL).read_bytes())
    data[begin + size // 2] ^= 1
    (model / SMALL).write_bytes(data)
    with pytest.raises(CorruptError, match=name):
        Auto.from_pretrained(model)
    with pytest.raises(CorruptError, match=name):
        plugin.stream(model)
    streamed = plugin.stream(model, cache=0)
    for _ in range(2):  # and it does not get stuck
        with pytest.raises(CorruptError, match=name):
            logits(streamed)
    (model / SMALL).write_bytes(data[:-9])
    with pytest.raises(CorruptError, match="ends"):
        Auto.from_pretrained(model)


def test_weights_that_contradict_the_configuration(tmp_path: Path, folders: tuple[Path, Path, Path]) -> None:
    source, small, _ = folders
    for name, weights in (("plain", source / "model.safetensors"), ("sized", small / SMALL)):
        (tmp_path / name).mkdir()
        config = json.loads((small / "config.json").read_text())
        config["intermediate_size"] += 8 * (name == "sized")
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / SMALL).write_bytes(weights.read_bytes())
    with pytest.raises(FormatError, match="not a checkpoint that kolmo shrank"):
        Auto.from_pretrained(tmp_path / "plain")
    with pytest.raises(KolmoError, match=r"mlp\.\w+\.weight has shape .* by config.json"):
        plugin.stream(tmp_path / "sized")
    with pytest.raises(KolmoError, match="is not shrunk"):
        plugin.stream(source)
    with pytest.raises(KolmoError, match="disable_mmap"):
        Auto.from_pretrained(small, disable_mmap=True)
    (tmp_path / "plain" / "config.json").write_text(
        (small / "config.json").read_text().replace('"version": 1', '"version": 2')
    )
    with pytest.raises(FormatError, match="install a newer one"):
        Auto.from_pretrained(tmp_path / "plain")


def test_streaming_by_configuration(small: Path) -> None:
    wanted = Auto.from_pretrained(small)
    with pytest.warns(UserWarning, match="streamed"):  # transformers' own, of any configuration that is given
        model = Auto.from_pretrained(small, quantization_config=plugin.KolmoConfig(streamed=True))
    assert torch.equal(logits(wanted), logits(model))
    made = [one.generate(IDS, max_new_tokens=6, do_sample=False) for one in (wanted, model)]
    assert torch.equal(*made)
    with pytest.raises(KolmoError, match="not in memory"):
        model.dequantize()


def test_evaluation_finds_the_plugin(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """In a process that has not imported it."""
    _, small, again = folders
    code = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from kolmo.predictors.language_models.torch_models.backend import load\n"
        "one, two = (load(Path(p), 'float32').lanes(1, 1).feed(np.arange(9)[None], 1) for p in sys.argv[1:])\n"
        "print(np.allclose(one, two, atol=1e-4), 'kolmo.transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, again, small],
        env={**os.environ, "PYTHONPATH": str(Path(kolmo.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True True\n", done.stderr


def test_the_door_stays_light() -> None:
    rooms = "kolmo, kolmo.weights.sources.folder, kolmo.weights.running.streamed"
    code = f"import sys, {rooms}; print({{'torch', 'transformers'}} & {{*sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(Path(kolmo.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    code = "import sys; sys.modules['transformers'] = None; import kolmo.transformers"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "pip install -U 'kolmo-codelength[hf]'" in done.stderr.splitlines()[-1]


PLAIN = """
import sys, transformers
for folder in sys.argv[1:]:
    for auto in (transformers.AutoModel, transformers.AutoModelForCausalLM):
        try:
            auto.from_pretrained(folder)
        except OSError as error:
            assert "model.safetensors" in str(error), error
            print("refused")
assert not any(name.startswith("kolmo") for name in sys.modules)
"""


def test_transformers_alone_refuse_small_weights(tmp_path: Path, small: Path) -> None:
    """They know no kolmo, take its configuration for none, and must not make up weights; so too after saving again."""
    folders = [small, tmp_path / "saved"]
    Auto.from_pretrained(small).save_pretrained(folders[1])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PLAIN, *folders], capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 4, done.stderr[-2000:]
    for folder in folders:
        assert Auto.from_pretrained(folder).config.vocab_size


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies(tmp_path: Path, small: Path, streamed: bool, way: str) -> None:
    """Copies give the same outputs, before and after the first is used, and are saved as the first is."""
    model = plugin.stream(small) if streamed else Auto.from_pretrained(small)
    wanted = logits(Auto.from_pretrained(small))
    for _ in range(2):
        if way == "deepcopy":
            other = copy.deepcopy(model)
        elif way == "pickle":
            other = pickle.loads(pickle.dumps(model))
        else:
            torch.save(model, tmp_path / "model.pt")
            other = torch.load(tmp_path / "model.pt", weights_only=False)
        for one in (other, model, other):
            assert torch.equal(logits(one), wanted)
    other.save_pretrained(tmp_path / "saved")
    assert ShrunkFile(tmp_path / "saved").record == ShrunkFile(small).record
    if streamed:
        assert model.kolmo_stream is not other.kolmo_stream
        assert {id(part.module) for part in model.kolmo_stream.parts}.isdisjoint(
            id(part.module) for part in other.kolmo_stream.parts
        )


def test_a_copy_outlives_the_file_that_was_made_in_memory(tmp_path: Path, folders: tuple[Path, Path, Path]) -> None:
    model = Auto.from_pretrained(folders[0], quantization_config=plugin.KolmoConfig(step=0.05))
    packed, other = pickle.dumps(model), copy.deepcopy(model)
    del model
    gc.collect()
    for k, one in enumerate((other, pickle.loads(packed))):
        one.save_pretrained(tmp_path / str(k))
        same_weights(one, Auto.from_pretrained(tmp_path / str(k)))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("cast", ["half", "bfloat16", "float", "double"])
def test_casts(tmp_path: Path, small: Path, streamed: bool, cast: str) -> None:
    """As of the expanded model, whether it was used before or not; and back."""
    used = plugin.stream(small) if streamed else Auto.from_pretrained(small)
    logits(used)
    fresh = plugin.stream(small) if streamed else Auto.from_pretrained(small)
    wanted = getattr(Auto.from_pretrained(small).dequantize(), cast)()
    for model in (used, fresh):
        getattr(model, cast)()
        for _ in range(2):
            found = logits(model)
            assert found.dtype == logits(wanted).dtype
            assert torch.equal(found, logits(wanted))
        model.float()
        assert logits(model).dtype == torch.float32
        model.to(torch.bfloat16)
        assert logits(model).dtype == torch.bfloat16


SPAWNED = """
import multiprocessing, sys, torch, transformers, kolmo.transformers

def work(model):
    with torch.no_grad():
        return model(torch.arange(24)[None] * 7 % 97).logits.sum().item()

if __name__ == "__main__":
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert abs(pool.apply(work, (model,)) - work(model)) < 1e-3
    print("equal")
"""


def test_a_model_goes_to_a_spawned_process(tmp_path: Path, small: Path) -> None:
    (tmp_path / "spawned.py").write_text(SPAWNED)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "spawned.py"), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
