"""The leaderboard: what may not be compared is not, what is unknown stays blank, hostile names and texts do nothing."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

pytest.importorskip("pyarrow")

import kolmo
from helpers.results_made import Text, flat, write_result
from kolmo.cli import group
from kolmo.errors import KolmoError
from kolmo.evaluation.results.results import compare, load_results
from kolmo.fit.areas import study
from kolmo.fit.table import parse_table
from kolmo.report import Leaderboard, leaderboard
from kolmo.report.board import documents, models
from kolmo.report.board.results import MEASURES
from kolmo.report.board.words import compact

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(kolmo.__file__).parents[1])}
COMMAND = [sys.executable, "-m", "kolmo", "report"]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
VOID = {"meta", "input", "br", "hr"}

HOSTILE = "</script><script>alert(1)</script> <img src=x onerror=\"alert('2')\"> & <!-- \x07\u202e\u2028 ]]>"
PROSE = [
    Text(f"It was the {k}th day of the long rain, and the river had come up to the mill. " * 6, f"day {k}")
    for k in range(1, 9)
]
CODE = [Text(f"def f{k}(x):\n    return x + {k}\n" * 12, f"f{k}.py") for k in range(1, 7)]
MATHS = [Text(f"Let $x_{k}$ be a point of the plane; then $x_{k}^2 \\ge 0$. " * 8, f"math/{k}") for k in range(1, 7)]
PAPER = {"cc": PROSE, "python": CODE, "arxiv_math": MATHS}


class Page(HTMLParser):
    """What a browser makes of a page: its tags, and its visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def data(self) -> dict[str, Any]:
        return next(dict(json.loads(script)) for script in self.scripts if script.startswith("{"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models in mode paper on the paper's corpora, two of them in mode strict with references beside them."""
    folder = tmp_path_factory.mktemp("results")
    for model, bits in {"org/good": 0.40, "org/fair": 0.45, "other/poor": 0.52}.items():
        for corpus, texts in PAPER.items():
            write_result(folder, model, corpus, texts, flat(bits), mode=("paper", 1900, 512))
            if model != "other/poor":
                write_result(folder, model, corpus, texts, flat(bits + 0.1))
    write_result(folder, "small", "cc", PROSE, flat(0.9), mode=("strict", 512, 512))
    for corpus, texts in PAPER.items():
        write_result(folder, "xz", corpus, texts, flat(2.0), mode=("strict", 0, 0), kind="classical", whole=True)
        write_result(folder, "cm:5", corpus, texts, flat(1.5), mode=("strict", 0, 0), kind="predictor", split=list)
    return folder


@pytest.fixture(scope="module")
def board(results: Path) -> Leaderboard:
    return leaderboard(results)


# What may be compared


def test_a_section_is_one_rule(board: Leaderboard) -> None:
    rules = [(one.mode, one.block, one.stride) for one in board.sections]
    assert rules == [("paper", 1900, 512), ("strict", 1900, 512), ("strict", 512, 512)]
    names = [[entry.name for entry in one.entries] for one in board.sections]
    assert names[0] == ["org/good", "org/fair", "other/poor"]
    assert names[1] == ["org/good", "org/fair", "cm:5", "xz"]  # references are in all sections of mode strict
    assert names[2] == ["small", "cm:5", "xz"]
    assert [entry.name for entry in board.sections[1].entries if entry.reference] == ["cm:5", "xz"]
    assert board.sections[0].columns[0].name == "cc"


def test_averages_are_over_all_corpora_or_none(tmp_path: Path) -> None:
    for corpus, texts in PAPER.items():
        write_result(tmp_path, "whole", corpus, texts, flat(0.5))
    write_result(tmp_path, "part", "cc", PROSE, flat(0.1))
    section = leaderboard(tmp_path).sections[0]
    assert [entry.name for entry in section.entries] == ["whole", "part"]
    whole, part = section.entries
    values = [cell.values["bits_per_character"] or 0 for cell in whole.cells.values()]
    assert whole.averages["bits_per_character"] == pytest.approx(sum(values) / 3)
    assert part.averages["bits_per_character"] is None
    assert section.best == {"cc": "part"}  # of two that have it
    assert any("not evaluated on every corpus" in note for note in section.notes)


def test_another_version_of_a_corpus_is_marked_and_not_compared(tmp_path: Path) -> None:
    for model in ("one", "two"):
        write_result(tmp_path, model, "cc", PROSE, flat(0.5))
    write_result(tmp_path, "cheat", "cc", PROSE[:3], flat(0.1))
    board = leaderboard(tmp_path)
    section = board.sections[0]
    cheat = next(entry for entry in section.entries if entry.name == "cheat")
    assert not cheat.cells["cc"].current
    assert cheat.averages["bits_per_character"] is None
    assert section.entries[-1] is cheat
    assert section.best["cc"] != "cheat"
    assert ("cc", "cheat") not in section.gaps
    assert any("another version" in note and "cheat" in note for note in section.notes)
    page = Page(board.html())
    assert "†" in "".join(page.text)
    assert page.data()["sections"][0]["costs"][0][2] is None
    assert "†" in board.markdown()
    assert [row["cc_bpc"] for row in rows(board.wide()) if row["model"] == "cheat"] == [""]
    assert [row["compared"] for row in rows(board.csv()) if row["model"] == "cheat"] != ["yes"]


def test_of_two_results_of_a_model_the_one_of_the_common_version_counts(tmp_path: Path) -> None:
    for model in ("one", "two"):
        write_result(tmp_path / "a", model, "cc", PROSE, flat(0.5))
    write_result(tmp_path / "b", "one", "cc", PROSE[:3], flat(0.1))
    section = leaderboard(tmp_path).sections[0]
    assert [len(entry.cells) for entry in section.entries] == [1, 1]
    assert all(entry.cells["cc"].current for entry in section.entries)


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        write_result(tmp_path, "m", "cc", PROSE, flat(0.5), settings={"weights": "a", "dtype": dtype})
    write_result(tmp_path, "m", "cc", PROSE, flat(0.6), settings={"weights": "b", "dtype": "float32"})
    names = [entry.name for entry in leaderboard(tmp_path).sections[0].entries]
    assert len(set(names)) == 3
    assert "m (bfloat16)" in names


def test_differences_are_those_of_the_evaluation(board: Leaderboard, results: Path) -> None:
    section = board.sections[0]
    found = {(one.model, one.corpus): one for one in load_results(results) if one.mode == "paper"}
    for corpus in PAPER:
        assert section.best[corpus] == "org/good"
        wanted = compare(found["org/fair", corpus], found["org/good", corpus])
        gap = section.gaps[corpus, "org/fair"]
        assert (gap.value, gap.low, gap.high) == (wanted["value"], wanted["low"], wanted["high"])
        assert gap.clear
        assert gap.value == pytest.approx(0.05, abs=0.01)


def test_one_document_gives_no_interval(tmp_path: Path) -> None:
    for model, bits in (("one", 0.4), ("two", 0.5)):
        write_result(tmp_path, model, "cc", PROSE[:1], flat(bits))
    board = leaderboard(tmp_path)
    assert board.sections[0].best == {"cc": "one"}
    assert board.sections[0].gaps == {}
    Page(board.html())


def test_a_mode_without_bits_per_character_is_ranked_by_perplexity(tmp_path: Path) -> None:
    for model, bits in (("one", 0.5), ("two", 0.4)):
        write_result(tmp_path, model, "cc", PROSE, flat(bits), mode=("llama.cpp", 512, 0), per_text=False)
    board = leaderboard(tmp_path)
    section = board.sections[0]
    assert section.measure == "token_perplexity"
    assert [entry.name for entry in section.entries] == ["two", "one"]
    assert section.gaps == {}
    assert "perplexity" in "".join(Page(board.html()).text)
    assert rows(board.opencompass()) == []
    with pytest.raises(KolmoError, match="evaluate in mode strict"):
        board.wide()


def test_a_mode_alone(results: Path) -> None:
    assert {one.mode for one in leaderboard(results, mode="strict").sections} == {"strict"}
    with pytest.raises(KolmoError, match="no results in mode lm-eval; there are some in paper, strict"):
        leaderboard(results, mode="lm-eval")


def test_missing_tables_leave_the_numbers(tmp_path: Path) -> None:
    for model, bits in (("one", 0.4), ("two", 0.5)):
        folder = write_result(tmp_path, model, "cc", PROSE, flat(bits))
        (folder / "table.parquet").unlink()
    board = leaderboard(tmp_path)
    assert len(board.sections[0].entries) == 2
    assert 'id="documents"' not in board.html()


@pytest.mark.parametrize(
    ("part", "value"),
    [("model", None), ("model", {}), ("metrics", {"bits_per_character": "low"}), ("mode", []), ("corpus", 7)],
)
def test_a_damaged_result_is_named(tmp_path: Path, part: str, value: Any) -> None:
    path = write_result(tmp_path, "one", "cc", PROSE, flat(0.4)) / "result.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, part: value}), "utf-8")
    with pytest.raises(KolmoError, match=re.escape(f"{path}: is not a complete result; delete it")):
        leaderboard(tmp_path)


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(KolmoError, match="contains no results; make some with kolmo eval"):
        leaderboard(tmp_path)
    with pytest.raises(KolmoError, match="there are no results; make some with kolmo eval"):
        leaderboard([])


def test_a_mode_without_results_is_refused_by_the_folders_given(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        write_result(folder, "one", "cc", PROSE, flat(0.4))
    (mode,) = {result.mode for result in load_results(folders[0])}
    given = ", ".join(map(str, folders))
    with pytest.raises(KolmoError, match=re.escape(f"{given}: no results in mode llama.cpp; there are some in {mode}")):
        leaderboard(folders, mode="llama.cpp")
    with pytest.raises(KolmoError, match=r"^these results: no results in mode llama\.cpp"):
        leaderboard(load_results(folders[0]), mode="llama.cpp")
    done = run("first", "--mode", "llama.cpp", cwd=tmp_path)
    message = f"kolmo: first: no results in mode llama.cpp; there are some in {mode}\n"
    assert (done.returncode, done.stderr) == (1, message)


# The page


def test_the_page_needs_nothing_and_obeys_nobody(tmp_path: Path) -> None:
    texts = [Text(HOSTILE + "\n" + "more text of it " * 20, HOSTILE, HOSTILE, "2024-01-01"), *PROSE]
    for bits in (0.4, 0.5):
        write_result(tmp_path, f"{HOSTILE}{bits}", HOSTILE, texts, flat(bits), settings={"dtype": HOSTILE, "n": bits})
    table = tmp_path / "models.csv"
    table.write_text('model,cutoff,url,family\n*,2024-06,https://example.org/"><script>,"<b>"\n', "utf-8")
    board = leaderboard(tmp_path, title=HOSTILE, models=table)
    source = board.html()
    source.encode()
    page = Page(source)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2
    assert not {"img", "link", "iframe", "object", "base", "form"} & set(tags)
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key == "src"]
        link = attributes.get("href") or "#"
        assert link.startswith("#") or (tag == "a" and link.startswith("https://example.org/"))
    policy = next(a["content"] or "" for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = next(text for text in page.scripts if not text.startswith("{"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert "url(" not in source
    assert "@import" not in source
    shown = "".join(page.text)
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "</script><script>alert(1)" in shown  # as text
    data = page.data()
    assert HOSTILE in "".join(document["text"] for document in data["corpora"][0]["documents"])
    assert data["corpora"][0]["name"] == HOSTILE
    for text in (board.markdown(), board.csv(), board.opencompass(), board.wide()):
        assert text.encode()
    assert not re.search(r"(?<!\\)[<|`]", re.sub(r"(?m)^\| | \| | \|$", "", board.markdown()))


def test_a_lone_surrogate_does_not_stop_the_page(tmp_path: Path) -> None:
    path = write_result(tmp_path, "one", "cc", PROSE, flat(0.4)) / "result.json"
    record = json.loads(path.read_text("utf-8"))
    record["model"]["name"] = record["mode"]["name"] = "\udcff"
    path.write_text(json.dumps(record), "utf-8")
    board = leaderboard(tmp_path)
    board.html().encode()
    board.csv().encode("utf-8", "backslashreplace")


def test_the_table_needs_no_script(board: Leaderboard) -> None:
    page = Page(board.html())
    text = "".join(page.text)
    for entry in board.sections[1].entries:
        value = entry.cells["cc"].values["bits_per_character"]
        assert f"{value:.4f}" in text
    assert text.count("reference") >= 4
    for tag, attributes in page.tags:
        if tag == "td" and "data-m" in attributes:
            assert len((attributes["data-m"] or "").split()) == len(MEASURES)


def test_a_compressor_has_no_costs_of_tokens(board: Leaderboard) -> None:
    xz = next(entry for entry in board.sections[1].entries if entry.name == "xz")
    assert xz.averages["min_k"] is None
    assert xz.averages["bits_per_character"] is not None


def test_subsets_have_a_table(tmp_path: Path) -> None:
    texts = [Text(text.content, text.name, f"part {k % 2}") for k, text in enumerate(PROSE)]
    write_result(tmp_path, "one", "cc", texts, flat(0.4))
    board = leaderboard(tmp_path)
    assert "cc by subset" in "".join(Page(board.html()).text)
    found = rows(board.csv())
    assert [row["subset"] for row in found] == ["", "part 0", "part 1"]
    assert sum(int(row["documents"]) for row in found[1:]) == int(found[0]["documents"]) == len(texts)


def test_costs_with_a_memory_have_a_column_where_there_are_some(tmp_path: Path) -> None:
    folder = write_result(tmp_path, "one", "cc", PROSE, flat(0.4))
    assert "with memory" not in leaderboard(tmp_path).html()
    record = json.loads((folder / "result.json").read_text())
    record["metrics"]["memory_bits_per_character"] = 0.31234
    (folder / "result.json").write_text(json.dumps(record))
    write_result(tmp_path, "two", "cc", PROSE, flat(0.5))
    board = leaderboard(tmp_path)
    text = "".join(Page(board.html()).text)
    assert "with memory" in text
    assert text.count("0.3123") == 1
    record["metrics"]["memory_bits_per_character"] = "0.3"
    (folder / "result.json").write_text(json.dumps(record))
    with pytest.raises(KolmoError, match="is not a complete result"):
        leaderboard(tmp_path)


# Documents


def test_pieces_are_whole_characters() -> None:
    text = "né😀x"  # 1, 2, 4 and 1 bytes; 1, 1, 2 and 1 units
    lengths = np.array([0, 1, 1, 1, 2, 2, 0, 1], np.int32)  # a start, and tokens that end within characters
    nats = np.log(2) * np.array([0.5, 1, 2, 4, 8, 16, 32, np.nan], np.float32)
    units, bits = documents.pieces(text, lengths, nats.astype(np.float32))
    assert units.tolist() == [1, 1, 2, 1]
    np.testing.assert_allclose(bits, [1.5, 6, 24, 32], rtol=1e-5)
    units, bits = documents.pieces(text, lengths[:4], nats[:4].astype(np.float32))
    assert units.tolist() == [1, 1, 3]
    assert np.isnan(bits[-1])  # what no token stands for
    units, bits = documents.pieces("ab", np.zeros(1, np.int32), np.ones(1, np.float32))
    assert units.tolist() == [2]


def unpacked(record: dict[str, Any]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[Any]]:
    bits = np.frombuffer(base64.b64decode(record["bits"]), "<u2")
    if "wide" in record:
        return bits, np.frombuffer(base64.b64decode(record["wide"]), "<u2")
    if "lengths" in record:
        return bits, np.frombuffer(base64.b64decode(record["lengths"]), "u1")
    return bits, np.ones(len(bits), np.uint8)


def test_what_the_page_draws_sums_up(board: Leaderboard) -> None:
    data = Page(board.html()).data()
    assert [corpus["name"] for corpus in data["corpora"]] == ["cc", "python", "arxiv_math"]
    for section in data["sections"]:
        for corpus, entries in zip(data["corpora"], section["costs"], strict=True):
            for name, costs in zip(section["models"], entries, strict=True):
                for document, cost in zip(corpus["documents"], costs or [], strict=bool(costs)):
                    if name == "xz":
                        assert "bits" not in cost
                        continue
                    bits, lengths = unpacked(cost)
                    assert lengths.sum() == len(document["text"])
                    assert bits.sum() / 100 / document["characters"] == pytest.approx(cost["bpc"], rel=0.01)


def test_documents_are_the_ones_that_differ_and_typical_ones() -> None:
    costs = np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 5.0], [1.1, 3.0, 1.2, 1.0, 9.0, 5.0]])
    characters = np.array([500, 500, 500, 500, 10, 500])
    assert documents.pick(costs, characters, 3) == [1, 2, 0]  # the fifth is too short to say much
    assert len(documents.pick(costs, characters, 99)) == 6
    assert documents.pick(costs[:1], characters, 1) == [5]  # of one model the most expensive


@pytest.mark.parametrize("limit", [1, 100, 5000, 1 << 20])
def test_the_limit_is_kept(results: Path, limit: int) -> None:
    board = leaderboard(results, limit=limit, documents=4)
    data = Page(board.html()).data()
    shown = [document for corpus in data["corpora"] for document in corpus["documents"]]
    assert len(shown) == 12
    assert sum(len(document["text"].encode()) for document in shown) <= limit
    assert all(document["cut"] == (len(document["text"]) < document["characters"]) for document in shown)
    assert all(document["cut"] for document in shown) == (limit < 1000)
    for corpus, entries in zip(data["corpora"], data["sections"][0]["costs"], strict=True):
        for document, cost in zip(corpus["documents"], entries[0], strict=True):
            assert unpacked(cost)[1].sum() == len(document["text"])


def test_texts_that_were_not_kept_are_not_shown(tmp_path: Path) -> None:
    for model in ("one", "two"):
        write_result(tmp_path, model, "cc", PROSE, flat(0.4), keep_text=False)
    page = Page(leaderboard(tmp_path).html())
    assert "keep no texts" in "".join(page.text)
    data = page.data()
    assert {document["text"] for document in data["corpora"][0]["documents"]} == {None}
    assert all("bits" not in cost for cost in data["sections"][0]["costs"][0][0])
    write_result(tmp_path, "three", "cc", PROSE, flat(0.5))  # one that has them is enough
    data = Page(leaderboard(tmp_path).html()).data()
    assert all(document["text"] for document in data["corpora"][0]["documents"])
    assert all("bits" in cost for cost in data["sections"][0]["costs"][0][0])


def test_no_documents_are_wanted(results: Path) -> None:
    page = Page(leaderboard(results, documents=0).html())
    assert [tag for tag, _ in page.tags].count("script") == 1


# Cutoffs


def test_shipped_cutoffs_have_a_source() -> None:
    path = Path(models.__file__).with_name("cutoffs.csv")
    table = rows(path.read_text("utf-8"))
    assert len(table) > 50
    assert len({row["model"] for row in table}) == len(table)
    for row in table:
        assert re.fullmatch(r"20\d\d-\d\d", row["cutoff"])
        assert row["source"].startswith("https://")
    known = models.ModelTable()
    assert known.of("meta-llama/Llama-2-7b-hf").cutoff == "2022-09-30"
    assert known.of("Meta-Llama-3-8B.Q4_K_M").cutoff == "2023-03-31"
    assert known.of("Llama-3-70B").cutoff == "2023-12-31"
    assert known.of("somebody/Llama-2-7b-hf-finetuned").cutoff == ""


@pytest.mark.parametrize(
    ("pattern", "model", "same"),
    [
        ("Llama-2-7b", "meta-llama/llama-2-7b", True),
        ("meta-llama/Llama-2-7b", "Llama-2-7b", True),
        ("Llama-2-*", "meta-llama/Llama-2-13b-hf", True),
        ("Llama-2", "Llama-2-13b", False),
        ("a.c", "abc", False),
        ("*", "x/y", True),
        ("phi-4", "phi-4-q4_k_m", True),
        ("phi-4", "phi-4.f16", True),
    ],
)
def test_names_match(pattern: str, model: str, same: bool) -> None:
    assert models.matches(pattern, model) is same


def test_a_corpus_from_before_the_cutoff_is_flagged(tmp_path: Path) -> None:
    texts = [Text(text.content, text.name, "", f"2024-0{1 + k % 3}-10") for k, text in enumerate(PROSE)]
    for model in ("late", "middle", "early", "nobody-knows"):
        write_result(tmp_path, model, "cc", texts, flat(0.5))
    table = tmp_path / "models.csv"
    table.write_text("model,cutoff,parameters\nlate,2024,7B\nmiddle,2024-02,\nEARLY,2023-12-31,\n", "utf-8")
    board = leaderboard(tmp_path, models=table)
    seen = {entry.name: entry.cells["cc"].seen for entry in board.sections[0].entries}
    assert seen == {"late": "all", "middle": "part", "early": "", "nobody-knows": ""}
    shown = "".join(Page(board.html()).text)
    assert "may be contaminated for 2 of 3" in shown
    assert "No training cutoff is known of nobody-knows" in shown
    assert any(note.startswith("▲") for note in board.sections[0].notes)
    assert board.record()["sections"][0]["models"][0]["model"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("cutoff\nx,soon", "cutoff is 'soon', not a date; write it like"),
        ("cutoff\nx,2024-13", "not a date"),
        ("cutoff\nx,2024-02-30", "not a date"),
        ("cutoff\nx,0000", "not a date"),
        ("url\nx,javascript:alert(1)", "write one that begins with https://"),
        ("parameters\nx,many", "not a number; write it like 7000000000 or 7B"),
    ],
)
def test_bad_tables_of_models(tmp_path: Path, cell: str, message: str) -> None:
    table = tmp_path / "models.csv"
    table.write_text(f"model,{cell}\n", "utf-8")
    with pytest.raises(KolmoError, match=re.escape(f"{table}:2") + ".*" + re.escape(message)):
        models.ModelTable(table)


# Published models


def test_published_models_are_rows_beside_ones_own(board: Leaderboard, results: Path) -> None:
    with_them = leaderboard(results, published=True)
    assert [one.title for one in with_them.sections] == [one.title for one in board.sections]
    section = next(one for one in with_them.sections if one.mode == "paper")
    before = next(one for one in board.sections if one.mode == "paper")
    assert len(section.entries) == len(before.entries) + 28
    assert [entry.name for entry in section.measured] == [entry.name for entry in before.entries]
    averages = [entry.averages["bits_per_character"] for entry in section.entries]
    assert averages == sorted(averages, key=lambda value: value or 9)  # in one order with one's own
    llama = next(entry for entry in section.entries if entry.name == "Llama-3-70b")
    assert llama.averages["bits_per_character"] == pytest.approx((0.496 + 0.204 + 0.376) / 3)
    assert section.best == before.best
    assert set(section.gaps) == set(before.gaps)
    assert [one.name for one in with_them.scatter.placed] == [one.name for one in board.scatter.placed]
    page = Page(with_them.html())
    assert "28 published models" in "".join(page.text)
    assert "*Llama-3-70b* (published)" in with_them.markdown()
    long = [row for row in rows(with_them.csv()) if row["kind"] == "published"]
    assert len(long) == 28 * 3
    assert {row["compared"] for row in long} == {"no: published"}
    assert rows(with_them.wide()) == rows(board.wide())
    made = next(one for one in with_them.record()["sections"] if one["mode"] == "paper")
    assert sum(one["published"] for one in made["models"]) == 28


def test_published_models_alone_have_a_table(results: Path, tmp_path: Path) -> None:
    found = leaderboard(results, mode="strict", published=True)
    assert [(one.mode, len(one.models)) for one in found.sections] == [("strict", 2), ("strict", 1), ("paper", 0)]
    assert [column.name for column in found.sections[2].columns] == ["cc", "python", "arxiv_math"]
    assert "Qwen2-72B" in "".join(Page(found.html()).text)
    write_result(tmp_path, "one", "cc", PROSE, flat(0.4), mode=("paper", 1900, 512))
    section = leaderboard(tmp_path, published=True).sections[0]
    assert [column.name for column in section.columns] == ["cc", "python", "arxiv_math"]
    one = next(entry for entry in section.entries if entry.name == "one")
    assert one.averages["bits_per_character"] is None  # of three corpora it has one
    assert one.cells["cc"].values["bits_per_character"] is not None


# Scores


def test_models_stand_on_the_published_line(board: Leaderboard) -> None:
    found = board.scatter
    assert found.exact
    assert len(found.points) == 18
    assert [one.name for one in found.placed] == ["org/good", "org/fair", "other/poor"]
    good = found.placed[0]
    assert good.predicted.score == pytest.approx(1.445 - 2.315 * good.bpc, abs=0.002)
    assert good.predicted.low < good.predicted.score < good.predicted.high
    text = "".join(Page(board.html()).text)
    assert "the comparison is exact where all documents were taken" in text


def test_elsewhere_the_line_is_a_guess(results: Path) -> None:
    board = leaderboard(results, mode="strict")
    assert not board.scatter.exact
    assert [one.name for one in board.scatter.placed] == ["org/good", "org/fair"]
    assert "the comparison is exact only for" in "".join(Page(board.html()).text)


def test_what_the_line_says_nothing_of_is_not_drawn(tmp_path: Path) -> None:
    write_result(tmp_path, "wild", "cc", PROSE, flat(5.0))
    text = "".join(Page(leaderboard(tmp_path).html()).text)
    assert "Not drawn" in text
    assert "wild" in text


def test_scores_of_ones_own(results: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("model,MMLU,GSM8K\ngood,60,50\norg/fair,50,45\nPOOR,30,20\n", "utf-8")
    board = leaderboard(results, scores=table)
    assert board.scores.columns == "mean over 2 areas"
    assert [score for _, score in board.scatter.scored] == [55, 47.5, 25]
    own = board.scatter.own
    assert own is not None
    assert own.slope < 0
    assert "Your scores" in "".join(Page(board.html()).text)
    board = leaderboard(results, scores=table, score_columns=["mmlu"])
    assert [score for _, score in board.scatter.scored] == [60, 50, 30]
    table.write_text("model,score\ngood,0.6\n", "utf-8")
    board = leaderboard(results, scores=table)
    assert board.scatter.own is None
    assert "a line of their own needs 3" in board.scatter.note
    assert 'class="scored"' in board.html()
    table.write_text("model,colour\ngood,red\n", "utf-8")
    with pytest.raises(KolmoError, match="no column that is known to have scores; name one in the argument score"):
        leaderboard(results, scores=table)


# Other programs


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_long_csv_has_a_row_for_each_result(board: Leaderboard, results: Path) -> None:
    found = rows(board.csv())
    assert len(found) == len(load_results(results))  # references once, though they are in two sections
    row = next(row for row in found if (row["model"], row["corpus"], row["mode"]) == ("org/good", "cc", "paper"))
    record = next(
        one for one in load_results(results) if (one.model, one.corpus, one.mode) == ("org/good", "cc", "paper")
    )
    for name in ("nats", "bits_per_character", "low", "high", "min_k", "bits_per_byte", "compression_rate"):
        assert float(row[name]) == record.metrics[name]
    assert (row["block"], row["stride"], row["dtype"], row["parameters"]) == ("1900", "512", "float32", "7000000")
    assert row["compared"] == "yes"


def test_the_wide_table_is_one_that_fit_reads(results: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    scores.write_text("model,score\ngood,0.60\nfair,0.50\npoor,0.30\n", "utf-8")
    board = leaderboard(results, scores=scores)
    text = board.wide()
    assert text.splitlines()[0] == "model,family,parameters,cc_bpc,python_bpc,arxiv_math_bpc,score"
    found = study(parse_table(text.encode(), "wide.csv")).overall
    assert found.bpc == ("cc_bpc", "python_bpc", "arxiv_math_bpc")
    assert [point.score for point in found.points] == [0.6, 0.5, 0.3]
    for point, entry in zip(found.points, board.sections[0].entries, strict=True):
        assert point.bpc == pytest.approx(entry.averages["bits_per_character"])


def test_opencompass_summary(board: Leaderboard) -> None:
    lines = board.opencompass().splitlines()
    assert lines[0] == "dataset,version,metric,mode,org/good,org/fair,other/poor,cm:5,xz,small"
    section = board.sections[0]
    for line, (name, corpus) in zip(
        lines[1:4],
        [("arxiv_math", "arxiv_math"), ("commoncraw", "cc"), ("python", "python")],
        strict=True,
    ):
        digest = next(column.digest for column in section.columns if column.name == corpus)
        values = [f"{entry.cells[corpus].values['bits_per_character']:.4f}" for entry in section.entries]
        assert line == f"llm_compression-{name},{digest[:6]},bpc,unknown,{','.join(values)},-,-,-"
    assert [line.split(",")[0] for line in lines[4:]] == ["cc", "python", "arxiv_math", "cc"]
    assert [line.split(",")[3] for line in lines[4:]] == ["strict-1900-512"] * 3 + ["strict-512-512"]


def test_markdown(board: Leaderboard) -> None:
    text = board.markdown()
    assert text.startswith("# Leaderboard\n\n## Mode paper, block 1,900, stride 512\n")
    assert "| model | cc | python | arxiv\\_math | average | bits/byte | Min-20 % | parameters |" in text
    assert "| *xz* (reference) |" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in lines[:4]} == {7}


def test_the_record_is_json(board: Leaderboard) -> None:
    record = json.loads(json.dumps(board.record(), allow_nan=False))
    section = record["sections"][0]
    assert [one["model"] for one in section["models"]] == ["org/good", "org/fair", "other/poor"]
    assert set(section["models"][1]["differences"]) == set(PAPER)
    assert record["predictions_exact"]


def test_numbers_for_people() -> None:
    assert [compact(value) for value in (7, 999, 1000, 20159, 999_999, 7_241_732_096)] == [
        "7",
        "999",
        "1K",
        "20.2K",
        "1M",
        "7.24B",
    ]


# The command


def spawn(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, which saves the start of another."""
    words, before = ["report", *map(str, arguments)], Path.cwd()
    os.chdir(cwd)
    try:
        result = CliRunner().invoke(group, words, standalone_mode=False)
    finally:
        os.chdir(before)
    if isinstance(result.exception, click.ClickException):
        return subprocess.CompletedProcess(
            words, result.exception.exit_code, result.stdout, result.exception.format_message()
        )
    if result.exception is not None:
        raise result.exception
    return subprocess.CompletedProcess(words, result.return_value or 0, result.stdout, result.stderr)


def test_command(results: Path, tmp_path: Path) -> None:
    done = spawn(results, "--title", "Fresh & new", "--markdown", "t.md", "--csv", "t.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "<title>Fresh &amp; new</title>" in (tmp_path / "report.html").read_text("utf-8")
    assert (tmp_path / "t.md").read_text("utf-8").startswith("# Fresh & new\n")
    record = json.loads(done.stdout)
    assert record["outputs"] == {"page": "report.html", "markdown": "t.md", "csv": "t.csv"}
    assert len(record["sections"]) == 3
    before = (tmp_path / "report.html").read_bytes()
    again = run(results, "-v", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr == "kolmo: report.html: already exists; overwrite it with -f, or choose another name\n"
    assert run(results, "-f", "-q", cwd=tmp_path).returncode == 0
    assert (tmp_path / "report.html").read_bytes() != before  # another title
    wide = run(results, "-o", "other.html", "--wide", "-", cwd=tmp_path)
    assert wide.stdout.startswith("model,family")
    assert "kolmo: --wide has one table alone: Mode paper" in wide.stderr
    page = run(results, "-o", "-", cwd=tmp_path)
    assert page.stdout.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 1, "kolmo: nowhere: no such folder; give an output folder of `kolmo eval`\n"),
        (["."], 1, "kolmo: .: contains no results; make some with kolmo eval MODEL --corpus C -o .\n"),
        ([".", "-o", "."], 1, "kolmo: .: is a folder; name a file in it\n"),
        ([".", "--markdown", "-", "--json"], 2, "only one can have standard output"),
        ([".", "--csv", "report.html"], 2, "report.html is given twice"),
        ([".", "--score", "mmlu"], 2, "--score names a column of --scores TABLE"),
        ([], 2, "Missing argument 'RESULTS...'"),
    ],
)
def test_command_refuses(tmp_path: Path, arguments: Sequence[str], status: int, message: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_command_names_a_missing_table(results: Path, tmp_path: Path) -> None:
    done = run(results, "--models", "none.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "kolmo: none.csv: No such file or directory; check the name\n")


# In a browser


def browse(page: str, folder: Path, anchor: str = "", script: str = "") -> str:
    """The page's text as it is once its script, and another one, have run."""
    if not CHROMIUM:
        pytest.skip("no chromium or chrome is installed")
    if script:
        page = re.sub(r"<meta http-equiv=.*?>", "", page, count=1).replace(
            "</body>", f"<script>{script}</script></body>"
        )
    path = folder / "page.html"
    path.write_text(page, "utf-8")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    done = subprocess.run(
        [CHROMIUM, *arguments, "--virtual-time-budget=5000", "--dump-dom", f"{path.as_uri()}{anchor}"],
        capture_output=True,
        timeout=120,
    )
    if done.returncode or not done.stdout:
        pytest.skip("chromium does not run here")
    return done.stdout.decode()


def element(dom: str, name: str) -> str:
    """What is in an element, up to the first end of its kind."""
    match = re.search(rf'<(\w+)[^>]* id="{name}"[^>]*>(.*?)</\1>', dom, re.DOTALL)
    assert match
    return match[2]


def test_browser_shows_a_document(board: Leaderboard, tmp_path: Path) -> None:
    dom = browse(board.html(), tmp_path, "#documents?section=1&corpus=1&document=2&a=0&b=1&view=both")
    head = element(dom, "x-head")
    data = Page(board.html()).data()
    document = data["corpora"][1]["documents"][2]
    assert document["name"] in head
    assert "xz" in head
    text = re.search(r'id="x-text" class="both">(.*?)<script', dom, re.DOTALL)
    assert text
    panels = re.findall(r'<div class="text">(.*?)</div>', text[1], re.DOTALL)
    assert len(panels) == 2
    for panel, cost in zip(panels, data["sections"][1]["costs"][1][:2], strict=True):
        assert panel.count("<i ") == len(unpacked(cost[2])[0])
        assert re.sub(r"<em>↵</em>|<[^>]+>", "", panel).replace("&gt;", ">") == document["text"]


def test_browser_shows_differences_where_both_end(board: Leaderboard, tmp_path: Path) -> None:
    anchor = "#documents?section=1&corpus=0&document=0&a=0&b=2&view=difference"
    script = """
        const parts = document.querySelector("#x-text .text").parts;
        document.title = JSON.stringify([parts.length, parts.reduce((sum, one) => sum + one.bits, 0)]);
    """
    dom = browse(board.html(), tmp_path, anchor, script)
    count, total = json.loads(element_title(dom))
    data = Page(board.html()).data()
    costs = [data["sections"][1]["costs"][0][model][0] for model in (0, 2)]
    assert data["sections"][1]["models"][2] == "cm:5"
    assert count == len(unpacked(costs[0])[0])  # every token ends where a byte does
    wanted = (unpacked(costs[0])[0].sum() - unpacked(costs[1])[0].astype(int).sum()) / 100
    assert total == pytest.approx(wanted, abs=1e-6)


def element_title(dom: str) -> str:
    match = re.search(r"<title>(.*?)</title>", dom)
    assert match
    return match[1].replace("&quot;", '"')


def test_browser_sorts_and_changes_the_metric(board: Leaderboard, tmp_path: Path) -> None:
    script = """
        const section = document.getElementById("section-1");
        const table = section.querySelector("table");
        const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].querySelector("span").lastChild.data);
        const found = [names()];
        table.tHead.rows[0].cells[1].querySelector("button").click();
        found.push(names());
        table.tHead.rows[0].cells[1].querySelector("button").click();
        found.push(names());
        table.tHead.rows[0].cells[0].querySelector("button").click();
        found.push(names());
        const select = section.querySelector("select");
        const before = table.tBodies[0].rows[1].cells[1].textContent;
        select.value = "5";
        select.dispatchEvent(new Event("change"));
        found.push(table.tBodies[0].rows[3].cells[1].textContent, table.tBodies[0].rows[1].cells[1].textContent);
        table.tHead.rows[0].cells[1].querySelector("button").click();
        found.push(names());
        select.value = "0";
        select.dispatchEvent(new Event("change"));
        document.title = JSON.stringify([...found, table.textContent.includes(before)]);
    """
    found = json.loads(element_title(browse(board.html(), tmp_path, "", script)))
    assert found[0] == ["good", "fair", "cm:5", "xz"]
    assert found[1] == ["good", "fair", "cm:5", "xz"]
    assert found[2] == ["xz", "cm:5", "fair", "good"]
    assert found[3] == ["cm:5", "fair", "good", "xz"]  # org/ counts
    assert found[4] == ""  # a compressor has no Min-K
    fair = next(entry for entry in board.sections[1].entries if entry.name == "org/fair")
    assert found[5] == f"{fair.cells['cc'].values['min_k']:.3f}"
    assert found[6][-1] == "xz"  # what has none is last
    assert found[7] is True


def test_browser_says_what_a_token_costs(board: Leaderboard, tmp_path: Path) -> None:
    script = """
        const token = document.querySelectorAll("#x-text .text > i")[3];
        token.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        document.title = JSON.stringify([
            document.getElementById("tip").textContent,
            token.className,
            document.querySelectorAll(".text i.near").length,
        ]);
    """
    dom = browse(board.html(), tmp_path, "#documents?section=1&corpus=0&document=0&a=0&b=2&view=both", script)
    tip, name, near = json.loads(element_title(dom))
    cost = Page(board.html()).data()["sections"][1]["costs"][0][0][0]
    bits, lengths = unpacked(cost)
    assert tip.startswith(f"{bits[3] / 100:.2f} bitsprobability ")
    assert "on" in name.split()
    assert near == lengths[3]  # the other model's tokens are bytes


def test_browser_holds_hostile_texts(tmp_path: Path) -> None:
    texts = [Text(HOSTILE + "\n" + "more text of it " * 20, HOSTILE), *PROSE]
    for bits in (0.4, 0.5):
        write_result(tmp_path, f"{HOSTILE}{bits}", HOSTILE, texts, flat(bits))
    source = leaderboard(tmp_path).html()
    dom = browse(source, tmp_path, "#documents?document=0&view=both&a=0&b=1")
    assert "<script>alert" not in dom
    assert "<img" not in dom
    assert "\\u202e" in dom
    assert 'class="js"' in dom


def test_browser_says_why_there_is_no_text(tmp_path: Path) -> None:
    for model in ("one", "two"):
        write_result(tmp_path, model, "cc", PROSE, flat(0.4), keep_text=False)
    dom = browse(leaderboard(tmp_path).html(), tmp_path)
    assert "Its text was not kept." in dom
