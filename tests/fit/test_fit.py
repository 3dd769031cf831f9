"""The line of scores over BPC: the paper's numbers, statistics, tables of all sorts, the command and its picture."""

from __future__ import annotations

import io
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kolmo.cli import group
from kolmo.errors import KolmoError, MissingExtraError
from kolmo.fit import fit, leave_one_family_out, published, read_table, student_t
from kolmo.fit.areas import Area, bpc_columns, known_areas, study
from kolmo.fit.labels import Box, Label, place
from kolmo.fit.table import MAX_TABLE_BYTES, Table, family_of, parse_table

CORPORA = ("common_crawl", "python", "arxiv_math")
SMALL = "model,family,cc,score\na1,A,0.5,0.6\na2,A,0.6,0.5\nb1,B,0.7,0.35\nb2,B,0.8,0.3\nc1,C,0.9,0.2\n"


def parsed(text: str) -> Table:
    return parse_table(text.encode(), "t.csv")


def run(*arguments: str, data: bytes | None = None) -> Result:
    return CliRunner().invoke(group, ["fit", *arguments], input=data, standalone_mode=False)


def status_of(result: Result) -> int:
    """The runner knows exit codes of exceptions only; the verbs return theirs."""
    return result.return_value if isinstance(result.return_value, int) else result.exit_code


def record_of(*arguments: str) -> dict[str, object]:
    done = run("--json", *arguments)
    assert status_of(done) == 0, done.output
    record = json.loads(done.stdout)
    assert isinstance(record, dict)
    return record


# The paper.


def test_the_published_numbers() -> None:
    overall = study(published()).overall
    assert overall.bpc == CORPORA
    assert overall.scores == (("average_score",),)
    assert overall.fit.count == len(overall.points) == 18
    assert len(overall.others) == 10
    assert overall.fit.rho == pytest.approx(-0.9401, abs=5e-5)
    assert overall.fit.error == pytest.approx(0.0283, abs=5e-5)
    assert overall.fit.intercept == pytest.approx(1.445, abs=1e-3)
    assert overall.fit.slope == pytest.approx(-2.315, abs=1e-3)


def test_the_rounded_average_is_not_taken_unless_named() -> None:
    named = study(published(), bpc=["average_bpc"]).overall
    assert named.bpc == ("average_bpc",)
    assert named.fit.slope != study(published()).overall.fit.slope


def test_the_published_averages_are_those_of_the_columns() -> None:
    table = published()
    columns = [table.numbers(column) for column in (*CORPORA, "average_bpc")]
    for *values, average in zip(*columns, strict=True):
        assert average is not None
        known = [value for value in values if value is not None]
        assert sum(known) / 3 == pytest.approx(average, abs=1e-3)


def test_published_families() -> None:
    families = dict(zip(published().models(), published().families(), strict=True))
    assert set(families.values()) == {"Llama", "Mistral", "Qwen", "DeepSeek", "Yi", "Falcon"}
    assert families["Mixtral-8x7B"] == "Mistral"
    assert families["Deepseek-llm-7b"] == "DeepSeek"


# The statistics.


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),  # from 30-digit arithmetic
    [
        (0.975, 1, 12.7062047361746933),
        (0.975, 2, 4.30265272974946179),
        (0.975, 5, 2.57058183563631478),
        (0.975, 16, 2.11990529922125421),
        (0.95, 16, 1.74588367627624943),
        (0.995, 10, 3.16927267261695071),
        (0.975, 100, 1.98397151852355189),
        (0.975, 1000, 1.9623390808264081),
        (0.9995, 3, 12.9239786366879643),
        (0.999999, 7, 14.2414696519211534),
        (0.5, 4, 0.0),
        (0.025, 16, -2.11990529922125421),
    ],
)
def test_quantiles_of_student(probability: float, freedom: int, value: float) -> None:
    assert student_t(probability, freedom) == pytest.approx(value, rel=1e-10, abs=1e-10)


