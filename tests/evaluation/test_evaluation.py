"""Evaluation by predictors of bytes: runs, resumption, results, the command. No torch needed."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kolmo
from kolmo.corpus import Corpus, Document
from kolmo.errors import KolmoError, PredictorError
from kolmo.evaluation import evaluate as evaluating
from kolmo.evaluation import run as running
from kolmo.evaluation import run_state as run_states
from kolmo.evaluation.engines.engines import LocalEngine
from kolmo.evaluation.evaluate import evaluate, texts
from kolmo.evaluation.opening import full_spec, open_scorer
from kolmo.evaluation.results.results import Evaluation, compare, load_results
from kolmo.evaluation.results.rows import document_key
from kolmo.evaluation.results.store import RowStore, read_columns
from kolmo.evaluation.windows.modes import MODES
from kolmo.evaluation.windows.passages import Nats, PassageBatch, ScoredPassage, batches
from kolmo.predictors.registry import resolve

pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'kolmo-codelength[eval]'")

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.txt"
TEXT = SAMPLE.read_bytes().decode()
TEXTS = ["One text, short.", "Ein anderer: ä ö ü ß.", "third " * 40, "x"]


class Counting(LocalEngine):
    """Counts what it is asked for; fails after some batches, where it is told to."""

    def __init__(self, spec: str, last: int = 1 << 30) -> None:
        super().__init__(open_scorer(spec))
        self.seen = 0
        self.last = last

    def run(self, batches: Any) -> Any:
        for batch, nats in super().run(batches):
            self.seen += sum(passage.scored for passage in batch)
            yield batch, nats
            self.last -= 1
            if self.last == 0:
                raise KeyboardInterrupt


def go(engine: Counting, corpus: Corpus, folder: Path) -> dict[str, Any]:
    mode = running.mode_for(engine, MODES["strict"])
    found = running.scan(corpus, stream=mode.stream)
    return running.run(engine, corpus, mode, RowStore(folder), found)


def test_code_lengths_are_the_predictor_s() -> None:
    result = evaluate("cm:3", texts("some", TEXTS))[0]
    predictor = resolve("cm:3")
    bits = [predictor.start(len(text.encode())).score(text.encode()).sum() for text in TEXTS]
    assert result.metrics["nats"] == pytest.approx(sum(bits) * math.log(2), rel=1e-6)
    assert result.bits_per_character == pytest.approx(sum(bits) / sum(map(len, TEXTS)), rel=1e-6)
    assert result.metrics["bits_per_byte"] == pytest.approx(sum(bits) / sum(len(t.encode()) for t in TEXTS), rel=1e-6)
    assert result.metrics["compression_rate"] == pytest.approx(result.metrics["bits_per_byte"] / 8)
    assert result.metrics["tokens"] == result.metrics["bytes"]
    rows = list(result.rows(content=True))
    assert [row.content for row in rows] == TEXTS
    assert [row.nats for row in rows] == pytest.approx([value * math.log(2) for value in bits], rel=1e-6)
    assert [row.words for row in rows] == [3, 6, 41, 1]


def test_a_compressor_counts_by_its_file() -> None:
    import gzip

    result = evaluate("classical:gzip", texts("some", [TEXT[:5000], TEXT[5000:9000]]))[0]
    sizes = [len(gzip.compress(part.encode(), 9, mtime=0)) for part in (TEXT[:5000], TEXT[5000:9000])]
    assert result.metrics["compression_rate"] == pytest.approx(sum(sizes) / 9000, rel=2e-3)
    assert result.metrics["bits_per_token"] is None  # a document is no token
    assert result.metrics["min_k"] is None


def test_more_documents_score_only_the_new_ones(tmp_path: Path) -> None:
    documents = [Document(text, name=str(k)) for k, text in enumerate(TEXTS)]
    for limit, new in ((2, TEXTS[:2]), (4, TEXTS[2:]), (3, [])):
        engine = Counting("cm:1")
        result = go(engine, Corpus("some", "some", documents, limit), tmp_path)
        assert engine.seen == sum(len(text.encode()) for text in new)
        assert result["metrics"]["documents"] == limit
    assert RowStore(tmp_path).keys() == {document_key(text) for text in TEXTS}  # a lower limit loses nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "table.parquet"]


def test_another_run_waits_while_a_result_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its documents replace those of this run in the table, before which the result of this run must be there."""
    others: list[threading.Thread] = []

    def read_late(folder: Path, documents: int) -> dict[str, Any]:
        if not others:
            others.append(threading.Thread(target=lambda: go(Counting("cm:1"), texts("some", TEXTS[2:3]), tmp_path)))
            others[0].start()
            others[0].join(0.5)
            assert others[0].is_alive()
        return read_columns(folder, documents)

    monkeypatch.setattr(running, "read_columns", read_late)
    result = go(Counting("cm:1"), texts("some", TEXTS[:2]), tmp_path)
    others[0].join()
    assert result["metrics"] == go(Counting("cm:1"), texts("some", TEXTS[:2]), tmp_path / "alone")["metrics"]
    assert next(RowStore(tmp_path).table()).key == document_key(TEXTS[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "result.json", "table.parquet"]


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_states, "GROUP_CHARACTERS", 1)
    corpus = texts("some", TEXTS * 3 + [TEXT[:2000]])
    engine = Counting("cm:1", last=2)
    with pytest.raises(KeyboardInterrupt):
        go(engine, corpus, tmp_path)
    assert [path.name[:5] for path in tmp_path.iterdir()] == ["part-"]
    again = Counting("cm:1")
    result = go(again, corpus, tmp_path)
    whole = go(Counting("cm:1"), corpus, tmp_path / "other")
    assert result["metrics"] == whole["metrics"]
    assert 0 < again.seen < sum(len(document.content.encode()) for document in corpus)


