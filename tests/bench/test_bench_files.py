"""`kolmo bench files`: figures of tools on files, what does not come back, and the command."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kolmo.bench import files as benching
from kolmo.bench import media, peers, processes
from kolmo.bench.figure import ToolPoint, front, pareto
from kolmo.bench.files import Cell, bench_files
from kolmo.bench.peers import PACKED, PLAIN, RESTORED, Tool
from kolmo.bench.processes import Cost, ToolError
from kolmo.cli import group
from kolmo.errors import KolmoError
from kolmo.native.dispatch import SLOW

COPY = "import shutil, sys; shutil.copy(*sys.argv[1:])"
TEXT = b"".join(b"%d bottles of beer on the wall, take one down\n" % n for n in range(300))


def program(folder: Path, key: str, encode: str) -> Tool:
    """A tool that is a line of Python, and copies back."""
    ways: list[str] = []
    for line, source, target in ((encode, PLAIN, PACKED), (COPY, PACKED, RESTORED)):
        script = folder / f"{key}-{len(ways)}.py"
        script.write_text(line)
        ways.append(f"{script} {source} {target}")
    return Tool(key, key, (sys.executable,), ways[0], ways[1])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "beer.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Peers that are always there."""
    folder = tmp_path_factory.mktemp("tools")
    packs, unpacks = f"gzip encode {PLAIN} {PACKED}", f"gzip decode {PACKED} {RESTORED}"
    always = {
        "gzip": Tool("gzip", "gzip -9", ("zlib",), packs, unpacks, module=True),
        "copy": program(folder, "copy", COPY),
        "liar": program(folder, "liar", "import sys; open(sys.argv[2], 'w')"),
        "broken": program(folder, "broken", "import sys; sys.exit('no table fits')"),
    }
    monkeypatch.setattr(peers, "PEERS", always)


@pytest.mark.usefixtures("quick")
def test_every_size_is_of_what_came_back(text: Path) -> None:
    report = bench_files([text], levels=[1], peers=["gzip", "copy", "liar", "broken"], repeat=2)
    cells = {key: cell for (key, _), cell in report.cells.items()}
    assert cells["copy"].sizes == [len(TEXT)] * 2
    assert cells["gzip"].size < len(TEXT) / 4
    assert cells["kolmo-1"].size < cells["gzip"].size
    assert not cells["liar"].done
    assert not cells["broken"].done
    assert report.failures == [
        "liar on beer.txt: WRONG: what came back differs",
        "broken on beer.txt: exit status 1: no table fits",
    ]
    assert cells["copy"].encode_seconds > 0
    assert report.total(report.tools[2]) is None


@pytest.mark.usefixtures("quick")
def test_tables(text: Path, tmp_path: Path) -> None:
    other = tmp_path / "one.bin"
    other.write_bytes(b"x" * 5000)
    report = bench_files([text, other], levels=[], peers=["gzip", "copy", "liar"])
    total = report.total(report.tools[1])
    assert total is not None
    assert total.size == total.raw == len(TEXT) + 5000
    lines = report.text().split("\n")
    assert lines[0] == f"2 files: {len(TEXT) + 5000:,} bytes"
    assert lines[2].startswith("gzip -9")  # the smallest first
    assert max(map(len, lines)) <= 80
    found = list(csv.DictReader(io.StringIO(report.csv())))
    assert len(found) == 6
    assert {row["compared"] for row in found if row["tool"] == "copy"} == {"yes"}
    assert [row["error"] for row in found if row["tool"] == "liar"] == ["WRONG: what came back differs"] * 2
    assert "| beer.txt |" in report.markdown()
    page = report.html()
    assert page.count("<circle") == 2
    assert "://" not in page
    assert json.loads(json.dumps(report.record()))["files"] == {"beer.txt": len(TEXT), "one.bin": 5000}