@given(st.floats(0.51, 0.9999), st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_quantiles_are_symmetric_and_shrink_with_freedom(probability: float, freedom: int) -> None:
    value = student_t(probability, freedom)
    assert student_t(1 - probability, freedom) == pytest.approx(-value, rel=1e-9)
    assert student_t(probability, freedom + 1) < value
    assert student_t(probability, 10_000) < value


def test_quantiles_outside() -> None:
    for probability, freedom in ((0.0, 3), (1.0, 3), (math.nan, 3), (0.9, 0)):
        with pytest.raises(ValueError, match="no quantile"):
            student_t(probability, freedom)


pairs = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), min_size=3, max_size=30)


@given(pairs)
@settings(deadline=None)
def test_agrees_with_numpy(points: list[tuple[float, float]]) -> None:
    x, y = np.array(points).T
    assume(np.ptp(x) > 1e-3)
    assume(np.ptp(y) > 1e-3)
    line = fit(list(x), list(y))
    slope, intercept = np.polyfit(x, y, 1)
    assert line.slope == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.ptp(y) / np.ptp(x))
    assert line.intercept == pytest.approx(intercept, rel=1e-6, abs=1e-6 * (1 + abs(slope) * x.max()))
    assert line.rho == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    residuals = y - (line.intercept + line.slope * x)
    assert line.error == pytest.approx(math.sqrt(np.mean(residuals**2)), rel=1e-6, abs=1e-9)
    assert residuals.sum() == pytest.approx(0, abs=1e-6)


def test_a_line_is_found_exactly() -> None:
    x = [0.3, 0.5, 0.9, 1.0]
    line = fit(x, [2 - 3 * value for value in x])
    assert (line.slope, line.intercept, line.rho) == pytest.approx((-3, 2, -1))
    assert line.error < 1e-12
    assert str(line) == "score = 2.000 - 3.000 * BPC"
    assert str(fit(x, [100 * value for value in x])).endswith("+ 100.0 * BPC")


def test_prediction_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [8.0, 7.0, 4.0, 3.0]
    line = fit(x, y)  # 10 - 1.8 x, residuals -0.2 0.6 -0.6 0.2
    assert (line.slope, line.intercept) == pytest.approx((-1.8, 10))
    assert line.error == pytest.approx(math.sqrt(0.8 / 4))
    found = line.predict(5.0)
    margin = math.sqrt(0.8 / 2) * 4.302652729749462 * math.sqrt(1 + 1 / 4 + 2.5**2 / 5)
    assert (found.score, found.low, found.high) == pytest.approx((1.0, 1 - margin, 1 + margin))
    assert line.covers(2.5)
    assert not line.covers(5.0)


def test_intervals_hold_what_they_promise() -> None:
    draw = random.Random(7)
    held = 0
    for _ in range(2000):
        x = [draw.uniform(0.3, 0.7) for _ in range(9)]
        line = fit(x, [1.4 - 2.3 * value + draw.gauss(0, 0.03) for value in x])
        new = draw.uniform(0.3, 0.7)
        found = line.predict(new, 0.8)
        held += found.low <= 1.4 - 2.3 * new + draw.gauss(0, 0.03) <= found.high
    assert held / 2000 == pytest.approx(0.8, abs=0.03)  # three standard deviations


def test_wider_with_level_and_distance() -> None:
    line = study(published()).overall.fit

    def width(bpc: float, level: float) -> float:
        found = line.predict(bpc, level)
        return found.high - found.low

    assert width(0.45, 0.5) < width(0.45, 0.95) < width(0.36, 0.95) < width(0.36, 0.999)


