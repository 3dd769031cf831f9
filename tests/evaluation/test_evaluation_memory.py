"""Scores with a memory beside the model: of each document alone, the number of the compressor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="torch is not installed; pip install 'kolmo-codelength[hf]'")
pytest.importorskip("transformers", reason="transformers is not installed; pip install 'kolmo-codelength[hf]'")
pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'kolmo-codelength[eval]'")

from harness.models import stories
from kolmo.bits import to_nats
from kolmo.cli import group
from kolmo.errors import KolmoError, PredictorError
from kolmo.evaluation.evaluate import evaluate, texts
from kolmo.predictors.registry import resolve

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = (Path(__file__).parents[2] / "examples" / "sample.txt").read_bytes().decode()
SHORT = [TEXT[:250] * 2, TEXT[3000:3300], "Ende."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{stories(tmp_path_factory.mktemp('model'))}"


def test_the_number_is_the_compressors(model: str) -> None:
    (result,) = evaluate(model, texts("short", SHORT), with_memory=True)
    compressor = resolve(model)
    for row, text in zip(result.rows(), SHORT, strict=True):
        data = text.encode()
        right = to_nats(float(compressor.start(len(data)).score(data).sum()))
        assert row.memory_nats == pytest.approx(right, rel=1e-5)
    repeated, *_ = result.rows()
    assert repeated.memory_nats is not None
    assert repeated.memory_nats < 0.8 * repeated.nats


def test_documents_in_windows_side_by_side(model: str) -> None:
    """The model's own costs are those of a run without memory; those with it depend on no other document."""
    contents = [TEXT[:1500], TEXT[5000:5400], TEXT[9000:10200]]
    (plain,) = evaluate(model, texts("some", contents), block_size=96, stride=40)
    (both,) = evaluate(model, texts("some", contents), block_size=96, stride=40, with_memory=True)
    single = [evaluate(model, texts("one", [text]), block_size=96, stride=40, with_memory=True)[0] for text in contents]
    for one, two, three in zip(plain.rows(), both.rows(), (next(result.rows()) for result in single), strict=True):
        assert np.array_equal(one.token_ids, two.token_ids)
        np.testing.assert_allclose(one.token_nats, two.token_nats, atol=1e-4)
        assert one.token_memory_nats is None
        assert two.token_memory_nats is not None
        assert np.isfinite(two.token_memory_nats).all()
        assert two.memory_nats == pytest.approx(three.memory_nats, rel=1e-4)
    assert (both.record["mode"]["block"], both.record["mode"]["stride"]) == (96, 40)


def test_results_of_both_kinds_are_kept_apart_and_resumed(model: str, tmp_path: Path) -> None:
    some = texts("some", SHORT)
    (plain,) = evaluate(model, some, output=tmp_path)
    (both,) = evaluate(model, some, output=tmp_path, with_memory=True)
    assert plain.folder != both.folder
    assert "memory_nats" not in plain.metrics
    costs = both.columns()["memory_nats"]
    assert both.metrics["memory_nats"] == pytest.approx(float(np.sum(costs)))
    assert both.metrics["memory_bits_per_character"] < both.metrics["bits_per_character"]
    assert both.metrics["memory_low"] <= both.metrics["memory_bits_per_character"] <= both.metrics["memory_high"]
    (again,) = evaluate(model, some, output=tmp_path, with_memory=True)
    assert again.record["run"]["tokens"] == 0
    assert again.metrics == both.metrics
    (more,) = evaluate(model, texts("some", [*SHORT, "One more."]), output=tmp_path, with_memory=True)
    assert 0 < more.record["run"]["tokens"] < 20
    assert list(more.columns()["memory_nats"][:3]) == list(costs)


def test_a_document_without_tokens_is_stored(tmp_path: Path) -> None:
    from kolmo.evaluation.results.rows import Row
    from kolmo.evaluation.results.store import RowStore

    one = np.array([-1], np.int32)
    nats = np.array([2.5], np.float32)
    row = Row(0, "k", "", "", "", 1, 1, 1, one, -one, nats, None, nats.copy())
    RowStore(tmp_path).append([row])
    (found,) = RowStore(tmp_path).rows()
    assert (found.nats, found.memory_nats) == (2.5, 2.5)


def test_what_has_no_memory_says_so() -> None:
    with pytest.raises(PredictorError, match=r"cm:1 cannot have a memory .*; leave the argument with_memory out"):
        evaluate("cm:1", texts("some", SHORT), with_memory=True)
    with pytest.raises(KolmoError, match="leave the argument with_memory out in mode paper"):
        evaluate("cm:1", texts("some", SHORT), with_memory=True, mode="paper")


def test_the_command_prints_both(model: str, tmp_path: Path) -> None:
    corpus = tmp_path / "some.jsonl"
    corpus.write_text("".join(json.dumps({"content": text}) + "\n" for text in SHORT))
    words = ["eval", model, "cm:1", "--corpus", str(corpus), "--with-memory", "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(group, words, standalone_mode=False)
    assert found.return_value == 1
    assert len([line for line in found.output.splitlines() if line.startswith("    with memory ")]) == 1
    assert "leave --with-memory out" in found.output