def test_wrong_inputs(tmp_path: Path, text: Path) -> None:
    with pytest.raises(KolmoError, match="compressor 'nothing' is not known; choose from gzip"):
        bench_files([text], peers=["nothing"])
    (tmp_path / "empty").touch()
    with pytest.raises(KolmoError, match="empty: is empty; leave it out"):
        bench_files([tmp_path / "empty"])
    with pytest.raises(KolmoError, match="missing: No such file"):
        bench_files([tmp_path / "missing"])
    with pytest.raises(KolmoError, match="there are no files"):
        bench_files([])


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    monkeypatch.setitem(peers.PEERS, "ghost", Tool("ghost", "ghost", ("no-such-program",), PLAIN, PACKED))
    with pytest.raises(KolmoError, match="'ghost' is not installed; leave it out, or install no-such-program"):
        bench_files([text], peers=["ghost"])
    with pytest.raises(ToolError, match="no-such-program: No such file"):
        processes.run(["no-such-program"], text.parent)


def test_files_of_one_name(tmp_path: Path, text: Path) -> None:
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / "beer.txt"
    other.write_bytes(TEXT)
    assert list(benching._named([text, other, text])) == ["beer.txt", str(other)]


def test_pictures_are_compared_by_pixels(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    np = pytest.importorskip("numpy")
    draw = np.random.default_rng(1)
    for name, head, shape in (("a.pgm", b"P5 24 16 255\n", (16, 24)), ("b.ppm", b"P6 24 16 255\n", (16, 24, 3))):
        (tmp_path / name).write_bytes(head + draw.integers(0, 40, shape, dtype=np.uint8).tobytes())
        report = bench_files([tmp_path / name], levels=[], peers=["png", "webp"])
        assert report.failures == []
        assert all(cell.size < report.files[name] for cell in report.cells.values())
        content = media.pixels(tmp_path / name).tobytes()
        assert media.same_content(tmp_path / name, content)
        assert not media.same_content(tmp_path / name, content[:-1] + bytes([content[-1] ^ 1]))
    assert not media.is_picture(Path(__file__))


def test_the_front_is_of_those_that_none_beats() -> None:
    points = [ToolPoint("a", 0.5, 1.0, False), ToolPoint("b", 0.6, 2.0, False), ToolPoint("c", 0.3, 9.0, True)]
    assert [point.label for point in front(points)] == ["a", "c"]
    picture = pareto(points, "sizes")
    assert picture.count("<circle") == 3
    assert pareto([], "sizes") == ""
    assert pareto(points[:1], "one").count("<circle") == 1


def test_medians_count() -> None:
    costs = [Cost(cpu, cpu, 10) for cpu in (3.0, 1.0, 2.0)]
    cell = Cell(100, [50, 52, 51], costs, costs)
    assert (cell.size, cell.encode_seconds, cell.peak) == (51, 2.0, 10)


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
@pytest.mark.usefixtures("quick")
def test_the_command(text: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    asked = ["bench", "files", str(text), "--peers", "gzip", "--levels", "1", "--html", str(page), "--json"]
    done = CliRunner().invoke(group, asked, standalone_mode=False)
    assert done.return_value == 0
    assert {row["tool"] for row in json.loads(done.stdout)["results"]} == {"gzip -9", "kolmo -1"}
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    again = CliRunner().invoke(group, asked, standalone_mode=False)
    assert again.return_value == 1
    assert "already exists; overwrite it with -f" in again.stderr
    wrong = CliRunner().invoke(group, ["bench", "files", str(text), "--levels", "12"])
    assert wrong.exit_code == 2
    assert "'12' is not a level" in wrong.stderr
    bad = CliRunner().invoke(
        group, ["bench", "files", str(text), "--peers", "liar", "--levels", "1"], standalone_mode=False
    )
    assert bad.return_value == 1
    assert "liar on beer.txt: WRONG" in bad.stderr


@pytest.mark.usefixtures("quick")
def test_an_empty_file_of_a_folder_is_skipped(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    shutil.copy(text, folder / "b.txt")
    (folder / "a.txt").write_bytes(b"")
    asked = ["bench", "files", "--peers", "gzip", "--levels", "1", "--json"]
    done = CliRunner().invoke(group, [*asked, "-r", str(folder)], standalone_mode=False)
    assert (done.return_value, done.stderr) == (0, f"kolmo: {folder / 'a.txt'}: is empty, skipped\n")
    assert {row["file"] for row in json.loads(done.stdout)["results"]} == {"b.txt"}
    named = CliRunner().invoke(group, [*asked, "-r", str(folder), str(folder / "a.txt")], standalone_mode=False)
    assert named.return_value == 1
    assert "a.txt: is empty; leave it out" in named.stderr
