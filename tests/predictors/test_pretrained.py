"""Models of transformers from anywhere: none of their code runs, nothing is random, and failures name the model.

The canaries are folders whose Python touches a file when it is imported; one test shows that it does, without kolmo.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kolmo
from kolmo.cli import main
from kolmo.codec.frames import make_header
from kolmo.container.frames import FrameWriter
from kolmo.container.structures import CODED, BlockHead, PredictorRecord
from kolmo.container.wire import digest
from kolmo.errors import KolmoError, PredictorError
from kolmo.predictors import model_locations
from kolmo.predictors.guard import guarded, is_guarded, reason
from kolmo.predictors.language_models.records import Record
from kolmo.predictors.registry import for_level

ROOT = Path(kolmo.__file__).parent
REPOSITORY = Path(__file__).parents[2]
STORY = "Once upon a time, there was a little girl. She liked to play in the park. One day she saw a big dog.\n"
SHORT = ("--context", "100", "--stride", "50")
REFUSAL = "the model needs code of its own, which kolmo does not run"
OWN = """from pathlib import Path
Path({canary!r}).touch()
from transformers import {base}
class Own({base}):
    pass
"""
Families = Callable[[str], Path]


@pytest.fixture(autouse=True)
def no_model_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_locations, "index", lambda: tmp_path / "cache" / "models.json")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """Standard input that agrees with everything; afterwards nothing of it has been read."""
    path = tmp_path / "yes"
    path.write_text("y\n" * 100)
    with open(path) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield file
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0


def run(*arguments: object, status: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status


def edit(path: Path, **changes: Any) -> None:
    """Change a JSON object; None takes a key out."""
    found = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}), "utf-8")


# -- nobody opens a model past the one function --


def calls_of(path: Path, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield node


def test_one_module_opens_what_is_of_transformers() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if [*calls_of(path, "from_pretrained")]}
    assert found == {"predictors/language_models/pretrained.py"}


def test_what_lies_beside_the_package_runs_no_code_either() -> None:
    for folder in ("benchmarks", "examples", "scripts"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for call in calls_of(path, "from_pretrained"):
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"


# -- code --


@pytest.fixture
def canary(folder_of: Families, tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes a folder of a kind; gives it and the file that is there when its code has run."""

    def make(kind: str) -> tuple[Path, Path]:
        folder, sings = tmp_path / f"of {kind}", tmp_path / f"{kind} has run"
        shutil.copytree(folder_of("llama"), folder)
        config, tokenizer = folder / "config.json", folder / "tokenizer_config.json"
        base = "LlamaConfig"
        if kind == "configuration":
            edit(config, model_type="own", auto_map={"AutoConfig": "own.Own"})
        elif kind == "model":
            base = "LlamaForCausalLM"
            edit(config, model_type="gpt2_own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
        elif kind == "tokenizer":
            base = "PreTrainedTokenizerFast"
            edit(tokenizer, tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
        else:  # a part of a composite model, which transformers make by their default, which is to ask
            base = "GPT2Model"
            text = {"model_type": "align_text_model", "vocab_size": 8, "pad_token_id": 0, "hidden_size": 8}
            named = {
                "auto_map": {"AutoModel": "own.Own", "AutoModelForCausalLM": "own.Own"},
                "name_or_path": str(folder),
            }
            config.write_text(
                json.dumps({"model_type": "fuyu", "text_config": {**text, **named}, "hidden_size": 8, "image_size": 30})
            )
        (folder / "own.py").write_text(OWN.format(canary=str(sings), base=base))
        return folder, sings

    return make


KINDS = ("configuration", "model", "tokenizer", "part")


def test_the_canaries_sing(canary: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    """Where transformers are asked as most programs ask them, or as all say one should, and someone says yes."""
    made = {kind: canary(kind) for kind in KINDS}
    script = """
import sys, transformers
for kind, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    given = {"trust_remote_code": False} if kind == "part" else {}
    opener = transformers.AutoTokenizer if kind == "tokenizer" else transformers.AutoModelForCausalLM
    try:
        opener.from_pretrained(folder, **given)
    except Exception as error:
        print(error)
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *(str(one) for kind in KINDS for one in (kind, made[kind][0]))],
        input="y\n" * 100,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert [kind for kind in KINDS if made[kind][1].exists()] == [*KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_no_verb_runs_code(
    canary: Callable[[str], tuple[Path, Path]],
    kind: str,
    folder_of: Families,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    yes: io.TextIOWrapper,
) -> None:
    folder, sings = canary(kind)
    spec, source, packed = f"hf:{folder}", tmp_path / "story.txt", tmp_path / "story.kmo"
    source.write_text(STORY)
    written(folder, packed)
    verbs: dict[str, list[object]] = {
        "compress": ["-m", spec, "-c", "-f", source],
        "decompress": ["--model", folder, "-c", "-f", packed],
        "test": ["--model", folder, packed],
        "explain": ["-m", spec, source],
        "sample": ["-m", spec, "-n", 5],
        "eval": ["--corpus", source, "-o", tmp_path / "results", folder],
    }
    if kind != "part":
        verbs["shrink"] = ["--max-delta-bpc", 0.1, "--corpus", source, "-o", tmp_path / "small", folder]
    for verb, arguments in verbs.items():
        run(verb, *arguments, status=1)
        error = capsys.readouterr().err
        assert f"{folder}: {REFUSAL}" in error, verb
        assert "Traceback" not in error
        assert "Do you wish" not in error
        assert len([line for line in error.splitlines() if line.startswith("kolmo: ")]) == 1, error
        assert not sings.exists(), verb


def test_no_verb_runs_code_of_weights(
    canary: Callable[[str], tuple[Path, Path]], tmp_path: Path, yes: io.TextIOWrapper
) -> None:
    """Verbs that need no model around the weights take them, and leave the code alone; where it comes along, too."""
    folder, sings = canary("model")
    run("shrink", "-o", tmp_path / "small", folder)
    run("expand", "-o", tmp_path / "again", tmp_path / "small")
    kolmo.load(tmp_path / "small")
    plugin = importlib.import_module("kolmo.transformers")
    for given in ({}, {"trust_remote_code": None}):
        with pytest.raises(PredictorError, match=REFUSAL):
            plugin.stream(tmp_path / "small", **given)
    with pytest.raises(KolmoError, match="kolmo does not run the code of a model; leave out trust_remote_code"):
        plugin.stream(tmp_path / "small", trust_remote_code=True)
    assert not sings.exists()


def test_no_other_face_runs_code(
    canary: Callable[[str], tuple[Path, Path]], tmp_path: Path, yes: io.TextIOWrapper
) -> None:
    from kolmo.evaluation.evaluate import texts
    from kolmo.evaluation.scorers.servers.own_tokens import OwnTokens
    from kolmo.report import explain

    folder, sings = canary("tokenizer")
    with pytest.raises(PredictorError, match=REFUSAL):
        OwnTokens(folder)
    with pytest.raises(PredictorError, match=REFUSAL):
        kolmo.evaluate(str(folder), texts("story", [STORY]))
    with pytest.raises(PredictorError, match=REFUSAL):
        kolmo.compress(STORY.encode(), predictor=f"hf:{folder}")
    with pytest.raises(PredictorError, match=REFUSAL):
        kolmo.sample("", f"hf:{folder}")
    with pytest.raises(PredictorError, match=REFUSAL):
        explain(STORY.encode(), f"hf:{folder}")
    assert not sings.exists()


def test_the_harness_runs_no_code(canary: Callable[[str], tuple[Path, Path]], yes: io.TextIOWrapper) -> None:
    pytest.importorskip("lm_eval")
    from kolmo.lm_eval.model import KolmoLM

    folder, sings = canary("configuration")
    with pytest.raises(PredictorError, match=REFUSAL):
        KolmoLM(f"hf:{folder}")
    assert not sings.exists()


def test_piped_data_is_no_answer(canary: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    folder, sings = canary("configuration")
    done = subprocess.run(
        [sys.executable, "-m", "kolmo", "compress", "-m", f"hf:{folder}", "-o", str(tmp_path / "x.kmo")],
        input=b"y\n" * 100,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"kolmo: {folder}: {REFUSAL}; give a model that transformers support without it\n"
    assert not sings.exists()
    assert not (tmp_path / "x.kmo").exists()


def test_code_that_nothing_needs_is_left_alone(folder_of: Families, tmp_path: Path, yes: io.TextIOWrapper) -> None:
    """Folders that still carry the code of a model that transformers know by now, and `custom_generate`."""
    from kolmo.predictors.language_models.torch_models.backend import load

    folder = tmp_path / "known"
    shutil.copytree(folder_of("llama"), folder)
    sings = tmp_path / "has run"
    edit(folder / "config.json", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    (folder / "own.py").write_text(OWN.format(canary=str(sings), base="LlamaConfig"))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(OWN.format(canary=str(sings), base="LlamaConfig"))
    load(folder, "float32")
    assert not sings.exists()


def test_kernels_are_code(folder_of: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a configuration asks of the hub's kernels is left out; where an architecture fetches some, it cannot."""
    from kolmo.predictors.language_models.pretrained import CodeRefusedError
    from kolmo.predictors.language_models.torch_models.backend import load

    kernels: Any = importlib.import_module("transformers.integrations.hub_kernels")
    fetched: list[str] = []
    folder = tmp_path / "asks"
    shutil.copytree(folder_of("llama"), folder)
    plain = load(folder, "float32")
    monkeypatch.setattr(kernels, "get_kernel", lambda name, **_: fetched.append(name))
    edit(folder / "config.json", attn_implementation="kernels-community/flash-attn2")
    asking = load(folder, "float32")
    assert asking.model.config._attn_implementation == plain.model.config._attn_implementation
    with guarded("x", "fails"), pytest.raises(CodeRefusedError):
        kernels.get_kernel("org/kernel")
    assert not fetched
    kernels.get_kernel("org/kernel")  # of a program that uses transformers on its own account
    assert fetched == ["org/kernel"]


# -- records --


def written(folder: Path, packed: Path, **changes: Any) -> None:
    """A file that says that the model of a folder wrote it; there is no more to it than a head."""
    record = replace(Record.of("llama", "", (b"w" * 8, b"c" * 8, b"t" * 8), "float32", 128, 4096), **changes)
    write_record(packed, "hf", record)


def write_record(packed: Path, name: str, record: Record) -> None:
    header = replace(
        make_header(for_level(1), 1 << 16), predictor=PredictorRecord(name, 1, b"\0" * 4, record.to_bytes())
    )
    writer = FrameWriter(header)
    head = BlockHead(CODED, 40, 20, digest(b"x" * 40))
    packed.write_bytes(writer.add(head, b"\0" * 20, b"x" * 40) + writer.finish())


NAMES = (
    "{folder}",
    "model",
    "./model",
    "../here/model",
    "some/model",
    "some/inner/model",
    "some\\model",
    "C:\\model",
    "~/model",
    "file:///model",
    "model\0",
    "",
    "..",
    "\x1b[31mmodel\n" + 100 * "long",
)


@pytest.mark.parametrize("revision", ["", "main", "../../../model", "a/b"])
@pytest.mark.parametrize("predictor", ["hf", "gguf"])
def test_names_in_files_are_never_paths(
    predictor: str,
    revision: str,
    folder_of: Families,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from kolmo.predictors.language_models import huggingface, llamacpp

    here = tmp_path / "here"
    for name in ("model", "some/model", "some/inner/model", "some\\model", "C:\\model"):
        shutil.copytree(folder_of("llama"), here / name)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    opened: list[object] = []
    monkeypatch.setattr(huggingface, "load", lambda *given: opened.append(given))
    monkeypatch.setattr(llamacpp, "load", lambda *given: opened.append(given))
    packed = tmp_path / "x.kmo"
    for name in NAMES:
        spec = name.format(folder=folder_of("llama"))
        write_record(
            packed, predictor, Record.of(spec, revision, (b"w" * 8, b"c" * 8, b"t" * 8), "float32", 128, 4096, way=1)
        )
        run("test", packed, status=1)
        error = capsys.readouterr().err
        assert "is not known on this machine" in error or "is not on this machine" in error, error
        assert "--model" in error or "hf download" in error
        assert error.count("\n") == 1
        assert "\x1b" not in error
        assert len(error) < 600
        run("decompress", "-f", "-o", tmp_path / "out", packed, status=1)
        run("list", "-v", packed)
        assert len(capsys.readouterr().out) < 1500
        with pytest.raises(PredictorError):
            kolmo.decompress(packed.read_bytes())
        with kolmo.open(packed) as file, pytest.raises(PredictorError):
            file.read()
    assert not opened


def test_what_is_known_here_is_opened(
    folder_of: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the hash of its weights, whatever name the file gives it; or where the reader says."""
    folder = folder_of("llama")
    packed = tmp_path / "x.kmo"
    packed.write_bytes(kolmo.compress(STORY.encode() * 4, predictor=f"hf:{folder}"))
    assert kolmo.decompress(packed.read_bytes()) == STORY.encode() * 4
    model_locations.index().unlink()
    monkeypatch.chdir(folder.parent)  # where a folder of the recorded name is
    run("test", packed, status=1)
    assert f"hf:{folder.name} is not known on this machine; give its folder with --model FOLDER" in (
        capsys.readouterr().err
    )
    run("test", "--model", folder.name, packed)
    run("test", packed)


# -- weights --


@pytest.fixture
def weights(folder_of: Families, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a model and its tensors."""
    from safetensors.torch import load_file

    folder = tmp_path / "model"
    shutil.copytree(folder_of("llama"), folder)
    return folder, load_file(folder / "model.safetensors")


def save(tensors: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


def test_missing_tensors_are_not_made_up(
    weights: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, tensors = weights
    source = tmp_path / "story.txt"
    source.write_text(STORY)
    (tmp_path / "x.kmo").write_bytes(kolmo.compress(STORY.encode() * 4, predictor=f"hf:{folder}"))
    gone = [
        "lm_head.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.input_layernorm.weight",
        "model.norm.weight",
    ]
    save({name: tensor for name, tensor in tensors.items() if name not in gone}, folder / "model.safetensors")
    lacks = f"its checkpoint lacks {', '.join(sorted(gone)[:3])} and 1 more; transformers would fill in random numbers"
    run("eval", "--corpus", source, "-o", tmp_path / "results", folder, "classical:gzip", status=1)
    printed = capsys.readouterr()
    assert f"{folder}: {lacks}" in printed.err
    assert "gzip" in printed.out  # the others go on
    for verb, arguments in (
        ("compress", ["-m", f"hf:{folder}", "-c", "-f", source]),
        ("test", ["--model", folder, tmp_path / "x.kmo"]),
        ("explain", ["-m", f"hf:{folder}", source]),
        ("sample", ["-m", f"hf:{folder}", "-m", "cm:1", "-n", 5, "--json"]),
        ("shrink", ["--max-delta-bpc", 0.1, "--corpus", source, "-o", tmp_path / "small", folder]),
    ):
        run(verb, *arguments, status=1)
        printed = capsys.readouterr()
        assert lacks in printed.err
        assert ('"model": "cm:1"' in printed.out) == (verb == "sample")


def test_tensors_of_other_shapes_are_not_made_up(weights: tuple[Path, dict[str, Any]]) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load

    folder, tensors = weights
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:20].clone()
    tensors["lm_head.weight"] = tensors["lm_head.weight"].T.contiguous()
    save(tensors, folder / "model.safetensors")
    with pytest.raises(PredictorError) as caught:
        load(folder, "float32")
    assert "lm_head.weight of shape 32x304, not 304x32, model.norm.weight of shape 20, not 32; trans" in str(
        caught.value
    )


@pytest.mark.parametrize("claims", [{"vocab_size": 10**11}, {"hidden_size": 1 << 20}, {"intermediate_size": 10**9}])
def test_no_memory_is_taken_for_claims(claims: dict[str, Any], weights: tuple[Path, dict[str, Any]]) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load

    folder, _ = weights
    edit(folder / "config.json", **claims)
    with pytest.raises(PredictorError, match=r"its config\.json needs [0-9,]+ numbers, and its checkpoint has "):
        load(folder, "float32")


def test_what_is_rightly_not_there(weights: tuple[Path, dict[str, Any]], folder_of: Families) -> None:
    """Tied tensors, buffers that nobody stores; and what is there in vain changes nothing but the hash."""
    import torch

    from kolmo.predictors.language_models.torch_models.backend import load

    folder, tensors = weights
    ids = torch.arange(10)[None]
    right = load(folder, "float32")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    tensors["other_head.weight"] = torch.zeros(3, 3)
    save(tensors, folder / "model.safetensors")
    found = load(folder, "float32")
    assert torch.equal(right.model(input_ids=ids).logits, found.model(input_ids=ids).logits)
    assert right.hashes[0] != found.hashes[0]
    edit(folder / "config.json", tie_word_embeddings=True)
    del tensors["lm_head.weight"]
    save(tensors, folder / "model.safetensors")
    load(folder, "float32")
    del tensors["model.embed_tokens.weight"]  # and now neither of the two
    save(tensors, folder / "model.safetensors")
    with pytest.raises(PredictorError, match=r"lacks .*model\.embed_tokens\.weight"):
        load(folder, "float32")
    load(folder_of("gpt2"), "float32")  # whose head is tied
    load(folder_of("rwkv"), "float32")


def test_shrunk_folders_are_not_filled_up(weights: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load

    folder, tensors = weights
    plugin = importlib.import_module("kolmo.transformers")
    run("shrink", "-o", tmp_path / "small", folder)
    load(tmp_path / "small", "float32")
    plugin.stream(tmp_path / "small")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save(tensors, folder / "model.safetensors")
    run("shrink", "-o", tmp_path / "less", folder)
    for opening in (lambda: load(tmp_path / "less", "float32"), lambda: plugin.stream(tmp_path / "less")):
        with pytest.raises(PredictorError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight; transformers"):
            opening()


# -- files of weights --


def file_of(header: object, data: bytes = b"\0" * 64, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def place(first: object, last: object, shape: object = (4,), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


LIES: dict[str, bytes] = {
    "negative": file_of({"a": place(-16, 0)}, b""),
    "backwards": file_of({"a": place(16, 0)}, b""),
    "overlapping": file_of({"a": place(0, 16), "b": place(8, 24)}, b"\0" * 24),
    "same place": file_of({"a": place(0, 16), "b": place(0, 16)}, b"\0" * 16),
    "a gap": file_of({"a": place(0, 16), "b": place(20, 36)}, b"\0" * 36),
    "past the end": file_of({"a": place(0, 16)}, b"\0" * 8),
    "far past the end": file_of({"a": place(0, 1 << 62, [1 << 60])}, b""),
    "huge": file_of({"a": place(0, 1 << 80, [1 << 78])}, b""),
    "many digits": file_of(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, ' + b"9" * 5000 + b"]}}"),
    "another size": file_of({"a": place(0, 8)}, b"\0" * 8),
    "floats": file_of({"a": place(0.0, 16.0)}, b"\0" * 16),
    "texts": file_of({"a": place("0", "16")}, b"\0" * 16),
    "truth": file_of({"a": place(False, True, [1], "U8")}, b"\0"),
    "three": file_of({"a": {**place(0, 16), "data_offsets": [0, 8, 16]}}, b"\0" * 16),
    "a shape of texts": file_of({"a": place(0, 16, ["4"])}, b"\0" * 16),
    "no such dtype": file_of({"a": place(0, 16, [4], "F33")}, b"\0" * 16),
    "more behind": file_of({"a": place(0, 16)}, b"\0" * 17),
    "deep": file_of(b'{"a":' * 40000 + b"1" + b"}" * 40000),
    "deep metadata": file_of(b'{"__metadata__":' + b"[" * 40000 + b"]" * 40000 + b"}"),
    "half of a pair": file_of(b'{"\\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}', b"\0"),
    "a header of its own size": file_of(b"{}", b"", 1 << 62),
    "no header": b"\0" * 7,
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie(lie: str, tmp_path: Path, folder_of: Families) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load
    from kolmo.predictors.language_models.torch_models.hashes import hash_tensors

    path = tmp_path / "model.safetensors"
    path.write_bytes(LIES[lie])
    with pytest.raises(PredictorError, match=r"model\.safetensors: not a safetensors file, or damaged") as caught:
        hash_tensors([path])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    folder = tmp_path / "model"
    shutil.copytree(folder_of("llama"), folder)
    right = load(folder, "float32").hashes
    (folder / "stray.safetensors").write_bytes(LIES[lie])  # which nothing names
    assert load(folder, "float32").hashes == right


def test_only_what_the_index_names(weights: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load

    folder, tensors = weights
    right = load(folder, "float32").hashes
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for part, chosen in (("a.safetensors", names[:5]), ("b.safetensors", names[5:])):
        save({name: tensors[name] for name in chosen}, folder / part)
    save({"model.norm.weight": tensors["model.norm.weight"] * 2}, folder / "c.safetensors")
    index = folder / "model.safetensors.index.json"
    places = {**dict.fromkeys(names[:5], "a.safetensors"), **dict.fromkeys(names[5:], "b.safetensors")}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert load(folder, "float32").hashes == right
    shutil.copy(folder / "b.safetensors", tmp_path / "b.safetensors")
    shutil.copy(folder / "b.safetensors", folder / "b.bin")
    for name, why in (
        ("../b.safetensors", "not a safetensors file beside it"),
        (str(tmp_path / "b.safetensors"), "not a safetensors file beside it"),
        ("..\\b.safetensors", "not a safetensors file beside it"),
        ("b.bin", "not a safetensors file beside it"),
        (7, "not a safetensors file beside it"),
        (["b.safetensors"], "not a safetensors file beside it"),
        ("d.safetensors", "names d.safetensors, which is not there"),
    ):
        index.write_text(json.dumps({"weight_map": {**places, names[5]: name}}))
        with pytest.raises(PredictorError, match=rf"index\.json: .*{why}"):
            load(folder, "float32")
    for text in ("[" * 50000, "[]", "{}", '{"weight_map": []}', "\ud800".encode("utf-8", "surrogatepass"), "nonsense"):
        index.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(PredictorError, match=r"index\.json"):
            load(folder, "float32")


def test_weights_that_a_configuration_names(weights: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from kolmo.predictors.language_models.torch_models.backend import load

    folder, tensors = weights
    right = load(folder, "float32").hashes
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    save(tensors, folder / "other.safetensors")
    shutil.copy(folder / "other.safetensors", tmp_path / "other.safetensors")
    edit(folder / "config.json", transformers_weights="other.safetensors")
    other = load(folder, "float32")
    assert other.hashes[0] != right[0]
    assert float(other.model.model.norm.weight[0].detach()) == float(tensors["model.norm.weight"][0])
    for name in ("../other.safetensors", str(tmp_path / "other.safetensors"), "adapter_model.bin", 3):
        edit(folder / "config.json", transformers_weights=name)
        with pytest.raises(PredictorError, match=r"config\.json"):
            load(folder, "float32")


def test_adapters(weights: tuple[Path, dict[str, Any]]) -> None:
    """peft changes the model where it is installed, and does not elsewhere."""
    from kolmo.predictors.language_models.torch_models.backend import load

    folder, _ = weights
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(PredictorError, match="holds an adapter"):
        load(folder, "float32")


# -- failures --


class PanicError(BaseException):
    """As pyo3 makes of a panic of Rust: no Exception."""


ERRORS: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("first line\nsecond line"),
    lambda: IndexError("index out of range in self"),
    lambda: MemoryError(),
    lambda: RecursionError("maximum recursion depth exceeded"),
    lambda: KeyError("rope_type"),
    lambda: ZeroDivisionError("division by zero"),
    lambda: AssertionError(),
    lambda: OSError(5, "Input/output error"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    lambda: StopIteration(),
    lambda: PanicError("called `Option::unwrap()` on a `None` value"),
    lambda: RuntimeError("\x1b[31m\u202e" + "long" * 100000),
]


def test_a_guard_lets_pass_what_ends_a_program() -> None:
    for error in (KeyboardInterrupt(), SystemExit(3), KolmoError("own")):
        with pytest.raises(type(error)) as caught, guarded("model", "fails"):
            raise error
        assert caught.value is error
    failure = r"^model: fails \(ZeroDivisionError: by zero\); wait$"
    with pytest.raises(PredictorError, match=failure) as told, guarded("model", "fails", "wait"):
        raise ZeroDivisionError("by zero")
    assert isinstance(told.value.__cause__, ZeroDivisionError)  # for those who look for it
    with guarded("model", "fails"):
        assert is_guarded()
    assert not is_guarded()
    with pytest.raises(ValueError, match="passes"), guarded("model", "fails", passing=ValueError):
        raise ValueError("passes")
    assert reason(OSError(2, "No such file", "x")) == "x: No such file"


@pytest.mark.parametrize("where", ["configuration", "tokenizer", "model", "forward", "call"])
def test_whatever_fails_is_one_line_and_the_others_go_on(
    where: str,
    folder_of: Families,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transformers: Any = importlib.import_module("transformers")
    folder, source, packed = folder_of("llama"), tmp_path / "story.txt", tmp_path / "story.kmo"
    source.write_text(STORY)
    packed.write_bytes(kolmo.compress(STORY.encode() * 4, predictor=f"hf:{folder}"))
    seam = {
        "configuration": (transformers.AutoConfig, "from_pretrained"),
        "tokenizer": (transformers.AutoTokenizer, "from_pretrained"),
        "model": (transformers.AutoModelForCausalLM, "from_pretrained"),
        "forward": (transformers.LlamaForCausalLM, "forward"),
        "call": (transformers.PreTrainedTokenizerFast, "__call__"),
    }[where]
    current = ERRORS[0]

    def fail(*given: Any, **named: Any) -> Any:
        raise current()

    if where == "forward":  # which kolmo looks at
        fail.__signature__ = inspect.signature(seam[0].forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(*seam, fail)
    corpus = ["--corpus", source, "-o", tmp_path / "results"]
    for current in ERRORS:  # noqa: B007 - it is used within fail
        run("eval", *corpus, *(["--mode", "paper", *SHORT] if where == "call" else []), folder, "hf:/none", status=1)
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("kolmo: ") and str(folder) in line], lines
        assert any("/none" in line for line in lines)  # that one was tried too
        assert_short(lines)
    if where == "call":
        return
    for current in ERRORS:  # noqa: B007
        for verb, arguments in (
            ("compress", ["-m", f"hf:{folder}", "-c", "-f", source]),
            ("decompress", ["-f", "-o", tmp_path / "out", packed]),
            ("explain", ["-m", f"hf:{folder}", source]),
            ("sample", ["-m", f"hf:{folder}", "-n", 5]),
        ):
            run(verb, *arguments, status=1)
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1
            assert str(folder) in lines[0]
            assert_short(lines)


def assert_short(lines: list[str]) -> None:
    for line in lines:
        assert line.isprintable()
        assert len(line) < 700
        assert "Traceback" not in line
        assert "second line" not in line


@pytest.mark.parametrize("after", [1, 30, 60, 90])
def test_a_model_that_fails_later(
    after: int, folder_of: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the midst of noise, of coding, of decoding: the input stays, no output is left."""
    transformers: Any = importlib.import_module("transformers")
    folder, source = folder_of("llama"), tmp_path / "story.txt"
    source.write_text(STORY * 3)
    real, calls = transformers.LlamaForCausalLM.forward, 0

    def forward(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise IndexError("out of range")
        return real(self, *given, **named)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", forward)
    run("compress", "--rm", "-m", f"hf:{folder}", source, status=1)
    assert f"{folder}: the model fails (IndexError: out of range); try" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("story*")) == ["story.txt"]


def test_recurrent_models_whose_code_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The xLSTM of some versions cannot do its first pass with a state; where it can, that is as well."""
    transformers: Any = importlib.import_module("transformers")
    if not hasattr(transformers, "xLSTMConfig"):
        pytest.skip("this version has no xLSTM")
    from harness.models import LOGITS, TOKENS
    from helpers.tokenizers_made import byte_level

    folder, source = tmp_path / "xlstm", tmp_path / "story.txt"
    config = transformers.xLSTMConfig(vocab_size=LOGITS, hidden_size=32, num_blocks=2, num_heads=4, num_hidden_layers=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_level(TOKENS).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n', "utf-8")
    source.write_text(STORY)
    with pytest.raises(SystemExit) as end:
        main(["eval", "--corpus", str(source), "-o", str(tmp_path / "results"), str(folder), "classical:gzip"])
    printed = capsys.readouterr()
    assert "gzip" in printed.out
    assert end.value.code == 0 or f"kolmo: {folder}: the model fails (" in printed.err


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["[" * 100000, '{"a":' * 100000, "[]", "7", "", "\ud800", '{"model_type": 7}', "{}"])
def test_files_that_are_something_else(name: str, text: str, folder_of: Families, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folder_of("llama"), folder)
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    failure = ""
    try:
        kolmo.compress(STORY.encode(), predictor=f"hf:{folder}")
    except PredictorError as error:
        failure = str(error)
    assert not failure or str(folder) in failure
    assert_short([failure])


def test_a_tokenizer_of_another_model(folder_of: Families, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One with more tokens than the model has logits: used where only known tokens are, and else refused by name."""
    from helpers.tokenizers_made import byte_level

    folder, source = tmp_path / "model", tmp_path / "story.txt"
    shutil.copytree(folder_of("llama"), folder)
    byte_level(600).save(str(folder / "tokenizer.json"))
    text = "The boats lay still in the harbour. The boy asked his father: not today; the wind is from the east.\n" * 3
    source.write_text(text)
    packed = kolmo.compress(text.encode(), predictor=f"hf:{folder}")
    assert kolmo.decompress(packed) == text.encode()
    run("eval", "--corpus", source, "-o", tmp_path / "results", "--mode", "strict", folder)
    capsys.readouterr()
    run("eval", "--corpus", source, "-o", tmp_path / "results", "--mode", "paper", *SHORT, folder, status=1)
    assert f"{folder}: its tokenizer gives token " in capsys.readouterr().err
