"""The list of benchmarks is complete and its commands exist; it runs entries in order, goes on, skips and tells why."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import run_all
from catalogue import ENTRIES
from catalogue.entry import Entry
from harness import sections
from kolmo.cli import group

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "benchmarks").glob("*.md") if path.name != "README.md")
SHARED = {"examples": "examples/common.py", "scripts/hostile": "scripts/hostile/kills.py"}  # options of all of a folder
OK, BAD = f"{shlex.quote(sys.executable)} -c 'print(1)'", f"{shlex.quote(sys.executable)} -c 'raise SystemExit(3)'"


def tables(page: Path) -> Iterator[list[str]]:
    """For each table of a page the headings above it, the nearest first; the page's title only if there is no other."""
    above: list[str] = []
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in text.splitlines():
        if match := re.match(r"(#+) (.*)", line):
            above = [*above[: len(match[1]) - 1], match[2]]
        elif re.match(r"\|[ :|-]*---", line):
            yield above[:0:-1] or above


def test_every_table_of_the_benchmarks_has_an_entry() -> None:
    assert PAGES
    for page in PAGES:
        listed = [name for entry in ENTRIES if entry.page == f"benchmarks/{page.name}" for name in entry.sections]
        for headings in tables(page):
            assert any(one.startswith(name) for one in headings for name in listed), f"{page.name}: {headings}"
    assert {f"benchmarks/{page.name}" for page in PAGES} <= {entry.page for entry in ENTRIES}


def test_every_section_of_the_list_is_on_its_page() -> None:
    for entry in ENTRIES:
        text = (ROOT / "docs" / entry.page).read_text("utf-8")
        for name in entry.sections:
            assert re.search(rf"^#+ {re.escape(name)}", text, re.MULTILINE), f"{entry.name}: {name}"
        assert bool(entry.commands) != entry.note.startswith("no command: "), entry.name
        assert bool(entry.minutes) == bool(entry.commands), entry.name
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_every_script_is_in_the_list() -> None:
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "benchmarks").glob("*.py")}
    used = {word for entry in ENTRIES for command in entry.commands for word in shlex.split(command)}
    assert scripts - {"benchmarks/run_all.py"} <= used


def test_options_of_the_list_exist() -> None:
    """Those of scripts are looked for in their text, since each has packages that may be missing here."""
    for entry in ENTRIES:
        for command in entry.commands:
            _, words = run_all.argv(command, Path("data"), Path("out"))
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            if words[1] == "-m":
                found = group.get_command(click.Context(group), words[3])
                if isinstance(found, click.Group):
                    found = found.get_command(click.Context(found), words[4])
                assert found is not None, command
                known = {name for one in found.params for name in one.opts}
                assert set(options) <= known, command
            else:
                text = (ROOT / words[1]).read_text("utf-8")
                if shared := SHARED.get(words[1].rpartition("/")[0]):
                    text += (ROOT / shared).read_text("utf-8")
                for option in options:
                    assert f'"{option}"' in text, f"{words[1]} has no {option}"


# The runner


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """Entries in place of the catalogue's; `python` is taken as it is."""
    entries: list[Entry] = []
    monkeypatch.setattr(run_all, "ENTRIES", entries)
    monkeypatch.setattr(run_all, "PROGRAMS", {sys.executable: [sys.executable]})
    monkeypatch.delenv("KOLMO_DATA", raising=False)
    return entries


def run(out: Path, *options: str) -> int:
    return run_all.main(["--out", str(out), *options])


def test_runs_and_goes_on(listed: list[Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed += [
        Entry("first", "x.md", (), (OK, OK), 1),
        Entry("bad", "x.md", (), (BAD, OK), 1),
        Entry("last", "x.md", (), (OK,), 1),
    ]
    assert run(tmp_path) == 1
    assert re.findall(r"^(\w+): (\w+)", capsys.readouterr().out, re.MULTILINE) == [
        *(("first", "runs"), ("first", "done"), ("bad", "runs"), ("bad", "FAILED"), ("last", "runs"), ("last", "done"))
    ]
    assert (tmp_path / "first" / "log.txt").read_text("utf-8") == f"$ {OK}\n1\n" * 2
    assert (tmp_path / "bad" / "log.txt").read_text("utf-8") == f"$ {BAD}\nexit status 3\n"
    listed[1] = dataclasses.replace(listed[1], commands=(OK,))
    assert run(tmp_path) == 0
    assert "first: done before" in (told := capsys.readouterr().out)
    assert "bad: done," in told
    listed[0] = dataclasses.replace(listed[0], commands=(OK,))  # another command than that of the earlier run
    assert run(tmp_path, "--only", "f*") == 0
    assert "first: done," in (told := capsys.readouterr().out)
    assert "last" not in told
    assert run(tmp_path, "--only", "last", "--again") == 0
    assert "last: done," in capsys.readouterr().out
    (tmp_path / "last" / "done.json").write_text(json.dumps([1]), "utf-8")  # a record that means nothing
    assert run(tmp_path, "--only", "last") == 0
    assert "last: done," in capsys.readouterr().out


def test_skips_with_a_reason(
    listed: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed += [
        Entry("data", "x.md", (), (OK,), 1, data=("a/b",)),
        Entry("package", "x.md", (), (OK,), 1, modules=("no_such_package",)),
        Entry("peer", "x.md", (), (OK,), 1, peers=("no-such-program",)),
        Entry("hand", "x.md", (), note="no command: by hand"),
    ]
    assert run(tmp_path / "out") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "data: skipped: KOLMO_DATA is not set: needs a/b there"
    assert told[1] == "package: skipped: the package no_such_package is not installed"
    assert told[2] == "peer: runs, without no-such-program"
    assert told[-1] == "hand: skipped: no command: by hand"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["peer"]
    monkeypatch.setenv("KOLMO_DATA", str(tmp_path))
    assert run(tmp_path / "out", "--only", "data") == 0
    assert capsys.readouterr().out == f"data: skipped: {tmp_path / 'a/b'} is missing\n"
    assert run(tmp_path, "--list") == 0
    assert f"cannot run here: {tmp_path / 'a/b'} is missing" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="there is no such benchmark"):
        run(tmp_path, "--only", "nothing")


def test_places_and_variables_of_commands() -> None:
    command = "A_B=1 python scripts/x.py --a={data}/b {out}/c 'd e'"
    variables, words = run_all.argv(command, Path("/data x"), Path("/out"))
    assert variables == {"A_B": "1"}
    assert words == [sys.executable, "scripts/x.py", "--a=/data x/b", "/out/c", "d e"]


def test_section_of_a_new_page(tmp_path: Path) -> None:
    """Scripts write into pages; in the folder of an entry there is none yet."""
    page = tmp_path / "weights.md"
    sections.replace(page, "One", "1")
    sections.replace(page, "Two", "2")
    sections.replace(page, "One", "3")
    assert page.read_text("utf-8") == "## One\n\n3\n\n## Two\n\n2\n"
