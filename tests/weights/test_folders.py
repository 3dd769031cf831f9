"""Folders of transformers, without transformers: what comes along, what does not, and targets that are whole or not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.cli import group
from kolmo.errors import CorruptError, FormatError, KolmoError
from kolmo.native.dispatch import SLOW
from kolmo.safetensors import lay_out, write_header
from kolmo.targets import TargetExistsError, TargetFolder
from kolmo.weights.sources.folder import MAX_COPIED_BYTES, companions

WAY: dict[str, Any] = {"hyperfunction": "torus"} if SLOW else {"goal": kolmo.Step(0.1)}  # one that is fast here
OPTIONS = ("--method", "torus") if SLOW else ("--step", "0.1")


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(group, [str(one) for one in arguments], standalone_mode=False)
    status = done.return_value if done.exception is None else done.exception
    assert isinstance(status, int), done.exception
    return status, done.output


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model's folder as the hub has them, with what should not come along."""
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "original").mkdir()
    (folder / ".git").mkdir()
    weights = np.random.default_rng(1).standard_normal((64, 48)).astype(np.float32)
    places = lay_out([("up.weight", "F32", weights.shape)])
    (folder / "model.safetensors").write_bytes(write_header({"format": "pt"}, places) + weights.tobytes())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "float32", "name": "é"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "modeling_own.py").write_text("raise SystemExit('was run')")
    (folder / "1_Pooling" / "config.json").write_text('{"mean": true}')
    (folder / "original" / "consolidated.00.pth").write_bytes(b"pickle")
    (folder / "original" / "params.json").write_text("{}")
    (folder / ".git" / "config").write_text("secret")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "earlier.kolmo").write_bytes(b"weights")
    (folder / "scaler.pkl").write_bytes(b"pickle")
    return folder


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


KEPT = ["1_Pooling/config.json", "config.json", "model.kolmo.safetensors", "modeling_own.py", "original/params.json"]


def test_what_comes_along(source: Path, tmp_path: Path) -> None:
    status, output = run("shrink", source, "-o", tmp_path / "small", *OPTIONS)
    assert status == 0
    assert "does not come along" in output
    assert "consolidated.00.pth (weights in a sub-folder)" in output.replace(os.sep, "/")
    assert "scaler.pkl (a pickle)" in output
    assert everything(tmp_path / "small") == sorted([*KEPT, "tokenizer.json"])
    config = json.loads((tmp_path / "small" / "config.json").read_text("utf-8"))
    assert config["quantization_config"] == {"quant_method": "kolmo", "version": 1}
    assert config["name"] == "é"
    assert run("info", tmp_path / "small")[0] == 0
    assert run("expand", tmp_path / "small", "-o", tmp_path / "again")[0] == 0
    again = [name.replace("model.kolmo.", "model.") for name in everything(tmp_path / "small")]
    assert everything(tmp_path / "again") == again
    assert (tmp_path / "again" / "config.json").read_text("utf-8") == json.dumps(
        json.loads((source / "config.json").read_text()), indent=2, ensure_ascii=False
    ) + "\n"
    arrays = kolmo.load(tmp_path / "small")
    assert np.array_equal(arrays["up.weight"], kolmo.load(tmp_path / "small", ["up.weight"])["up.weight"])