@pytest.mark.parametrize(
    ("bpc", "scores", "message"),
    [
        ([0.4, 0.5], [1, 2], "needs 3 models .*not 2"),
        ([0.4, 0.5, 0.6], [1, 2], "there are 3 BPC and 2 scores"),
        ([0.4, 0.4, 0.4], [1, 2, 3], "all BPC of 3 models are equal"),
        ([0.4, 0.5, 0.6], [1, 1, 1], "all scores of 3 models are equal"),
        ([0.4, math.nan, 0.6], [1, 2, 3], "nan is out of range"),
        ([0.4, 0.5, 0.6], [1, 2, math.inf], "inf is out of range"),
        ([0.4, 0.5, 1e300], [1, 2, 3], "1e.300 is out of range"),
    ],
)
def test_no_line(bpc: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(KolmoError, match=message):
        fit(bpc, scores)


@pytest.mark.parametrize(("bpc", "level"), [(math.nan, 0.9), (1e300, 0.9), (0.5, 0), (0.5, 1), (0.5, 1 - 1e-16)])
def test_no_prediction(bpc: float, level: float) -> None:
    with pytest.raises(KolmoError, match="give"):
        study(published()).overall.fit.predict(bpc, level)


def test_leave_one_family_out_by_hand() -> None:
    held_out = leave_one_family_out([1, 2, 3, 4, 5], [1, 2, 3, 5, 3], ["A", "A", "A", "B", "B"])
    (family,) = held_out.families  # the line of A is score = BPC; B is 1 above it and 2 below
    assert (family.family, family.count) == ("B", 2)
    assert family.bias == pytest.approx(-0.5)
    assert (family.fit.slope, family.fit.intercept) == pytest.approx((1, 0))
    assert family.error == held_out.error == pytest.approx(math.sqrt(2.5))
    assert held_out.skipped == ("A",)  # two models are left without it
    assert held_out.count == 2


def test_leave_one_family_out_of_all() -> None:
    overall = study(published()).overall
    x, y = [p.bpc for p in overall.points], [p.score or 0 for p in overall.points]
    squares = []
    for family in {p.family for p in overall.points}:
        kept = [p.family != family for p in overall.points]
        line = np.polyfit(np.array(x)[kept], np.array(y)[kept], 1)
        squares += [(b - np.polyval(line, a)) ** 2 for a, b, k in zip(x, y, kept, strict=True) if not k]
    assert overall.held_out.error == pytest.approx(math.sqrt(np.mean(squares)))
    assert sum(family.count for family in overall.held_out.families) == overall.held_out.count == 18


def test_one_family_cannot_be_left_out() -> None:
    held_out = leave_one_family_out([1, 2, 3], [3, 2, 2], ["A"] * 3)
    assert (held_out.families, held_out.count, held_out.skipped) == ((), 0, ("A",))
    assert math.isnan(held_out.error)


# Columns and areas.

BENCHMARKS = {
    "knowledge & commonsense": ("nq", "Trivia QA", "ARC_c", "hellaswag", "MMLU (5-shot)"[:4]),
    "coding": ("HumanEval", "mbpp", "DS1000"),
    "mathematical reasoning": ("gsm-8k", "math", "SAT Math", "mmlu_math_accuracy"),
}
AREA_CORPORA = dict(zip(BENCHMARKS, ("cc", "python", "arxiv-math"), strict=True))


def with_benchmarks(count: int = 6, missing: str = "") -> Table:
    draw = random.Random(1)
    names = [name for benchmarks in BENCHMARKS.values() for name in benchmarks]
    lines = [",".join(["model", *AREA_CORPORA.values(), *names])]
    for n in range(count):
        cells = [f"{draw.random():.4f}" for _ in range(3 + len(names))]
        if n == 0 and missing:
            cells[3 + names.index(missing)] = ""
        lines.append(",".join([f"m{n}", *cells]))
    return parsed("\n".join(lines))


def test_benchmarks_make_areas() -> None:
    table = with_benchmarks()
    found = study(table)
    assert [part.name for part in found.parts] == list(BENCHMARKS)
    assert found.own_scores
    assert found.overall.scores == tuple(BENCHMARKS.values())
    area_means = []
    for part in found.parts:
        assert part.bpc == (AREA_CORPORA[part.name],)
        columns = np.array([table.numbers(name) for name in BENCHMARKS[part.name]], float)
        area_means.append(columns.mean(0))
        assert [point.score for point in part.points] == pytest.approx(columns.mean(0))
        assert [point.bpc for point in part.points] == table.numbers(AREA_CORPORA[part.name])
    assert [point.score for point in found.overall.points] == pytest.approx(np.mean(area_means, 0))


def test_a_missing_benchmark_leaves_the_model_without_that_area() -> None:
    found = study(with_benchmarks(missing="mbpp"))
    assert [point.model for point in found.overall.others] == ["m0"]
    assert [len(part.points) for part in found.parts] == [6, 5, 6]


def test_a_missing_corpus_leaves_the_model_out() -> None:
    found = study(parsed("model,cc,python,score\na,0.1,0.2,1\nb,0.3,,2\nc,0.4,0.6,3\nd,0.5,0.6,1\n"))
    assert [point.model for point in found.overall.points] == ["a", "c", "d"]
    assert found.notes == ("1 of 4 models lack a BPC and are left out",)
    assert len(found.parts[0].points) == 4


def test_columns_of_areas() -> None:
    table = parsed("model,cc,github,knowledge_score,Coding,maths\na,1,2,3,4,5\nb,2,4,6,7,7\nc,2,3,3,4,4\n")
    found = study(table)
    assert found.overall.scores == (("knowledge_score",), ("Coding",), ("maths",))
    assert [(part.name, part.bpc) for part in found.parts] == [
        ("knowledge & commonsense", ("cc",)),
        ("coding", ("github",)),
    ]


def test_a_score_column_is_the_overall_score() -> None:
    found = study(parsed("model,cc,python,MMLU,MBPP,score\na,1,2,3,4,9\nb,2,4,6,7,5\nc,2,3,3,4,7\n"))
    assert found.overall.scores == (("score",),)
    assert [part.scores for part in found.parts] == [(("MMLU",),), (("MBPP",),)]


def test_without_area_scores_each_corpus_alone() -> None:
    found = study(published())
    assert not found.own_scores
    assert [(part.name, part.bpc, part.scores) for part in found.parts] == [
        (name, (name,), (("average_score",),)) for name in CORPORA
    ]
    assert study(published(), bpc=["python"]).parts == ()


def test_areas_of_ones_own() -> None:
    found = study(published(), areas=[Area("code", ("Python",), ("average_score",))])
    assert found.overall.bpc == ("python",)
    assert found.parts == ()  # it is all there is
    table = parsed("model,x,y,p,q,r\na,1,2,3,4,9\nb,2,4,6,7,5\nc,2,3,3,4,7\n")
    found = study(table, areas=[Area("one", ("x",), ("p", "q")), Area("two", ("y",), ("r",))])
    assert found.overall.bpc == ("x", "y")
    assert found.overall.scores == (("p", "q"), ("r",))
    assert found.overall.points[0].score == (3.5 + 9) / 2
    assert study(table, bpc=["y"], score=["p", "r"]).overall.points[0].score == 6


def test_an_area_without_a_line_is_noted() -> None:
    text = "model,cc,python,MMLU,MBPP\na,1,2,3,0\nb,2,4,6,0\nc,2,3,3,0\n"
    found = study(parsed(text))
    assert [part.name for part in found.parts] == ["knowledge & commonsense"]
    assert found.notes == (
        "no line for coding: all scores of 3 models are equal, so they define no line; add other models",
    )


def test_a_model_in_two_rows_is_noted() -> None:
    assert study(parsed("model,cc,score\na,1,3\nb,2,2\na,3,1\n")).notes == (
        "a in several rows: each row counts as a model",
    )


def test_scales_that_differ_are_noted() -> None:
    assert "one scale" in study(parsed("model,cc,MMLU,MBPP\na,1,0.3,40\nb,2,0.2,20\nc,3,0.2,30\n")).notes[0]
    assert not study(parsed("model,cc,MMLU,MBPP\na,1,30,40\nb,2,20,20\nc,3,20,30\n")).notes


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("common_crawl,python,arxiv_math,average_bpc", CORPORA),
        ("CC,GitHub,arXiv", ("CC", "GitHub", "arXiv")),
        ("cc_2026-01,cc_bpb,cc_chars,cc_seconds", ("cc_2026-01",)),
        ("bpc_cc,bpc_wiki,bpc_low,bpc_high,python_score", ("bpc_cc", "bpc_wiki")),
        ("average_bpc", ("average_bpc",)),
        ("bpc,params", ("bpc",)),
        ("cc,bpc", ("cc",)),
        ("bits_per_character,size", ("bits_per_character",)),
        ("python_new_bpc,MATH", ("python_new_bpc",)),
    ],
)
def test_columns_known_to_hold_bpc(columns: str, expected: Sequence[str]) -> None:
    count = len(columns.split(","))
    assert bpc_columns(parsed(f"model,{columns}\na{',1' * count}\n")) == tuple(expected)