def test_a_document_that_comes_twice_counts_twice() -> None:
    once, twice = (evaluate("cm:1", texts("some", TEXTS * times))[0].metrics for times in (1, 2))
    assert twice["nats"] == pytest.approx(2 * once["nats"])
    assert twice["documents"] == 2 * once["documents"]


def test_labels_come_from_the_corpus(tmp_path: Path) -> None:
    def table(documents: list[Document]) -> list[tuple[str, str, str]]:
        go(Counting("cm:1"), Corpus("some", "some", documents), tmp_path)
        return [(row.name, row.subset, row.date) for row in RowStore(tmp_path).table()][: len(documents)]

    documents = [
        Document(text, subset, name, meta={"date": day})
        for text, subset, name, day in (
            (TEXTS[0], "python", "first", "2026-01-01"),
            (TEXTS[1], "python", "second", "2026-01-02"),
            (TEXTS[0], "cpp", "third", "2026-01-03"),
        )
    ]
    labels = [(one.name, one.subset, one.date) for one in documents]
    assert table(documents) == labels
    changed = [Document(one.content, f"new {one.subset}", f"new {one.name}") for one in documents]
    assert table(changed) == [(one.name, one.subset, "") for one in changed]  # nothing was left to score
    assert table(documents[:2]) == labels[:2]
    assert table(documents) == labels  # with one that a lower limit left out
    assert table(documents[::-1]) == labels[::-1]


def test_a_text_that_comes_twice_is_scored_once(tmp_path: Path) -> None:
    engine = Counting("cm:1")
    result = go(engine, texts("some", [TEXTS[0], TEXTS[2], TEXTS[0]]), tmp_path)
    assert engine.seen == len(TEXTS[0]) + len(TEXTS[2])
    assert result["corpus"]["repeated"] == 1
    assert result["corpus"]["repeats"] == [{"name": "text 2", "first": "text 0"}]


def test_subsets_that_share_a_text(tmp_path: Path) -> None:
    parts = {"python": [TEXT[:900], TEXT[900:1500]], "cpp": [TEXT[:900], TEXT[2000:2300]]}
    documents = [Document(text, subset) for subset, contents in parts.items() for text in contents]
    result = evaluate("cm:1", Corpus("some", "some", documents))[0]
    for subset, contents in parts.items():
        alone = evaluate("cm:1", texts("alone", contents))[0].metrics
        found = result.record["subsets"][subset]
        assert {name: found[name] for name in ("documents", "characters", "bytes", "words")} == {
            name: alone[name] for name in ("documents", "characters", "bytes", "words")
        }
        assert found["nats"] == pytest.approx(alone["nats"])
        assert found["min_k"] == pytest.approx(alone["min_k"])


