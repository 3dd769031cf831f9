"""Models as folders of compressed-tensors: the layout by a reader of our own, and what that package makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import FormatError, KolmoError
from kolmo.native.dispatch import SLOW
from kolmo.safetensors import lay_out, read_header, write_header
from kolmo.targets import TargetExistsError
from kolmo.weights.export.compressed_tensors import KNOWN, export
from kolmo.weights.export.packed import pack, quantise
from kolmo.weights.sources.dtypes import from_floats, to_floats

Arrays = dict[str, "np.ndarray[Any, Any]"]
QUERY, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"
LAYERS, WIDTH, HIDDEN = 2, 128, 256


def model(folder: Path, dtype: str = "F32", hidden: int = HIDDEN, **facts: Any) -> Path:
    """The folder of a small Llama without a tokenizer."""
    random = np.random.default_rng(3)
    weights: Arrays = {
        "model.embed_tokens.weight": random.normal(0, 1, (40, WIDTH)),
        "model.norm.weight": np.ones(WIDTH),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes = dict.fromkeys(("self_attn.q_proj", "self_attn.o_proj"), (WIDTH, WIDTH))
        shapes |= dict.fromkeys(("self_attn.k_proj", "self_attn.v_proj"), (WIDTH // 2, WIDTH))
        shapes |= {"mlp.gate_proj": (hidden, WIDTH), "mlp.up_proj": (hidden, WIDTH), "mlp.down_proj": (WIDTH, hidden)}
        weights |= {f"{at}.{name}.weight": random.normal(0, 0.1, shape) for name, shape in shapes.items()}
        weights |= {f"{at}.{name}_layernorm.weight": np.ones(WIDTH) for name in ("input", "post_attention")}
    folder.mkdir()
    header = write_header({"format": "pt"}, lay_out((name, dtype, one.shape) for name, one in weights.items()))
    data = b"".join(from_floats(one.astype(np.float32), dtype) for one in weights.values())
    (folder / "model.safetensors").write_bytes(header + data)
    (folder / "generation_config.json").write_text("{}")
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "vocab_size": 40}
    config |= {"num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    config |= {"intermediate_size": hidden, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config | facts))
    return folder


def tensors_of(folder: Path) -> Arrays:
    """All tensors of a folder; floats as binary32."""
    path = folder / "model.safetensors"
    data, found = path.read_bytes(), {}
    for name, place in read_header(path).places.items():
        part = data[place.begin : place.begin + place.size]
        integers = {"I32": "<i4", "I64": "<i8"}
        flat = np.frombuffer(part, integers[place.dtype]) if place.dtype in integers else to_floats(part, place.dtype)
        found[name] = flat.reshape(place.shape)
    return found


def unpacked(tensors: Arrays, name: str, bits: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Integers (rows, columns) of a matrix, bit by bit, and its scales (rows, groups)."""
    rows, columns = tensors[f"{name}_shape"].tolist()
    words = tensors[f"{name}_packed"].astype(np.int64) & 0xFFFFFFFF
    places = np.arange(columns) * bits
    integers = (words[:, places // 32] >> places % 32) & ((1 << bits) - 1)
    assert words.shape == (rows, -(-columns * bits // 32))
    return integers - (1 << bits - 1), tensors[f"{name}_scale"]


def restored(folder: Path, bits: int) -> Arrays:
    """The tensors under their names in the model, integers multiplied by their scales."""
    tensors, found = tensors_of(folder), {}
    for name, values in tensors.items():
        if name.endswith("_packed"):
            integers, scales = unpacked(tensors, name.removesuffix("_packed"), bits)
            groups = integers.reshape(*scales.shape, -1).astype(np.float32) * scales[..., None]
            found[name.removesuffix("_packed")] = groups.reshape(integers.shape)
        elif not name.endswith(("_scale", "_shape")):
            found[name] = values
    return found


def relative(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    return float(np.square(found - wanted).sum() / np.square(wanted).sum())


@pytest.mark.parametrize(("kind", "bits", "most"), [("int8", 8, 5e-5), ("int4", 4, 1.2e-2)])
def test_every_tensor(kind: str, bits: int, most: float, tmp_path: Path) -> None:
    folder, target = model(tmp_path / "m"), tmp_path / "out"
    done = export(folder, target, kind=kind)
    assert done.size == (target / "model.safetensors").stat().st_size
    wanted, found = tensors_of(folder), restored(target, bits)
    assert set(found) == set(wanted)
    errors = power = 0.0
    for name, values in wanted.items():
        if name.endswith("proj.weight"):
            assert 0 < relative(found[name], values) < most, name
            errors += float(np.square(found[name] - values, dtype=np.float64).sum())
            power += float(np.square(values, dtype=np.float64).sum())
        else:
            assert np.array_equal(found[name], values), name
    assert done.error == pytest.approx(errors / power, rel=1e-4)
    assert (target / "generation_config.json").read_text() == "{}"
    assert all(place.begin % 8 == 0 for place in read_header(target / "model.safetensors").places.values())


@pytest.mark.parametrize(("hidden", "size"), [(256, 128), (192, 64), (160, 32), (200, None)])
def test_the_configuration(hidden: int, size: int | None, tmp_path: Path) -> None:
    target = tmp_path / "out"
    export(model(tmp_path / "m", hidden=hidden), target)
    found = json.loads((target / "config.json").read_text())["quantization_config"]
    assert (found["quant_method"], found["format"]) == ("compressed-tensors", "pack-quantized")
    assert found["quantization_status"] == "compressed"
    assert "lm_head" in found["ignore"]
    (scheme,) = found["config_groups"].values()
    assert scheme["targets"] == ["Linear"]
    strategy = "channel" if size is None else "group"
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False}
    assert scheme["weights"] == weights | {"strategy": strategy, "group_size": size}
    assert tensors_of(target)[f"{DOWN}_scale"].shape == (WIDTH, 1 if size is None else hidden // size)


def test_packed_by_hand() -> None:
    integers = np.array([[1, -2, 3, -4, 5, -6, 7, -8, 0]], np.int8)
    assert np.frombuffer(pack(integers, 4), "<u4").tolist() == [0x0F2D4B69, 0x8]
    assert np.frombuffer(pack(integers, 8), "<u4").tolist() == [0x7C837E81, 0x78877A85, 0x80]


def test_scales() -> None:
    matrix = np.zeros((2, 64), np.float32)
    matrix[1, :4] = 1, -3, 2, 1e-3
    integers, scales = quantise(matrix, 4, 32, "BF16")
    assert not integers[0].any()
    assert (scales > 0).all()
    assert abs(integers[1, 1] * scales[1, 0] + 3) < 0.1
    random = np.random.default_rng(1).normal(0, 1, (64, 128)).astype(np.float32)
    plain = np.clip(np.rint(random / np.abs(random).max(1)[:, None] * 7), -8, 7) * np.abs(random).max(1)[:, None] / 7
    integers, scales = quantise(random, 4, 128, "F32")
    assert relative(integers * scales, random) < 0.8 * relative(plain, random)
    grid = (np.rint(random * 20) / 64).astype(np.float32)
    integers, scales = quantise(grid, 8, 64, "BF16", 1 / 64)
    assert np.array_equal(integers * np.repeat(scales, 64, 1), grid)


@pytest.mark.skipif(SLOW, reason="slow without the C kernels")
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_int8_keeps_the_weights_of_a_trellis(dtype: str, tmp_path: Path) -> None:
    kolmo.shrink(model(tmp_path / "m", dtype), tmp_path / "small", kolmo.Bits(4))
    run = CliRunner().invoke(
        group,
        ["expand", str(tmp_path / "small"), "-o", str(tmp_path / "out"), "--to", "compressed-tensors", "--json", "-v"],
    )
    assert run.exit_code == 0, run.output
    record = json.loads(run.stdout)
    assert record["raw_size"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert 0 <= record["relative_error"] < 3e-5
    assert "int8 alone has a squared error of" in run.stderr
    found, wanted = restored(tmp_path / "out", 8), kolmo.load(tmp_path / "small")
    for name, values in wanted.items():
        if dtype == "F32" or not name.endswith("proj.weight"):
            assert np.allclose(found[name], values, rtol=1e-6, atol=0), name
        else:
            assert relative(found[name], values) < 3e-5, name


def test_refusals(tmp_path: Path) -> None:
    folder, target = model(tmp_path / "m"), tmp_path / "out"
    with pytest.raises(ValueError, match="int8, int4"):
        export(folder, target, kind="f16")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(KolmoError, match="is a file"):
        export(folder, tmp_path / "file", force=True)
    with pytest.raises(KolmoError, match="no bases"):
        export(folder, target, base=True)
    run = CliRunner().invoke(
        group, ["expand", str(folder), "-o", str(target), "--to", "compressed-tensors", "--type", "q8_0"]
    )
    assert run.exit_code == 2
    assert "--to gguf" in run.output
    target.mkdir()
    (target / "config.json").write_text("{}")
    with pytest.raises(TargetExistsError):
        export(folder, target)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(FormatError, match="'gpt2' cannot become compressed-tensors"):
        export(folder, tmp_path / "other")
    assert (target / "config.json").read_text() == "{}"


@pytest.mark.parametrize("damage", ["nan", "three dimensions", "integers", "no layers"])
def test_refused_tensors(damage: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    weights = tensors_of(folder)
    kinds = dict.fromkeys(weights, "F32")
    if damage == "nan":
        weights[QUERY][3, 4] = np.nan
    elif damage == "three dimensions":
        weights[QUERY] = weights[QUERY].reshape(2, -1, WIDTH)
    elif damage == "integers":
        kinds[QUERY] = "I32"
    else:
        weights = {name: one for name, one in weights.items() if "layers" not in name}
    header = write_header({}, lay_out((name, kinds[name], one.shape) for name, one in weights.items()))
    (folder / "model.safetensors").write_bytes(header + b"".join(one.tobytes() for one in weights.values()))
    with pytest.raises(KolmoError) as error:
        export(folder, tmp_path / "out")
    assert "no matrices" in str(error.value) if damage == "no layers" else QUERY in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("kind", KNOWN)
def test_transformers_load_it(kind: str, tmp_path: Path) -> None:
    """Logits equal those of the model with the same weights in binary32, and no tensor is missing."""
    pytest.importorskip("compressed_tensors", reason="needs compressed-tensors; pip install compressed-tensors")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    facts = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    facts |= {"num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
    facts |= {"pad_token_id": 0} | ({} if kind == "gpt_neox" else {"num_key_value_heads": 2})
    config = transformers.AutoConfig.for_model(kind, **facts)
    plain = transformers.AutoModelForCausalLM.from_config(config).eval()
    plain.save_pretrained(tmp_path / "m")
    bits = 4 if kind == "llama" else 8
    export(tmp_path / "m", tmp_path / "out", kind=f"int{bits}")
    loaded, notes = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not any(notes.values()), notes
    ids = torch.arange(3, 40)[None]
    weights = {name: one.reshape(-1) for name, one in restored(tmp_path / "out", bits).items()}
    parts = {name: place.shape for name, place in read_header(tmp_path / "m" / "model.safetensors").places.items()}
    data = b"".join(weights[name].astype("<f4").tobytes() for name in parts)
    header = write_header({"format": "pt"}, lay_out((name, "F32", shape) for name, shape in parts.items()))
    (tmp_path / "m" / "model.safetensors").write_bytes(header + data)
    same = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    with torch.inference_mode():
        found, wanted, before = (one.eval()(ids).logits for one in (loaded, same, plain))
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    assert 0 < float((found - before).norm() / before.norm()) < (0.5 if bits == 4 else 0.05)