def test_math_is_no_corpus_and_arxiv_math_no_benchmark() -> None:
    table = parsed("model,arxiv_math,MATH,MMLU-Math\na,1,2,3\n")
    assert known_areas(table, bpc_columns(table)) == [
        Area("mathematical reasoning", ("arxiv_math",), ("MATH", "MMLU-Math"))
    ]


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("Qwen2-72B", "Qwen"),
        ("hf:Qwen/Qwen2.5-7B", "Qwen"),
        ("gpt2", "gpt"),
        ("01-ai/Yi-6b/", "Yi"),
        ("7b", "7b"),
        ("C:\\models\\phi-3", "phi"),
        ("日本語-7b", "日本語"),
    ],
)
def test_families_from_names(model: str, family: str) -> None:
    assert family_of(model) == family


def test_families_differ_in_more_than_case() -> None:
    table = parsed("model,family\nDeepSeek-1,\ndeepseek-2,\nx,DEEPSEEK\n")
    assert table.families() == ["DeepSeek"] * 3


# Tables.


def test_csv_of_all_sorts() -> None:
    plain = parsed(SMALL)
    assert parse_table(b"\xef\xbb\xbf" + SMALL.encode(), "t.csv") == plain
    for other in (
        SMALL.replace("\n", "\r\n"),
        SMALL.replace(",", ";"),
        SMALL.replace(",", "\t"),
        SMALL.replace(",", ", "),
        SMALL.replace("\n", ",\n"),
        SMALL.rstrip("\n"),
    ):
        table = parsed(other)
        assert (table.models(), table.numbers("cc")) == (plain.models(), plain.numbers("cc"))
    assert parsed("\n\n,,,\n" + SMALL.replace("\n", "\n\n,,\n")).numbers("score") == plain.numbers("score")


