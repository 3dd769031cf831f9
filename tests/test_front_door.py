"""What a newcomer meets: README, docs, their commands and links, the site, manual pages, completion, and CI's files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import kolmo
from kolmo.cli import group
from kolmo.native.dispatch import SLOW

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MAX_WORDS = 700  # of the README
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def blocks(page: Path, language: str) -> list[str]:
    """Code of a language on a page."""
    return [code for name, code in BLOCK.findall(page.read_text("utf-8")) if name == language]


def script(name: str, folder: Path = ROOT / "scripts") -> ModuleType:
    """A program as a module."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# README


def test_readme_is_short() -> None:
    words = README.read_text("utf-8").split()
    assert len(words) <= MAX_WORDS, f"README.md has {len(words)} words; move something to docs/"


def test_figures_of_the_readme_stand_in_the_benchmarks() -> None:
    measured = "".join(page.read_text("utf-8") for page in sorted((ROOT / "docs" / "benchmarks").glob("*.md")))
    known = set(FIGURE.findall(measured))
    table = [line for line in README.read_text("utf-8").splitlines() if line.startswith("|")]
    figures = [figure for line in table for figure in FIGURE.findall(line) if len(figure) > 4]
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in known] == []


def test_figures_of_the_published_page_stand_on_the_pages_it_names() -> None:
    page = ROOT / "docs" / "published.md"
    rows = [line.strip("|").split("|") for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    checked = 0
    for what, _, ours, verdict, where in rows:
        pages = [page.parent / link for link in re.findall(r"\]\(([^)#]+)", where)]
        known = set(FIGURE.findall("".join(one.read_text("utf-8") for one in pages)))
        assert set(FIGURE.findall(ours)) <= known, what
        assert what == " what " or verdict.split()[0].strip(":,") in ("reproduced", "contradicted", "not", "holds"), (
            what
        )
        checked += len(FIGURE.findall(ours))
    assert checked > 60


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
def test_commands_of_the_readme_run(tmp_path: Path) -> None:
    """Compress and explain, and eval and report where the tables can be written, as the README has them."""
    (tmp_path / "notes.txt").write_text("the same procedure as every year\n" * 30, "utf-8")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("every year the same procedure\n" * 30, "utf-8")
    (commands,) = [code for code in blocks(README, "sh") if "kolmo explain" in code]
    tables = importlib.util.find_spec("pyarrow") is not None
    done = []
    for line in commands.splitlines():
        words = [word for word in shlex.split(line, comments=True) if not word.startswith("hf:")]
        if words[1] in ("compress", "explain") or (words[1] in ("eval", "report") and tables):
            subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, check=True, capture_output=True, timeout=300)
            done.append(words[1])
    assert done[:2] == ["compress", "explain"]
    assert kolmo.decompress((tmp_path / "notes.txt.kmo").read_bytes()) == (tmp_path / "notes.txt").read_bytes()
    assert (tmp_path / "notes.txt.html").exists()
    assert (tmp_path / "report.html").exists() == tables


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
@pytest.mark.parametrize("page", [README, ROOT / "docs" / "python.md"], ids=lambda page: page.name)
def test_python_of_the_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    codes = [code for code in blocks(page, "python") if "path/to/model" not in code]
    assert codes
    for code in codes:
        exec(compile(code, str(page), "exec"), {})


PIPELINES = blocks(ROOT / "docs" / "pipelines.md", "python")


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
@pytest.mark.parametrize("code", PIPELINES, ids=range(len(PIPELINES)))
def test_pipelines(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pandas", "pyarrow", "fsspec", "dask"):
        if f"import {package}" in code:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "today.txt").write_bytes(b"first\n")
    tarfile = importlib.import_module("tarfile")
    with kolmo.open("notes.tar.kmo", "wb", level=1) as file, tarfile.open(fileobj=file, mode="w") as archive:
        archive.add("notes")
    with kolmo.open("log.txt.kmo", "wb", level=1) as file:
        file.write(b"started\n")
    exec(compile(code, "docs/pipelines.md", "exec"), {"__name__": "__main__"})


