"""Files with hostile names in them, through every verb that shows names: short printable lines, exact valid JSON."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kolmo
from kolmo.cli import main
from kolmo.cli.console import Console
from kolmo.container.structures import Header, PredictorRecord
from kolmo.container.wire import Reader
from kolmo.foreign import MAX_LINE
from kolmo.predictors.language_models.records import Record

HOSTILE = {
    "escapes": "\x1b]0;title\x07\x1b[2J\r\n" * 1000,
    "long": "x" * 30_000,
    "bidi": "\u202e\u2066" * 2000,
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; gives its status, and the lines on standard output and error, which it checks."""

    def call(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        out, err = (text.split("\n")[:-1] for text in capsys.readouterr())
        for line in [*err, *([] if "--json" in arguments else out)]:
            assert line.isprintable()
            assert len(line) <= MAX_LINE + len("kolmo: ")
        return int(str(ended.value.code)), out, err

    return call


def archive(path: Path, predictor: PredictorRecord | None = None, name: str | None = None) -> Path:
    """A frame whose header says something else."""
    data = kolmo.compress(b"hello world " * 50, level=1)
    header = Header.read(Reader(io.BytesIO(data), "it"))
    made = Header(predictor or header.predictor, name).to_bytes()
    path.write_bytes(made + data[len(header.to_bytes()) :])
    return path


def language_model(text: str) -> PredictorRecord:
    record = Record.of(text, text, (b"w" * 8, b"c" * 8, b"t" * 8), "float32", 64, 64)
    return PredictorRecord("hf", 1, b"f" * 8, record.to_bytes())


@hostile
@pytest.mark.parametrize("verb", ["list", "test", "decompress"])
def test_archives(run: Run, tmp_path: Path, verb: str, text: str) -> None:
    extra = ["-c"] if verb == "decompress" else []
    files = {
        "hf": archive(tmp_path / "hf.kmo", language_model(text[:10_000])),
        "cm": archive(tmp_path / "cm.kmo", PredictorRecord("cm", 1, b"f" * 8, b"\xff" * 60_000)),
        "neural": archive(tmp_path / "neural.kmo", PredictorRecord("neural", 1, b"f" * 8, b"\xff" * 60_000)),
    }
    for file in files.values():
        status, _, err = run(verb, *extra, file)
        if verb != "list":
            assert status == 1
            (line,) = err
            assert line.startswith(f"kolmo: {file}: ")
    if verb == "list":
        named = archive(tmp_path / "named.kmo", None, text[:10_000])
        for file in [*files.values(), named]:
            assert run("list", "-v", file)[0] in (0, 1)
        _, (line, *_), _ = run("list", "--json", named)
        assert json.loads(line)["frames"][0]["name"] == text[:10_000]  # exact


def safetensors(path: Path, header: dict[str, Any]) -> Path:
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(64))
    return path


@hostile
@pytest.mark.parametrize(
    "verb", [["info"], ["info", "-v"], ["expand", "-f", "-o"], ["shrink", "-f", "--bits", "2", "-o"]]
)
def test_tensors(run: Run, tmp_path: Path, verb: list[str], text: str) -> None:
    usual = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}
    headers: list[dict[str, Any]] = [
        {text: {**usual, "data_offsets": [0, 16]}},
        {"a": {**usual, "dtype": text}},
        {"a": {**usual, "shape": text}},
        {"a": {**usual, "data_offsets": text}},
        {"a": {**usual, text: text}},
        {"__metadata__": {text: text, "kolmo": text, "format": text}, "a": usual},
        {text: usual},
    ]
    for number, header in enumerate(headers):
        file = safetensors(tmp_path / f"{number}.safetensors", header)
        output = [str(tmp_path / "out.safetensors")] if verb[-1] == "-o" else []
        status, _, err = run(*verb, *output, file)
        assert status in (0, 1)
        assert len(err) == status or (status == 0 and all("nothing was coded with loss" in line for line in err))


@hostile
def test_tables(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(f'model,bpc,score\n"{text}",0.5,1\n"{text}b",x,2\n', "utf-8", newline="")
    status, _, err = run("fit", tmp_path / "table.csv")
    assert status == 1
    assert len(err) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
def test_names_of_files(run: Run, tmp_path: Path) -> None:
    for name in (b"a\x1b[31m\n.txt", b"bad\xff\xfe.txt", "bidi\u202e.txt".encode(), b"=1+1.txt"):
        path = os.fsdecode(bytes(tmp_path) + b"/" + name)
        Path(path).write_text("Some text. " * 5)
        status, _, err = run("compress", "-1", "-k", "-v", path)
        assert (status, len(err)) == (0, 1)
        assert run("list", path + ".kmo")[0] == 0
        _, (line, *_), _ = run("list", "--json", path + ".kmo")
        assert json.loads(line)["file"] == path + ".kmo"
        assert run("test", "-v", path + ".kmo", path + ".gone")[0] == 1


def test_usage_errors_quote_safely(run: Run) -> None:
    for arguments in (["\x1b[31mx\ny"], ["compress", "--no\x1b[31m"], ["compress", "-m", "\x1b[31m" * 1000, "x"]):
        assert run(*arguments)[0] == 2


def test_json_has_no_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    Console().record({"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf}, "d": "\x1b\ud800"})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"a": [None, 1.5, [None]], "b": {"c": None}, "d": "\x1b\ud800"}