def test_empty_and_absent_cells_are_missing() -> None:
    assert parsed('model,cc,score\na,,1\nb,0.5\nc, " " ,2\n').numbers("cc") == [None, 0.5, None]


def test_quoted_names() -> None:
    table = parsed('model,cc\n"a, the\nfirst",1\nb,x\n')
    assert table.models() == ["a, the first", "b"]
    with pytest.raises(KolmoError, match=r"^t\.csv:4: cc is 'x', not a number"):
        table.numbers("cc")


RECORDS = [{"model": "a", "cc": 0.5, "score": 1}, {"model": "b", "cc": None}, {"model": "c", "cc": "0.7", "score": 2}]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps({"kolmo": 1, "models": RECORDS}),
        json.dumps({"rows": RECORDS}, indent=2),
        "\n".join(map(json.dumps, RECORDS)) + "\n",
    ],
)
def test_json_of_all_sorts(content: str) -> None:
    table = parsed(content)
    assert table.models() == ["a", "b", "c"]
    assert table.numbers("cc") == [0.5, None, 0.7]
    assert table.numbers("score") == [1, None, 2]


def test_json_within_json() -> None:
    rows = [{"model": "a", "bpc": {"cc": 0.5, "python": 1}, "scores": {"MMLU": 3, "why": []}, "more": [1]}]
    table = parsed(json.dumps(rows))
    assert table.columns == ("model", "bpc_cc", "bpc_python", "scores_MMLU")
    assert bpc_columns(table) == ("bpc_cc", "bpc_python")
    assert known_areas(table, bpc_columns(table))[0] == Area("knowledge & commonsense", ("bpc_cc",), ("scores_MMLU",))