def test_pandas_writes_plain_text_by_name_alone(tmp_path: Path) -> None:
    """As docs/pipelines.md warns; if pandas ever learns of kolmo, the page must change."""
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1]}).to_csv(tmp_path / "x.csv.kmo", index=False)
    assert (tmp_path / "x.csv.kmo").read_bytes().split() == [b"a", b"1"]


# Commands and links of all pages


def commands() -> list[tuple[str, list[str]]]:
    """Every line of a shell block that begins with `kolmo VERB`."""
    found = []
    for page in PAGES:
        for code in blocks(page, "sh"):
            for line in code.replace("\\\n", " ").splitlines():
                try:
                    words = shlex.split(line.split("|")[0].split(" < ")[0].split(" > ")[0], comments=True)
                except ValueError:  # a quotation that goes on in the next line
                    continue
                if words[:1] == ["kolmo"] and words[1:2] and words[1] in group.list_commands(click.Context(group)):
                    found.append((page.relative_to(ROOT).as_posix(), words))
    return found


def test_options_on_all_pages_exist() -> None:
    found = commands()
    assert len(found) > 60
    for page, words in found:
        command = group.get_command(click.Context(group), words[1])
        assert command is not None
        if isinstance(command, click.Group) and len(words) > 2:
            command = command.get_command(click.Context(command), words[2])
            assert command is not None, f"{page}: {shlex.join(words)}"
        known = {
            name for one in command.params if isinstance(one, click.Option) for name in (*one.opts, *one.secondary_opts)
        }
        for word in words[2:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known | {"--help"}, f"{page}: {shlex.join(words)}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
            if "://" not in target and not target.startswith(("mailto:", "a|")):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


# Pages that are made


def test_the_cli_page_is_current() -> None:
    # In a process of its own: predictors that other tests register would appear in the help.
    command = [sys.executable, str(ROOT / "scripts" / "cli_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_manual_pages(tmp_path: Path) -> None:
    pytest.importorskip("click_man", reason="manual pages need click-man: pip install 'kolmo-codelength[docs]'")
    pages = script("man_pages").write(tmp_path / "man")
    assert [page.name for page in pages][:2] == ["kolmo.1", "kolmo-compress.1"]
    assert {f"kolmo-{name}.1" for name in group.list_commands(click.Context(group))} < {page.name for page in pages}
    assert {"kolmo-bench-files.1", "kolmo-collect-cc.1"} < {page.name for page in pages}
    text = (tmp_path / "man" / "kolmo-compress.1").read_text("utf-8")
    assert text.startswith(".TH")
    assert "Compress FILES, each to FILE.kmo" in text
    assert "\\-\\-predictor" in text
    text = (tmp_path / "man" / "kolmo-collect.1").read_text("utf-8")
    assert text.startswith('.TH "KOLMO-COLLECT" "1"')
    assert "See \\fBkolmo-collect-cc(1)\\fP" in text


def test_the_site_builds(tmp_path: Path) -> None:
    for package in ("material", "mkdocstrings"):
        pytest.importorskip(package, reason="the site needs mkdocs-material: pip install 'kolmo-codelength[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "api.html").read_text("utf-8")
    for name in kolmo.__all__:
        assert f"kolmo.{name}" in reference
    assert "bytes of content in a block" in reference  # an argument, from a docstring


@pytest.mark.parametrize(
    ("typed", "expected"), [("com", "plain,compress"), ("READ", "file,READ"), ("eval --mod", "plain,--mode")]
)
def test_completion(typed: str, expected: str) -> None:
    words = ["kolmo", *typed.split()]
    variables = {"_KOLMO_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "from kolmo.cli import group; group.main(prog_name='kolmo')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [expected]


# Files for the outside


def loaded(path: str) -> Any:
    """A YAML file."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_workflows() -> None:
    ci, release = loaded(".github/workflows/ci.yml"), loaded(".github/workflows/release.yml")
    assert any(step.get("run") == ".ci/run" for step in ci["jobs"]["run"]["steps"])
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert {"source", "wheels"} == set(release["jobs"]["publish"]["needs"])
    machines = release["jobs"]["wheels"]["strategy"]["matrix"]["machine"]
    for system in ("ubuntu-latest", "ubuntu-24.04-arm", "macos", "windows"):
        assert any(machine.startswith(system) for machine in machines)
    for one in (*ci["jobs"].values(), *release["jobs"].values()):
        assert one["timeout-minutes"]
        assert all(("uses" in step) != ("run" in step) for step in one["steps"])


def test_citation() -> None:
    citation = loaded("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{citation["version"]}"' in project


def test_what_a_release_still_needs(tmp_path: Path) -> None:
    found = script("release").findings
    (tmp_path / "docs").mkdir()
    files = {
        "pyproject.toml": 'name = "x"\nversion = "1.2.0"\n[project.urls]\nRepository = "https://here/x"\n',
        "CITATION.cff": "version: 1.2.0\ndate-released: 2026-12-01\n",
        "CHANGELOG.md": "## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n",
        "README.md": "1.2.0 reads files of 1.1.0.\n",
        "docs/compress.md": "As of 1.2.0.\n",
    }

    def wrong(tag: str = "v1.2.0", **changed: str) -> list[str]:
        for name, text in files.items():
            (tmp_path / name).write_text(changed.get(Path(name).stem, text), "utf-8")
        return list(found(tmp_path, tag))

    assert wrong() == []
    assert wrong("v1.2.1") == ["the tag is v1.2.1, and pyproject.toml has the version 1.2.0"]
    assert wrong(CITATION="version: 1.1.0\n") == [
        "CITATION.cff has another version than 1.2.0",
        "CITATION.cff has no line date-released: YYYY-MM-DD",
    ]
    assert wrong(pyproject='version = "1.2.0"\n', README="git clone ADDRESS kolmo\n") == [
        'pyproject.toml has no [project.urls] with Repository = "https://..."',
        "README.md says git clone ADDRESS: write the repository's",
    ]
    assert wrong(CHANGELOG="## [1.2.0] - soon\n") == ["CHANGELOG.md has no heading ## [1.2.0] - YYYY-MM-DD"]
    assert len(wrong(CHANGELOG="## [1.2.0] - not yet released\n")) == 2
    assert wrong(compress="\n1.2.0 is not released yet.\n") == ["docs/compress.md:2 says that 1.2.0 is not released"]
    assert wrong(README="Supported is, until 1.2.0 is released, this.") == [
        "README.md:1 says that 1.2.0 is not released"
    ]


def test_description_for_a_package_index(tmp_path: Path) -> None:
    """Links and pictures of the README lead to the tag, once the repository's address is known."""
    pytest.importorskip("setuptools")
    description = script("setup", ROOT).description
    text = README.read_text("utf-8")
    (tmp_path / "README.md").write_text(text + "\n[out](https://there/a) [down](#install)\n", "utf-8")
    (tmp_path / "pyproject.toml").write_text('version = "1.2.0"\n', "utf-8")
    assert description(tmp_path).startswith(text)
    with open(tmp_path / "pyproject.toml", "a", encoding="utf-8") as file:
        file.write('[project.urls]\nRepository = "https://here/x/"\n')
    made = description(tmp_path)
    assert "models differ by](https://here/x/raw/v1.2.0/docs/images/leaderboard.png)" in made
    assert "[lossless](https://here/x/blob/v1.2.0/docs/benchmarks/lossless.md)" in made
    targets = re.findall(r"\]\(([^)]*)\)", made)
    assert len(targets) == len(re.findall(r"\]\(", text)) + 2
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