@pytest.mark.parametrize("name", ["small.safetensors", "small.kolmo"])
def test_a_file_where_it_is_named_so(source: Path, tmp_path: Path, name: str) -> None:
    kolmo.shrink(source, tmp_path / name, **WAY)
    assert (tmp_path / name).is_file()
    kolmo.shrink(source, tmp_path / "small", **WAY)
    kolmo.expand(tmp_path / "small", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").is_file()
    (source / "config.json").unlink()
    kolmo.shrink(source, tmp_path / "plain", **WAY)
    assert (tmp_path / "plain").is_file()


def test_links_and_odd_files(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "leak.txt").symlink_to(tmp_path / "secret")
    (source / "dangling.txt").symlink_to(source / "nothing")
    (source / "alias.json").symlink_to("tokenizer.json")
    (source / "loop").symlink_to(source, target_is_directory=True)
    os.mkfifo(source / "pipe")
    with open(source / "huge.txt", "wb") as file:
        file.truncate(MAX_COPIED_BYTES + 1)
    found = companions(source)
    assert "alias.json" in found.taken
    assert not {"leak.txt", "dangling.txt", "loop", "pipe", "huge.txt"} & set(found.taken)
    reasons = dict(line.rstrip(")").split(" (", 1) for line in found.left)
    assert reasons["leak.txt"] == reasons["loop"] or reasons["loop"] == "not a regular file"
    assert reasons["huge.txt"] == "larger than 64 MiB"
    assert reasons["pipe"] == "not a regular file"
    kolmo.shrink(source, tmp_path / "small", **WAY)
    assert (tmp_path / "small" / "alias.json").read_text() == "{}"
    assert not (tmp_path / "small" / "alias.json").is_symlink()


def test_a_snapshot_of_the_hub(source: Path, tmp_path: Path) -> None:
    """Its files are links to blobs beside it."""
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (blobs / name[::-1]).write_bytes((source / name).read_bytes())
        (snapshot / name).symlink_to(Path("..") / ".." / "blobs" / name[::-1])
    kolmo.shrink(snapshot, tmp_path / "small", **WAY)
    assert everything(tmp_path / "small") == ["config.json", "model.kolmo.safetensors", "tokenizer.json"]


def test_existing_targets(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    target.mkdir()
    kolmo.shrink(source, target, **WAY)  # an empty folder is as good as none
    with pytest.raises(TargetExistsError, match="use force=True"):
        kolmo.shrink(source, target, **WAY)
    (target / "old.txt").write_text("old")
    kolmo.shrink(source, target, force=True, **WAY)
    assert not (target / "old.txt").exists()
    (target / "config.json").unlink()
    with pytest.raises(KolmoError, match="may be replaced"):
        kolmo.shrink(source, target, force=True, **WAY)
    (tmp_path / "link").symlink_to(target, target_is_directory=True)
    with pytest.raises(KolmoError, match="may be replaced"):
        kolmo.shrink(source, tmp_path / "link", force=True, **WAY)
    for inside in (source, source / "small", source / "1_Pooling" / "small"):
        with pytest.raises(KolmoError):
            kolmo.shrink(source, inside, force=True, **WAY)
    assert everything(source)[:3] == [".git/config", "1_Pooling/config.json", "config.json"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_half_written_stays(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match="No space"):
        kolmo.shrink(source, tmp_path / "small", **WAY)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with TargetFolder(str(tmp_path / "two"), False, lambda _: False) as folder:
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "meanwhile").write_text("")
        with pytest.raises(TargetExistsError):
            folder.keep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "two"]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("[1]", CorruptError),
        ("{", CorruptError),
        ("[" * 100_000, CorruptError),
        ('{"quantization_config": []}', CorruptError),
        ('{"quantization_config": {"quant_method": "gptq"}}', KolmoError),
        ('{"quantization_config": {"quant_method": ["gptq"]}}', KolmoError),
    ],
)
def test_configurations_that_are_none(source: Path, tmp_path: Path, config: str, error: type[Exception]) -> None:
    (source / "config.json").write_text(config)
    with pytest.raises(error, match=r"config\.json|quantised"):
        kolmo.shrink(source, tmp_path / "small", **WAY)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_configuration_of_nulls(source: Path, tmp_path: Path) -> None:
    config = dict.fromkeys(("auto_map", "text_config", "torch_dtype", "architectures", "pad_token_id"))
    (source / "config.json").write_text(json.dumps({**config, "quantization_config": None}))
    kolmo.shrink(source, tmp_path / "small", **WAY)
    made = json.loads((tmp_path / "small" / "config.json").read_text())
    assert made == {**config, "quantization_config": {"quant_method": "kolmo", "version": 1}}
    assert run("expand", tmp_path / "small", "-o", tmp_path / "again")[0] == 0
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == config


def test_folders_that_are_not_shrunk(source: Path, tmp_path: Path) -> None:
    for folder in (source, source / "1_Pooling"):
        with pytest.raises(FormatError, match=r"has no model\.kolmo\.safetensors"):
            kolmo.load(folder)
    kolmo.shrink(source, tmp_path / "small", **WAY)
    with pytest.raises(FormatError, match="shrunk already"):
        kolmo.shrink(tmp_path / "small", tmp_path / "smaller", kolmo.Step(0.2))
    assert not (tmp_path / "smaller").exists()
