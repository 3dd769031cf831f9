"""Transformers with rotary positions: the batch as published, and the folder of transformers that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="torch is not installed; pip install 'kolmo-codelength[train]'")
pytest.importorskip("safetensors", reason="safetensors is not installed; pip install 'kolmo-codelength[train]'")

import torch

from kolmo.cli import group
from kolmo.cli.training_models import choose_settings, choose_shape
from kolmo.training.networks import transformer
from kolmo.training.networks.transformer import TransformerShape, name_of
from kolmo.training.products.transformers_folder import seen_before
from kolmo.training.settings import Budget

WORDS = [b"some", b"words", b"again", b"and", b"longer"]
TEXT = b"".join(WORDS[k * k % 5] + (b"\n" if k % 9 == 0 else b" ") for k in range(20_000))


def given(**changes: object) -> dict[str, object]:
    options: dict[str, object] = dict.fromkeys(
        ("layers", "state", "embedding", "slot", "tables", "positions", "window", "lanes", "dtype", "validate")
    )
    rest = {
        "vocabulary": "bytes",
        "published": False,
        "budget": Budget(1, "steps"),
        "seed": 1,
        "quantise_from": 1,
        "no_early_stop": False,
    }
    return {**options, **rest, "rate": 1.0, **changes}


@pytest.mark.parametrize(("name", "width", "heads"), [("200k", 64, 4), ("800k", 128, 4), ("3.2m", 256, 8)])
def test_as_published(name: str, width: int, heads: int) -> None:
    options = given(network=f"transformer-{name}", published=True)
    shape = choose_shape(options)
    assert shape == TransformerShape(4, width, heads, 2048, "rotary")
    assert name_of(shape) == f"transformer-{name}"
    assert (choose_settings(options).lanes, choose_settings(options).steps) == (32, 2048)
    assert choose_settings({**options, "published": False}).lanes == 8


@pytest.mark.parametrize("model", ["tiny", "pixels"])
def test_only_transformers_are_published(model: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT)
    asked = ["train", str(tmp_path / "a.txt"), "--model", model, "--published", "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(group, asked)
    assert done.exit_code == 2
    assert "--published is for" in done.stderr


@pytest.mark.parametrize("vocabulary", ["bytes", "bpe:300"])
def test_a_run_leaves_a_folder_of_transformers(vocabulary: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed; pip install 'kolmo-codelength[train]'")
    (tmp_path / "a.txt").write_bytes(TEXT)
    asked = ["train", str(tmp_path / "a.txt"), "--model", "transformer-200k", "--positions", "rotary", "-T", "1"]
    sizes = ["--window", "32", "--lanes", "2", "--budget", "2steps", "--vocabulary", vocabulary]
    for name, more in (("first", []), ("second", ["--init", str(tmp_path / "first")])):
        done = CliRunner().invoke(group, [*asked, *sizes, *more, "-q", "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    folder = tmp_path / "second" / "hf"
    training = json.loads((folder / "training.json").read_text())
    before = json.loads((tmp_path / "first" / "hf" / "training.json").read_text())
    assert (training["steps"], training["lanes"], training["window"], training["texts"]) == (2, 2, 32, ["a.txt"])
    assert before["bytes_before"] == 0
    assert training["bytes_before"] == before["bytes"] == seen_before(tmp_path / "first")
    assert before["bytes"] == 2 * 64 or vocabulary != "bytes"
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_attention_heads"], config["max_position_embeddings"]) == (4, 32)
    table = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert len(table) == config["vocab_size"] == training["vocabulary"]
    assert table["\u010a"] == config["bos_token_id"]  # the line end


@pytest.mark.parametrize(("steps", "most"), [(1, 1 << 28), (128, 1 << 28), (300, 1 << 28), (300, 0)])
def test_attention_is_exact(steps: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "MAX_KEPT", most)  # with 0, torch's own
    torch.manual_seed(steps)
    given = torch.randn(3, 2, 2, steps, 16).bfloat16()
    weights = torch.randn(2, 2, steps, 16)
    results = []
    for attend, dtype in ((transformer._attend, torch.bfloat16), (exact_attention, torch.float64)):
        parts = [part.to(dtype).requires_grad_() for part in given]
        attended = attend(*parts)
        torch.autograd.backward((attended.double() * weights).sum())
        results.append([attended.detach(), *(part.grad for part in parts)])
    for found, right in zip(*results, strict=True):
        assert found is not None
        assert right is not None
        assert (found.double() - right).norm() < 0.01 * right.norm() + 1e-6


def exact_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q @ k.mT / q.shape[-1] ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    attended: torch.Tensor = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
    return attended