def test_equal_documents_are_paired_one_to_one(tmp_path: Path) -> None:
    one, other = (
        evaluate(model, texts("some", contents), output=tmp_path)[0]
        for model, contents in (("cm:1", [*TEXTS, TEXTS[0]]), ("cm:4", [TEXTS[0], *TEXTS]))
    )
    found = compare(one, other)
    assert found["documents"] == len(TEXTS) + 1
    assert found["value"] == pytest.approx((one.bits_per_character or 0) - (other.bits_per_character or 0))
    (tmp_path / "b").mkdir()
    alone = evaluate("cm:4", texts("some", ["nothing in common"]), output=tmp_path / "b")[0]
    with pytest.raises(KolmoError, match="no document in common"):
        compare(one, alone)
    assert Evaluation([one, alone]).differences() == []


def test_equal_documents_are_one_draw() -> None:
    parts = [TEXT[k * 900 : (k + 1) * 900] for k in range(6)]
    once, thrice = (evaluate("cm:1", texts("some", parts * times))[0].metrics for times in (1, 3))
    assert thrice["bits_per_character"] == pytest.approx(once["bits_per_character"])
    assert (thrice["low"], thrice["high"]) == pytest.approx((once["low"], once["high"]))


def test_two_documents_have_no_interval(tmp_path: Path) -> None:
    for contents, known in ((TEXTS[:2], False), ([TEXTS[0]] * 9 + [TEXTS[1]], False), (TEXTS[:3], True)):
        found = evaluate(["cm:1", "cm:4"], texts("some", contents))
        (difference,) = found.differences()
        for facts in (found[0].metrics, difference):
            assert [facts[name] is not None for name in ("low", "high")] == [known, known]


def test_a_changed_corpus_is_scored_anew(tmp_path: Path) -> None:
    first = go(Counting("cm:1"), texts("some", TEXTS), tmp_path)
    changed = [*TEXTS[:2], "another", TEXTS[3]]
    engine = Counting("cm:1")
    second = go(engine, texts("some", changed), tmp_path)
    assert engine.seen == len("another")
    assert first["corpus"]["digest"] != second["corpus"]["digest"]
    assert RowStore(tmp_path).keys() == {document_key(text) for text in changed}


def test_a_corpus_that_changes_meanwhile_is_noticed() -> None:
    class Changing(list[Document]):
        def __iter__(self) -> Iterator[Document]:
            yield from super().__iter__()
            self[1] = Document("something else")

    with pytest.raises(KolmoError, match="document 1 changed while it was read"):
        evaluate("cm:1", Corpus("some", "some", Changing(Document(text) for text in TEXTS)))


def test_models_do_not_share_rows(tmp_path: Path) -> None:
    evaluate(["cm:1", "cm:2", "classical:xz"], texts("some", TEXTS), output=tmp_path)
    found = load_results(tmp_path)
    assert len({result.folder for result in found}) == 3
    assert len({result.bits_per_character for result in found}) == 3


def test_subsets_and_dates(tmp_path: Path) -> None:
    documents = [
        Document(text, subset, meta={"date": f"2026-0{k + 1}-05"})
        for k, (text, subset) in enumerate(zip(TEXTS, ["b", "a", "b", "a"], strict=True))
    ]
    result = evaluate("cm:1", Corpus("some", "some", documents))[0]
    assert list(result.record["subsets"]) == ["b", "a"]
    assert result.record["subsets"]["a"]["characters"] == len(TEXTS[1]) + len(TEXTS[3])
    assert sum(part["nats"] for part in result.record["subsets"].values()) == pytest.approx(result.metrics["nats"])
    assert result.record["corpus"]["first_date"] == "2026-01-05"
    assert result.record["corpus"]["last_date"] == "2026-04-05"


def test_differences_are_paired() -> None:
    parts = [TEXT[k * 1500 : (k + 1) * 1500] for k in range(30)]
    found = evaluate(["cm:1", "cm:4"], texts("some", parts))
    (difference,) = found.differences()
    a, b = (result.bits_per_character for result in found)
    assert a is not None
    assert b is not None
    assert difference["value"] == pytest.approx(a - b)
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert difference["wins"] == 0
    spread = [result.metrics["high"] - result.metrics["low"] for result in found]
    assert difference["high"] - difference["low"] < min(spread)  # what is hard for both cancels
    mirror = compare(found[1], found[0])
    assert mirror["value"] == pytest.approx(-difference["value"])