@pytest.mark.parametrize("cell", ["x", "nan", "inf", "1e999", "1_0", "45 %", "True", "0,5"])
def test_cells_that_are_no_numbers(cell: str) -> None:
    table = parsed(f'model,cc\na,0.5\nb,"{cell}"\n')
    with pytest.raises(KolmoError, match=r"^t\.csv:3: cc is .*, not a number; correct it, or leave the cell empty$"):
        table.numbers("cc")


@pytest.mark.parametrize("cell", ["NaN", "true", '"x"', "1e999", "1" + "0" * 400])
def test_json_that_is_no_number(cell: str) -> None:
    table = parsed(f'[{{"model": "a", "cc": {cell}}}]')
    with pytest.raises(KolmoError, match=r"^t\.csv, model 1: cc is"):
        table.numbers("cc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"\n \n", "has no rows"),
        (b"model,cc\n", "has no rows"),
        (b"model,cc\na,1,2\n", "t.csv:2: has 3 cells for 2 columns"),
        (b"\nmodel,cc,cc\na,1,2\n", "t.csv:2: has two columns 'cc'"),
        (b"model\n" + b"x" * 200_000, "t.csv:2: is not CSV"),
        (b"model\n\xff\n", "is not UTF-8 at byte 6"),
        ("model,cc\n".encode("utf-16"), "is not UTF-8 at byte 0"),
        (b"a" * (MAX_TABLE_BYTES + 1), "is larger than 16 MiB"),
        (b"[1, 2]", "is not a table"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"model": "a"}', "t.csv:1: is not JSON"),
        (b'{"a": 1}\n{"b": 2\n', "t.csv:2: is not JSON"),
        (b'[{"model": ' + b"1" * 5000 + b"}]", "is not JSON"),
        (b"[]", "has no rows"),
    ],
)
def test_no_table(content: bytes, message: str) -> None:
    with pytest.raises(KolmoError, match=message) as caught:
        parse_table(content, "t.csv")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("t.csv")


@given(
    st.one_of(st.binary(max_size=200), st.text("model,cc;\t\n\r\"'[]{}:0.5e-\ufeff\x00", max_size=80).map(str.encode))
)
@settings(deadline=None)
def test_hostile_tables(content: bytes) -> None:
    message = ""
    try:
        study(parse_table(content, "t.csv"))
    except KolmoError as error:
        message = str(error)
    assert message == "" or message.startswith("t.csv")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name2,cc,score\na,1,2\n", "t.csv: has no column 'model'"),
        ("model,cc,score\n,1,2\nb,2,3\nc,3,4\n", "t.csv:2: has no model name"),
        ("model,x,score\na,1,2\n", "no column that is known to have BPC; name one in the argument bpc"),
        ("model,cc,x\na,1,2\n", "no column that is known to have scores; name one in the argument score"),
        ("model,cc,score\na,1,2\nb,1,3\n", "t.csv: a line needs 3 models"),
        ("model,cc,score\na,1,2\nb,1,3\nc,1,4\n", "t.csv: all BPC of 3 models are equal"),
    ],
)
def test_no_study(text: str, message: str) -> None:
    with pytest.raises(KolmoError, match=message):
        study(parsed(text))


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(KolmoError, match=r"published\.csv: has no column 'wiki'; it has model, family, common_crawl"):
        study(published(), bpc=["wiki"])
    assert published().column("Common Crawl") == "common_crawl"
    with pytest.raises(KolmoError, match="no column 'A-b'"):
        parsed("model,a_b,a b\nx,1,2\n").column("A-b")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(SMALL)
    table = read_table(tmp_path / "t.csv")
    assert table.name == str(tmp_path / "t.csv")
    assert table.models() == ["a1", "a2", "b1", "b2", "c1"]
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.csv")


# The command.


def test_command_on_the_published_table() -> None:
    done = run("--predict", "Mine=0.45", "--predict", "0.6", "--confidence", "0.9")
    assert status_of(done) == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "family", "BPC", "score", "predicted", "residual"]
    assert lines[1].split() == ["Mixtral-8x7B", "Mistral", "0.4090", "0.4987", "0.4983", "+0.0004"]
    assert "score = 1.445 - 2.316 * BPC   rho = -0.9401   e = 0.0283   18 models" in lines
    assert "BPC: mean of common_crawl, python, arxiv_math" in lines
    (together,) = [line.split() for line in lines if line.startswith("together")]
    assert together == ["together", "18", "0.0391"]
    assert lines[-1].split()[:2] == ["0.6", "0.6000"]
    assert lines[-1].endswith("beyond the models fitted")
    assert lines[-2].startswith("Mine ")
    assert not lines[-2].endswith("fitted")
    assert any(line.startswith("Llama-3-8b ") for line in lines)
    assert "90 % interval" in done.stdout
    assert done.stderr == ""


def test_command_as_json() -> None:
    record = record_of("--predict", "Mine=0.45")
    assert record["rho"] == pytest.approx(-0.9401, abs=5e-5)
    assert record["models"] == 18
    fitted, predictions, families = record["fitted"], record["predictions"], record["families"]
    assert isinstance(fitted, list)
    assert isinstance(predictions, list)
    assert isinstance(families, list)
    assert len(fitted) == 18
    assert [prediction["model"] for prediction in predictions][-1] == "Mine"
    assert len(predictions) == 11
    assert all(p["low"] < p["score"] < p["high"] for p in predictions)
    assert {family["family"] for family in families} == {"Llama", "Mistral", "Qwen", "DeepSeek", "Yi", "Falcon"}
    assert record["areas"] == []
    assert record["corpora"]


def test_command_on_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(SMALL)
    table = run("t.csv")
    assert (status_of(table), table.stderr) == (0, "")
    piped = run("-", data=SMALL.encode())
    assert piped.stdout == table.stdout
    assert "family left out" in table.stdout
    assert "predicted     " not in table.stdout
    quiet = run("-q", "t.csv")
    assert (status_of(quiet), quiet.stdout, quiet.stderr) == (0, "", "")


def test_percentages_have_two_digits(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,cc,score\na,0.5,61.25\nb,0.6,50\nc,0.7,41\n")
    lines = run(str(tmp_path / "t.csv")).stdout.splitlines()
    assert lines[1].split() == ["a", "a", "0.5000", "61.25", "60.88", "+0.38"]


def test_command_with_columns() -> None:
    record = record_of("--bpc", "python", "--bpc", "Arxiv-Math", "--score", "average_score")
    assert record["bpc"] == ["python", "arxiv_math"]
    record = record_of("--area", "code=python:average_score", "--area", "math=arxiv_math+python:average_score")
    areas = record["areas"]
    assert isinstance(areas, list)
    assert [area["name"] for area in areas] == ["code", "math"]
    assert record["bpc"] == ["python", "arxiv_math"]


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(SMALL.replace("a1", "\x1b[31mred").replace("cc", "cc\x07 bpc"), "utf-8")
    done = run(str(tmp_path / "t.csv"))
    assert status_of(done) == 0
    assert "\\x1b[31mred" in done.stdout
    assert "\x1b" not in done.output
    assert "\x07" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "x"], "is not a BPC"),
        (["--predict", "a=nan"], "is not a BPC"),
        (["--predict", "=0.5"], "is not a BPC"),
        (["--confidence", "1"], "confidence"),
        (["--area", "a=b"], "is not an area"),
        (["--area", "a:b"], "is not an area"),
        (["--area", "a=b:c+"], "is not an area"),
        (["--figure", "a.pdf"], "neither .png nor .svg"),
        (["a.csv", "b.csv"], "unexpected"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(group, ["fit", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "none.csv: No such file"),
        (["."], ".: is a folder"),
        (["--bpc", "wiki"], "published.csv: has no column 'wiki'"),
        (["--predict", "1e300"], "1e+300 is not a BPC"),
        (["bad.csv"], "bad.csv:3: cc is 'x', not a number"),
        (["two.csv"], "two.csv: a line needs 3 models"),
    ],
)
def test_failures_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("model,cc,score\na,1,2\nb,x,3\nc,2,4\n")
    Path("two.csv").write_text("model,cc,score\na,1,2\nb,2,3\n")
    done = run(*arguments)
    assert status_of(done) == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"kolmo: {message}")
    assert done.stderr.count("\n") == 1
    failed = run("--json", *arguments)
    assert set(json.loads(failed.stdout)) == {"file", "error"}