def test_results_as_tables() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    found = evaluate(["cm:1", "classical:bz2"], texts("some", TEXTS))
    frame = found.to_pandas()
    assert list(frame["model"]) == ["cm:1", "bz2"]
    assert frame["bits_per_character"].notna().all()
    documents = found[0].to_pandas()
    assert isinstance(documents, pandas.DataFrame)
    total = (documents["bits_per_character"] * documents["characters"]).sum() / documents["characters"].sum()
    assert total == pytest.approx(found[0].bits_per_character)
    pytest.importorskip("datasets", reason="datasets is not installed")
    assert found.to_dataset().column_names[:3] == ["model", "corpus", "mode"]


def test_the_table_opens_elsewhere(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    result = evaluate("cm:1", texts("some", TEXTS), output=tmp_path)[0]
    frame = pandas.read_parquet(result.folder / "table.parquet")
    assert list(frame["content"]) == TEXTS
    assert [float(np.sum(nats, dtype=np.float64)) for nats in frame["token_nats"]] == pytest.approx(list(frame["nats"]))
    assert [int(sum(sizes)) for sizes in frame["token_bytes"]] == list(frame["bytes"])


def test_texts_can_be_left_out(tmp_path: Path) -> None:
    result = evaluate("cm:1", texts("some", TEXTS), output=tmp_path, keep_text=False)[0]
    assert [row.content for row in result.rows(content=True)] == [None] * 4


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    some = texts("some", TEXTS)
    with pytest.raises(KolmoError, match="reads whole documents"):
        evaluate("cm:1", some, mode="paper")
    with pytest.raises(KolmoError, match="choose from strict"):
        evaluate("cm:1", some, mode="loose")
    with pytest.raises(KolmoError, match="two corpora are named some"):
        evaluate("cm:1", [some, some])
    with pytest.raises(PredictorError, match="does not use the argument dtype"):
        evaluate("cm:1", some, dtype="bfloat16")
    with pytest.raises(PredictorError, match="unknown predictor"):
        evaluate("nonsense:1", some)
    with pytest.raises(KolmoError, match="holds no text"):
        evaluate("cm:1", texts("none", ["", ""]))
    (tmp_path / "some").mkdir()
    with pytest.raises(KolmoError):
        load_results(tmp_path / "missing")


def test_specs_in_short(tmp_path: Path) -> None:
    assert full_spec(str(tmp_path)) == f"hf:{tmp_path}"
    assert full_spec("org/name") == "hf:org/name"
    assert full_spec("org/name@main") == "hf:org/name@main"
    assert full_spec("models/a.gguf") == "gguf:models/a.gguf"
    assert full_spec("http://localhost:8000/v1") == "api:http://localhost:8000/v1"
    for spec in ("cm:5", "classical:xz", "hf:org/name", "gguf:a.gguf", "neural"):
        assert full_spec(spec) == spec


def test_damaged_results_are_named(tmp_path: Path) -> None:
    result = evaluate("cm:1", texts("some", TEXTS), output=tmp_path)[0]
    table = result.folder / "table.parquet"
    table.write_bytes(table.read_bytes()[:-30])
    with pytest.raises(KolmoError, match=r"table\.parquet: cannot be read"):
        evaluate("cm:1", texts("some", TEXTS), output=tmp_path)
    (result.folder / "result.json").write_text("{}")
    with pytest.raises(KolmoError, match=r"result\.json: is not a result"):
        load_results(tmp_path)
    (result.folder / "result.json").write_text('{"format": 99}')
    with pytest.raises(KolmoError, match="upgrade kolmo"):
        load_results(tmp_path)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(Counting("cm:1"), texts("some", TEXTS[:2]), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        go(Counting("cm:1"), texts("some", TEXTS), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def passages(lengths: list[int]) -> Iterator[ScoredPassage]:
    for k, length in enumerate(lengths):
        yield ScoredPassage(np.zeros(length, np.int64), 1, k)


def test_batches_pad_little() -> None:
    lengths = np.random.default_rng(0).integers(2, 1900, 500).tolist()
    found = list(batches(passages(lengths), 8, 1 << 40))
    assert sorted(passage.place for batch in found for passage in batch) == list(range(500))
    assert max(map(len, found)) == 8
    padded = sum(len(batch) * max(len(passage.tokens) for passage in batch) for batch in found)
    assert padded < 1.03 * sum(lengths)
    limited = list(batches(passages(lengths), 1 << 30, 4000))
    assert all(len(b) == 1 or len(b) * max(len(passage.tokens) for passage in b) <= 4000 for b in limited)


def test_batches_are_made_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_states, "GROUP_CHARACTERS", 1)
    read = []

    class Watched(list[Document]):
        def __iter__(self) -> Iterator[Document]:
            for document in super().__iter__():
                read.append(document)
                yield document

    ahead = []

    class Slow(Counting):
        def run(self, batches: Any) -> Any:
            for done, (batch, nats) in enumerate(super().run(batches)):
                ahead.append(len(read) - len(documents) - done)
                yield batch, nats

    documents = Watched(Document(f"text {k}") for k in range(40))
    evaluating_engine = Slow("cm:1")
    mode = running.mode_for(evaluating_engine, MODES["strict"])
    corpus = Corpus("some", "some", documents)
    found = running.scan(corpus, stream=False)
    state = run_states.RunState(evaluating_engine, mode, _NoStore(), found, True, lambda size: None)  # type: ignore[arg-type]
    for batch, nats in evaluating_engine.run(state.batches(corpus, None)):
        state.take(batch, nats)
    assert max(ahead) <= 2


class _NoStore:
    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()

    def keys(self) -> set[str]:
        return set()

    def append(self, rows: Any) -> None:
        """Nowhere."""


def test_scoring_is_called_once_for_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[PassageBatch] = []
    scorer = open_scorer("cm:1")
    score = scorer.score

    def counted(batch: PassageBatch) -> list[Nats]:
        calls.append(batch)
        return score(batch)

    monkeypatch.setattr(scorer, "score", counted)
    monkeypatch.setattr(evaluating, "open_scorer", lambda spec, options: scorer)
    evaluate("cm:1", texts("some", TEXTS))
    assert sum(map(len, calls)) == len(TEXTS)


def test_the_command(tmp_path: Path) -> None:
    from kolmo.cli import group

    (tmp_path / "corpus").mkdir()
    for k, text in enumerate(TEXTS):
        (tmp_path / "corpus" / f"{k}.txt").write_bytes(text.encode())
    base = ["eval", "cm:1", "classical:xz", "--corpus", str(tmp_path / "corpus"), "-o", str(tmp_path / "out")]
    shown = CliRunner().invoke(group, base, standalone_mode=False)
    assert shown.return_value == 0
    assert "corpus: 4 documents" in shown.stdout
    assert "xz - cm:1: +" in shown.stdout
    lines = CliRunner().invoke(group, [*base, "--json"], standalone_mode=False).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["model"]["name"] for record in records] == ["cm:1", "xz"]
    assert records[0]["run"]["tokens"] == 0  # nothing new
    named = CliRunner().invoke(
        group, [*base[:-4], f"--corpus=a={SAMPLE}", "--limit=1", "-q", "-o", str(tmp_path / "out")]
    )
    assert named.exit_code == 0
    assert (tmp_path / "out" / "cm-1" / "a").is_dir()
    failed = CliRunner().invoke(group, ["eval", "cm:1", "--corpus", str(tmp_path / "nothing")], standalone_mode=False)
    assert failed.return_value == 1
    assert "nothing" in failed.stderr
    half = CliRunner().invoke(group, [*base, "hf:" + str(tmp_path / "no-model")], standalone_mode=False)
    assert half.return_value == 1
    assert "corpus: 4 documents" in half.stdout  # the others are shown


def run_command(*arguments: object) -> Any:
    from kolmo.cli import group

    return CliRunner().invoke(group, ["eval", *map(str, arguments)], standalone_mode=False)


def test_a_corpus_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    for name, data in (("good", b'{"content": "some text"}\n'), ("bad", b'{"content": "a"}\n{"cont'), ("empty", b"")):
        (tmp_path / f"{name}.jsonl").write_bytes(data)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "good.jsonl").write_bytes(b'{"content": "of the same name"}\n')
    corpora = [tmp_path / name for name in ("missing", "bad.jsonl", "empty.jsonl", "good.jsonl", "other/good.jsonl")]
    given = [f"--corpus={path}" for path in corpora]
    done = run_command("cm:1", "classical:xz", "-o", tmp_path / "out", *given)
    assert done.return_value == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 4  # one for each corpus, not for each model
    for line, part in zip(
        lines, ("missing: no such", "bad.jsonl:2: is not a JSON", "holds no text", "named good"), strict=True
    ):
        assert part in line
    assert done.stdout.startswith("good: 1 documents")
    assert sorted(path.name for path in tmp_path.glob("out/*/*")) == ["good", "good"]
    records = [
        json.loads(line) for line in run_command("cm:1", "-o", tmp_path / "out", *given, "--json").stdout.splitlines()
    ]
    assert [record.get("file") for record in records] == [str(corpora[k]) for k in (0, 1, 2, 4)] + [None]
    assert run_command("cm:1", "-o", tmp_path / "out", *given[:3]).return_value == 1


def test_a_mode_that_a_corpus_is_too_short_for_goes_on_with_the_next(tmp_path: Path) -> None:
    from kolmo.evaluation.evaluate import EvaluationPlan, evaluate_model

    told = []

    class Broken(list[Document]):
        """Changes between the first look and the second."""

        def __iter__(self) -> Iterator[Document]:
            yield from super().__iter__()
            self[0] = Document("something else")

    corpora = [Corpus("broken", "broken", Broken([Document("text")])), texts("good", TEXTS)]
    found = evaluate_model(
        "cm:1", corpora, EvaluationPlan(), tmp_path, failed=lambda corpus, error: told.append((corpus.name, error))
    )
    assert [result.corpus for result in found] == ["good"]
    assert [name for name, _ in told] == ["broken"]
    again = [Corpus("broken", "broken", Broken([Document("text")]))]
    with pytest.raises(KolmoError, match="changed while"):
        list(evaluate_model("cm:1", again, EvaluationPlan(), tmp_path))


def test_the_command_counts_and_names_what_repeats(tmp_path: Path) -> None:
    lines = [{"content": f"text {k % 3}", "subset": "ab"[k % 2]} for k in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_command("cm:1", f"--corpus={tmp_path / 'a.jsonl'}", "-o", tmp_path / "out")
    assert done.return_value == 0
    (line,) = done.stderr.splitlines()
    assert "a: 6 of 9 documents repeat the text of an earlier one" in line
    assert "a.jsonl:4 has the text of a.jsonl:1" in line
    assert "3 more (-v lists them)" in line
    done = run_command("cm:1", f"--corpus={tmp_path / 'a.jsonl'}", "-o", tmp_path / "out", "-v")
    assert "a.jsonl:9 has the text of a.jsonl:3" in done.stderr


def test_the_command_names_skipped_files_after_the_last_text(tmp_path: Path) -> None:
    corpus = tmp_path / "some"
    corpus.mkdir()
    (corpus / "a.txt").write_bytes(b"good")
    (corpus / "z.txt").write_bytes(b"caf\xe9")
    done = run_command("classical:xz", "cm:1", f"--corpus={corpus}", "-o", tmp_path / "out")
    assert done.return_value == 0
    (line,) = done.stderr.splitlines()
    assert f"{corpus / 'z.txt'}: byte 3 is not UTF-8" in line


def test_the_command_takes_columns(tmp_path: Path) -> None:
    lines = [
        {"body": text, "content": "not this", "id": f"no. {k}", "written": f"2026-01-0{k + 1}"}
        for k, text in enumerate(TEXTS)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["--column=body", "--name-column=id", "--date-column=written"]
    corpus = f"--corpus={tmp_path / 'a.jsonl'}"
    assert run_command("cm:1", corpus, *given, "-o", tmp_path / "out").return_value == 0
    result = load_results(tmp_path / "out")[0]
    assert [(row.name, row.date, row.content) for row in result.rows(content=True)] == [
        (line["id"], line["written"], line["body"]) for line in lines
    ]
    here = evaluate("cm:1", str(tmp_path / "a.jsonl"), column="body", name_column="id", date_column="written")[0]
    assert here.metrics == result.metrics
    for flag in ("--column=titel", "--name-column=titel", "--date-column=titel"):
        wrong = run_command("cm:1", corpus, flag, "-o", tmp_path / "out")
        assert wrong.return_value == 1
        assert wrong.stderr.count("\n") == 1
        assert 'no column "titel"; there is: "body", "content", "id", "written"' in wrong.stderr


def test_an_option_of_lm_eval_alone(tmp_path: Path) -> None:
    wrong = run_command("cm:1", f"--corpus={SAMPLE}", "--no-add-bos-token", "-o", tmp_path / "out")
    assert wrong.return_value == 1
    assert "--add-bos-token is only for mode lm-eval" in wrong.stderr


def test_an_option_of_joined_modes_alone(tmp_path: Path) -> None:
    wrong = run_command("cm:1", f"--corpus={SAMPLE}", "--windows=3", "-o", tmp_path / "out")
    assert wrong.return_value == 1
    assert "mode strict takes a number of documents, not of windows; leave --windows out" in wrong.stderr


def test_joined_documents() -> None:
    some = Corpus("some", "some", [Document("a", subset="x"), Document("", subset="x"), Document("b", subset="y")])
    assert [one.content for one in evaluating.joined(some, "\n\n")] == ["a\n\n\n\nb"]
    assert [one.content for one in evaluating.joined(replace(some, limit=2), "-")] == ["a-"]
    assert [one.content for one in evaluating.joined(replace(some, subset="y"), "-")] == ["b"]
    with pytest.raises(KolmoError, match='no document is of the subset "z"'):
        list(evaluating.joined(replace(some, subset="z"), "-"))
    with pytest.raises(KolmoError, match="holds no text"):
        list(evaluating.joined(Corpus("none", "none", [Document("")]), "-"))


def test_the_command_knows_all_modes() -> None:
    from kolmo.cli import options

    assert sorted(MODES) == sorted(options.MODES)


def test_a_corpus_object_is_limited() -> None:
    documents = [Document(text, subset="ab"[k % 2]) for k, text in enumerate(TEXTS)]
    some = Corpus("some", "some", documents)

    def taken(corpus: Corpus, **arguments: Any) -> list[str]:
        (result,) = evaluate("cm:1", corpus, **arguments)  # keeps the temporary folder
        return [str(row.content) for row in result.rows(content=True)]

    assert taken(some, limit=2) == TEXTS[:2]
    assert taken(some, subset="b") == TEXTS[1::2]
    assert taken(some, subset="b", limit=1) == TEXTS[1:2]
    assert taken(replace(some, limit=1), limit=3) == TEXTS[:1]
    assert taken(replace(some, subset="b"), subset="b") == TEXTS[1::2]
    assert (some.limit, some.subset) == (None, None)
    with pytest.raises(KolmoError, match="limited to the subset 'a', and has none of 'b'"):
        evaluate("cm:1", replace(some, subset="a"), subset="b")
    columns: tuple[dict[str, Any], ...] = ({"column": "a"}, {"name_column": "a"}, {"date_column": "a"})
    for given in columns:
        with pytest.raises(KolmoError, match=f"argument {next(iter(given))} is for corpora given by specification"):
            evaluate("cm:1", some, **given)


def test_counts_are_whole_numbers() -> None:
    some = texts("some", TEXTS)
    for name in ("limit", "block_size", "stride", "batch_size", "workers", "windows"):
        given: dict[str, Any] = {name: 1.5}
        with pytest.raises(TypeError, match=f"{name} must be an integer, not float"):
            evaluate("cm:1", some, **given)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        evaluate("cm:1", some, limit=0)


def test_what_is_not_text_is_named() -> None:
    with pytest.raises(TypeError, match="text 1 must be a str, not bytes"):
        texts("some", ["abc", b"abc"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="contents must be a sequence of str, not one str"):
        texts("some", "abc")
    with pytest.raises(TypeError, match="some: document 0: the content must be a str, not bytes"):
        evaluate("cm:1", Corpus("some", "some", [Document(b"abc")]))  # type: ignore[arg-type]
    with pytest.raises(KolmoError, match="some: document 1: character 2 is half of a surrogate pair"):
        evaluate("cm:1", texts("some", ["abc", "ab\ud800"]))
    with pytest.raises(TypeError, match="a model must be a str, not object"):
        evaluate([object()], texts("some", TEXTS))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a corpus must be a str or a Corpus, not object"):
        evaluate("cm:1", [object()])  # type: ignore[list-item]


def test_from_python_by_its_public_name() -> None:
    assert kolmo.evaluate is evaluate