def test_notes_go_to_standard_error() -> None:
    table = b"model,cc,python,score\na,0.1,0.2,1\nb,0.3,,2\nc,0.4,0.6,3\nd,0.5,0.6,1\n"
    assert "1 of 4 models lack a BPC" in run("-", data=table).stderr
    assert run("-q", "-", data=table).stderr == ""


# The picture.


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    from kolmo.fit.figure import draw

    with pytest.raises(MissingExtraError, match=r"pip install 'kolmo-codelength\[report\]'"):
        draw(study(published()), io.BytesIO(), format="png")
    done = run("--figure", str(tmp_path / "f.png"))
    assert status_of(done) == 1
    assert "kolmo-codelength[report]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    png, svg = tmp_path / "f.png", tmp_path / "f.SVG"
    done = run("--figure", str(png), "--predict", "Mine=0.42")
    assert (status_of(done), done.stderr) == (0, "")
    assert png.read_bytes().startswith(b"\x89PNG")
    first = png.read_bytes()
    again = run("--figure", str(png))
    assert status_of(again) == 1
    assert "already exists; use -f" in again.stderr
    assert status_of(run("-q", "-f", "--figure", str(png), "--predict", "Mine=0.42")) == 0
    assert png.read_bytes() == first
    assert status_of(run("--figure", str(svg))) == 0
    assert b"<svg" in svg.read_bytes()[:1000]
    missing = run("--figure", str(tmp_path / "no" / "f.png"))
    assert status_of(missing) == 1
    assert "No such file" in missing.stderr


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        SMALL.replace("0.6\n", "-0.6\n").replace("A", "_A").replace("a1", "$\\frac{1}$").replace("b1", "日本語\x01"),
        "model,cc,score\n" + "".join(f"m{n},{n / 100},{n % 7}\n" for n in range(80)),
        "model,a_bpc,b_bpc,c_bpc,d_bpc,score\nx,1,2,3,4,1\ny,2,3,2,6,2\nz,3,1,2,6,3\nw,2,2,2,2,\n",
    ],
    ids=["small", "names", "many", "two rows"],
)
def test_figures_of_odd_tables(text: str) -> None:
    pytest.importorskip("matplotlib")
    from kolmo.fit.figure import draw

    out = io.BytesIO()
    draw(study(parsed(text)), out, format="png", title="$x")
    assert out.getvalue().startswith(b"\x89PNG")


def overlap(boxes: Sequence[Box]) -> float:
    return sum(box.shared(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_names_keep_apart() -> None:
    draw = random.Random(5)
    frame = Box(0, 0, 1000, 600)
    labels = [Label(draw.uniform(100, 900), draw.uniform(50, 550), 80, 12) for _ in range(40)]
    marks = [Box(label.x - 4, label.y - 4, label.x + 4, label.y + 4) for label in labels]
    placed = place(labels, marks, frame)
    assert overlap(placed) == 0
    assert sum(box.shared(mark) for box in placed for mark in marks) < 100
    assert all(box.shared(frame) == pytest.approx(box.area()) for box in placed)


def test_a_name_alone_stands_beside_its_point() -> None:
    (box,) = place([Label(50, 50, 20, 10)], [], Box(0, 0, 100, 100))
    assert box.left > 50
    assert (box.bottom + box.top) / 2 == pytest.approx(50)
    (box,) = place([Label(99, 50, 20, 10)], [], Box(0, 0, 100, 100))
    assert box.right < 99
